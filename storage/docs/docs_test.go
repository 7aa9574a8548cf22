package docs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
	"tact/storage/lossy"
)

func open(t testing.TB, fs vfs.FS) *storage.Store {
	t.Helper()
	s, err := storage.Open("store", storage.Options{Groups: 1, FS: fs, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func files(text string) []File {
	return []File{{"offers.yaml", []byte(text)}, {"caps.yaml", []byte("kind: cap\n")}}
}

func TestPublishAndRollBack(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	d := Open(s)
	if _, err := d.Latest(); !errors.Is(err, ErrNotFound) {
		t.Fatalf("latest of nothing: %v", err)
	}
	publish := func(rev Revision, want uint32) {
		t.Helper()
		if n, err := d.Publish(rev); err != nil || n != want {
			t.Fatalf("publish: %d, %v; want %d", n, err, want)
		}
	}
	publish(Revision{Time: 1, Author: "ann", Label: "first", Files: files("a")}, 1)
	publish(Revision{Time: 2, Author: "bob", Note: "更好", Files: files("b")}, 2)
	publish(Revision{Time: 3, Author: "ann", Note: "back", Content: 1}, 3)
	publish(Revision{Time: 4, Author: "ann", Content: 3}, 4) // of a rollback: its content
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs)
	defer s.Close()
	d = Open(s)
	last, err := d.Latest()
	if err != nil {
		t.Fatal(err)
	}
	if last.Number != 4 || last.Content != 1 || string(last.Files[1].Content) != "a" {
		t.Fatalf("latest is %+v", last)
	}
	second, err := d.Get(2)
	if err != nil || second.Note != "更好" || second.Time != 2 ||
		second.Files[0].Name != "caps.yaml" {
		t.Fatalf("revision 2 is %+v, %v", second, err)
	}
	list, err := d.List(3)
	if err != nil || len(list) != 3 || list[0].Number != 4 || list[2].Number != 2 {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if list[2].Digest != list[1].Previous {
		t.Error("revisions are not chained")
	}
	if _, err := d.Get(9); !errors.Is(err, ErrNotFound) {
		t.Errorf("get 9: %v", err)
	}
}

func TestPublishRefuses(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer s.Close()
	d := Open(s)
	f := func(rev Revision, want error) {
		t.Helper()
		if _, err := d.Publish(rev); !errors.Is(err, want) {
			t.Errorf("publish: %v, want %v", err, want)
		}
		if n, err := d.current(); n != 0 || err != nil {
			t.Errorf("current is %d, %v", n, err)
		}
	}
	f(Revision{Files: []File{{"a", nil}, {"a", nil}}}, ErrInvalid)
	f(Revision{Files: []File{{"", nil}}}, ErrInvalid)
	f(Revision{Content: 1}, ErrNotFound)
	f(Revision{Number: 5, Files: files("x")}, ErrConflict)
	f(Revision{Note: string(make([]byte, maxText+1))}, ErrInvalid)
	f(Revision{Files: []File{{"big", make([]byte, MaxBytes)}}}, ErrInvalid)
}

// Flipping any bit of a head or of the files is an error, never other content.
func TestCorruptBytesAreAnError(t *testing.T) {
	rev := Revision{Number: 7, Time: 9, Author: "ann", Label: "l", Note: "n", Content: 7}
	head := appendHead(nil, &rev, Digest{1})
	if _, err := parseHead(head); err != nil {
		t.Fatal(err)
	}
	for bit := range len(head) * 8 {
		bad := slices.Clone(head)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := parseHead(bad); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	head[0] = headFormat + 1
	sum := sha256.Sum256(head[:len(head)-len(Digest{})])
	copy(head[len(head)-len(Digest{}):], sum[:])
	if _, err := parseHead(head); !errors.Is(err, storage.ErrNewerFormat) {
		t.Errorf("a head of a format to come: %v", err)
	}
	s := open(t, vfs.NewMem())
	defer s.Close()
	d := Open(s)
	if _, err := d.Publish(Revision{Files: files("a")}); err != nil {
		t.Fatal(err)
	}
	body, err := encodeFiles(files("b"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutDoc(storage.Doc{Key: contentKey(1), Value: body}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Latest(); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("other files: %v", err)
	}
	if err := s.PutDoc(storage.Doc{Key: keyCurrent, Value: []byte{1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Latest(); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("short pointer: %v", err)
	}
}

// After a power cut every revision that was answered is there, and the current
// pointer names a whole one.
func TestPublishSurvivesPowerLoss(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := lossy.New()
		s := open(t, fs)
		d := Open(s)
		var acked uint32
		for i := range 1 + rng.IntN(6) {
			n, err := d.Publish(Revision{Note: fmt.Sprint(i), Files: files(fmt.Sprint(i))})
			if err != nil {
				t.Fatal(err)
			}
			acked = n
		}
		percent := []int{0, 10, 50, 90}[seed%4]
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again := open(t, crashed)
		last, err := Open(again).Latest()
		if err != nil || last.Number != acked {
			t.Errorf("seed %d: latest is %d, %v; want %d", seed, last.Number, err, acked)
		}
		if _, err := Open(again).List(100); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzDecodeFiles(f *testing.F) {
	body, err := encodeFiles(files("a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 'a', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeFiles(b)
		if err != nil {
			return
		}
		if len(list) > 0 && list[0].Name == "" {
			return // encodeFiles refuses what no publish wrote
		}
		again, err := encodeFiles(list)
		if err == nil && !slices.Equal(again, b) {
			t.Fatalf("%x becomes %x", b, again)
		}
	})
}

func FuzzParseHead(f *testing.F) {
	rev := Revision{Number: 7, Author: "ann", Content: 7}
	f.Add(appendHead(nil, &rev, Digest{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHead(b)
		if err == nil && !slices.Equal(appendHead(nil, &h.Revision, h.content), b) {
			t.Fatalf("%x is not canonical", b)
		}
	})
}

// Documents of a later copy, whatever they hold, are an error of a class or give a
// chain of revisions behind the one that is there, without a gap.
func FuzzPublished(f *testing.F) {
	f.Add(keyHead+"8", []byte{headFormat}, keyContent+"8", []byte("x"))
	f.Add(keyCurrent, []byte{8, 0, 0, 0}, keyHead+"99999999999", []byte{})
	f.Fuzz(func(t *testing.T, a string, x []byte, b string, y []byte) {
		p := Published{After: 7, Until: 1 << 60}
		for key, value := range map[string][]byte{a: x, b: y} {
			if err := p.Add(key, value); err != nil && !errors.Is(err, ErrCorrupt) &&
				!errors.Is(err, storage.ErrNewerFormat) {
				t.Fatal(err)
			}
		}
		docs := p.Docs()
		if n := len(docs); n > 0 && docs[n-1].Key != keyCurrent {
			t.Fatalf("%+v", docs)
		}
		if n, ok := CurrentOf(a, x); ok && len(x) != 4 {
			t.Fatalf("%q is revision %d", x, n)
		}
	})
}
