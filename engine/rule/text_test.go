package rule

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// foldRune names the class of runes that unicode.SimpleFold goes round.
func TestFoldRune(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if f := foldRune(r); f > r || foldRune(unicode.SimpleFold(r)) != f {
			t.Fatalf("%q folds to %q", r, f)
		}
	}
}

// Folded comparison, prefix, suffix and search equal those of package strings
// on folded texts; equality is strings.EqualFold.
func FuzzFold(f *testing.F) {
	for _, a := range drawnTexts() {
		for _, b := range drawnTexts() {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		b = strings.ToValidUTF8(b, "")
		b, text, whole := fold(b), []byte(a), fold(a)
		if got, want := foldCompare(text, b), cmp.Compare(whole, b); got != want {
			t.Errorf("compare %q %q: %d, want %d", a, b, got, want)
		}
		if got, want := foldCompare(text, b) == 0, strings.EqualFold(a, b); got != want {
			t.Errorf("equal %q %q: %v", a, b, got)
		}
		if _, got := foldPrefix(text, b); got != strings.HasPrefix(whole, b) {
			t.Errorf("prefix %q %q: %v", a, b, got)
		}
		if got := foldSuffix(text, b); got != strings.HasSuffix(whole, b) {
			t.Errorf("suffix %q %q: %v", a, b, got)
		}
		if got := foldContains(text, b); got != strings.Contains(whole, b) {
			t.Errorf("contains %q %q: %v", a, b, got)
		}
		if got := contains(text, b); got != bytes.Contains(text, []byte(b)) {
			t.Errorf("plain contains %q %q: %v", a, b, got)
		}
	})
}

// The order of Semantic Versioning 2.0.0, item 11, with its own examples.
func TestVersionOrder(t *testing.T) {
	rising := []string{
		"0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
		"1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2", "1.9.9", "1.10", "2", "999999999999999999.0.0",
	}
	for i, a := range rising {
		for j, b := range rising {
			va, okA := parseVersion([]byte(a))
			vb, okB := parseVersion([]byte(b))
			if !okA || !okB || va.compare(vb) != cmp.Compare(i, j) {
				t.Errorf("%s and %s: %d", a, b, va.compare(vb))
			}
		}
	}
	for _, bad := range []string{
		"", "v1", "1.", ".1", "1.2.3.4", "01.2", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-a..b",
		"1.2.3-é", "-1", "1000000000000000000", "1 ", "1.2.3+a+b",
	} {
		if _, ok := parseVersion([]byte(bad)); ok {
			t.Errorf("%q is a version", bad)
		}
	}
}

// Equal is an equivalence and order is total for whatever parses.
func FuzzVersion(f *testing.F) {
	for _, v := range versions() {
		f.Add(v, "1.2.3-a", "1.2.3")
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var all []version
		for _, s := range []string{a, b, c} {
			if v, ok := parseVersion([]byte(s)); ok {
				all = append(all, v)
			}
		}
		slices.SortFunc(all, version.compare)
		for i := range all {
			for j := range all {
				if got := all[i].compare(all[j]); got != -all[j].compare(all[i]) || i < j &&
					got > 0 {
					t.Errorf("%+v and %+v: %d", all[i], all[j], got)
				}
			}
		}
	})
}
