package rule

import (
	"bytes"
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// foldRune returns the least rune that equals r when case is ignored.
func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}
	least := r
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		least = min(least, other)
	}
	return least
}

// fold returns the text that stands for all that equal s when case is ignored.
func fold(s string) string { return strings.Map(foldRune, s) }

// foldCompare orders the fold of text against folded, as cmp.Compare would
// order the folds by rune. It does not allocate.
func foldCompare(text []byte, folded string) int {
	n, whole := foldPrefix(text, folded)
	switch {
	case whole && n == len(text):
		return 0
	case whole:
		return 1
	}
	rest := folded[foldedLength(text[:n]):]
	if n == len(text) {
		return -1
	}
	r, _ := utf8.DecodeRune(text[n:])
	f, _ := utf8.DecodeRuneInString(rest)
	return cmp.Compare(foldRune(r), f)
}

// foldPrefix walks text and folded together while they are equal. It returns
// how many bytes of text it walked and whether folded came to its end.
func foldPrefix(text []byte, folded string) (n int, whole bool) {
	for len(folded) > 0 {
		if n == len(text) {
			return n, false
		}
		r, size := utf8.DecodeRune(text[n:])
		f, width := utf8.DecodeRuneInString(folded)
		if foldRune(r) != f {
			return n, false
		}
		n, folded = n+size, folded[width:]
	}
	return n, true
}

// foldedLength is the length of the fold of text.
func foldedLength(text []byte) int {
	n := 0
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		n += utf8.RuneLen(foldRune(r))
		text = text[size:]
	}
	return n
}

// foldContains says whether folded stands somewhere in the fold of text.
func foldContains(text []byte, folded string) bool {
	for {
		if _, whole := foldPrefix(text, folded); whole {
			return true
		}
		if len(text) == 0 {
			return false
		}
		_, size := utf8.DecodeRune(text)
		text = text[size:]
	}
}

// foldSuffix says whether the fold of text ends with folded.
func foldSuffix(text []byte, folded string) bool {
	for len(folded) > 0 {
		r, size := utf8.DecodeLastRune(text)
		f, width := utf8.DecodeLastRuneInString(folded)
		if size == 0 || foldRune(r) != f {
			return false
		}
		text, folded = text[:len(text)-size], folded[:len(folded)-width]
	}
	return true
}

// version is a parsed version: one to three numbers, missing ones 0, and the
// pre-release part, whose absence comes after every presence.
type version struct {
	numbers [3]uint64
	pre     []byte
}

// parseVersion reads 1, 1.10, 1.10.2, 1.10.2-beta.1+build; what follows a plus
// does not count. pre is a part of text.
//
// Source: Semantic Versioning 2.0.0, item 11, but for missing numbers.
// Cost: O(len(text)), no allocation.
func parseVersion(text []byte) (v version, ok bool) {
	if i := bytes.IndexByte(text, '+'); i >= 0 {
		if !identifiers(text[i+1:], false) {
			return version{}, false
		}
		text = text[:i]
	}
	if i := bytes.IndexByte(text, '-'); i >= 0 {
		v.pre, text = text[i+1:], text[:i]
		if !identifiers(v.pre, true) {
			return version{}, false
		}
	}
	for i := range v.numbers {
		part, rest, more := bytes.Cut(text, []byte{'.'})
		n, ok := versionNumber(part)
		if !ok {
			return version{}, false
		}
		v.numbers[i] = n
		if !more {
			return v, true
		}
		text = rest
	}
	return version{}, false
}

// versionNumber reads digits without a leading zero, at most 18 of them.
func versionNumber(part []byte) (n uint64, ok bool) {
	if len(part) == 0 || len(part) > 18 || part[0] == '0' && len(part) > 1 {
		return 0, false
	}
	for _, c := range part {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// identifiers says whether text is words of letters, digits and hyphens joined
// by dots; strict refuses numbers with a leading zero.
func identifiers(text []byte, strict bool) bool {
	for more := true; more; {
		var part []byte
		part, text, more = bytes.Cut(text, []byte{'.'})
		if len(part) == 0 {
			return false
		}
		for _, c := range part {
			letter := c|0x20 >= 'a' && c|0x20 <= 'z'
			if !letter && c != '-' && (c < '0' || c > '9') {
				return false
			}
		}
		if strict && len(part) > 1 && part[0] == '0' && numeric(part) {
			return false
		}
	}
	return true
}

func numeric(part []byte) bool {
	for _, c := range part {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// compare orders versions by precedence.
func (v version) compare(o version) int {
	for i := range v.numbers {
		if c := cmp.Compare(v.numbers[i], o.numbers[i]); c != 0 {
			return c
		}
	}
	if len(v.pre) == 0 || len(o.pre) == 0 {
		return cmp.Compare(len(o.pre), len(v.pre))
	}
	for a, b := v.pre, o.pre; ; {
		x, restA, moreA := bytes.Cut(a, []byte{'.'})
		y, restB, moreB := bytes.Cut(b, []byte{'.'})
		if c := compareIdentifier(x, y); c != 0 {
			return c
		}
		switch {
		case !moreA && !moreB:
			return 0
		case !moreA:
			return -1
		case !moreB:
			return 1
		}
		a, b = restA, restB
	}
}

// compareIdentifier orders numbers by value and before words, words by byte.
func compareIdentifier(x, y []byte) int {
	switch nx, ny := numeric(x), numeric(y); {
	case nx && ny:
		if c := cmp.Compare(len(x), len(y)); c != 0 {
			return c
		}
		return bytes.Compare(x, y)
	case nx:
		return -1
	case ny:
		return 1
	}
	return bytes.Compare(x, y)
}
