package storage

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A checkpoint tells what the store told when it was made, whatever becomes of the
// store; none is made of a store in use, or over something.
func TestCheckpoint(t *testing.T) {
	originals, err := makeOriginals(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range originals {
		fs, ring, err := o.files.lay()
		if err != nil {
			t.Fatal(err)
		}
		options := mutantOptions(ring)
		options.FS = fs
		if err := Checkpoint("store", "before", options); err != nil {
			t.Fatal(err)
		}
		if err := Checkpoint("store", "before", options); !errors.Is(err, os.ErrExist) {
			t.Errorf("a second one of that name: %v", err)
		}
		s := mustOpen(t, fs, options)
		if err := Checkpoint("store", "other", options); !errors.Is(err, ErrLocked) {
			t.Errorf("of a store in use: %v", err)
		}
		for i := range 300 { // the store goes on, and its tables go
			if err := s.PutDoc(Doc{"doc/0", make([]byte, 4000+i)}); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, s)
		if err := fs.RemoveAll("store"); err != nil {
			t.Fatal(err)
		}
		if err := fs.Rename("before", "store"); err != nil {
			t.Fatal(err)
		}
		_, ring, err = o.files.lay()
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := tellFolder(fs, ring); err != nil || got != o.tells {
			t.Errorf("%s: %v\n%s\nwant\n%s", o.kind, err, got, o.tells)
		}
	}
	err = Checkpoint("nothing", "here", Options{FS: vfs.NewMem()})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}

// A file of a version to come is refused as such, and not as damaged.
func TestNewerFormats(t *testing.T) {
	originals, err := makeOriginals(3)
	if err != nil {
		t.Fatal(err)
	}
	f := func(path string, at int, size int) {
		t.Helper()
		d := originals[0].files.clone()
		b := d[path]
		b[at] = 99
		if size == 0 {
			size = len(b) - 4
		}
		sum := checkSum(b[:size])
		for i := range 4 {
			b[size+i] = byte(sum >> (8 * i))
		}
		if path == "store/sidecar-a" {
			d["store/sidecar-b"] = b
		}
		fs, ring, err := d.lay()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := tellFolder(fs, ring); !errors.Is(err, ErrNewerFormat) {
			t.Errorf("%s: %v", path, err)
		}
		if changed := d.changed(fs); changed != "" {
			t.Error(changed)
		}
	}
	epoch := appendEpoch(nil, 4, 5)
	epoch[0] = manifestFormat + 1
	binary.LittleEndian.PutUint32(epoch[13:], checkSum(epoch[:13]))
	if _, err := parseEpoch(epoch); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("the record of epochs: %v", err)
	}
	if _, err := parseDoc("d", sealRecord([]byte{docFormat + 1, 7})); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a document: %v", err)
	}
	f("store/sidecar-a", 8, 0)
	f("store/witness", 8, 0)
	f("store/journal-00000001", 8, 40)
	marker := ""
	d := originals[0].files.clone()
	for path := range d {
		if class(path) == "marker" && path[len(path)-4:] == ".024" {
			marker = path
		}
	}
	delete(d, marker)
	d[marker[:len(marker)-3]+"099"] = nil
	fs, ring, err := d.lay()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tellFolder(fs, ring); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("the format of Pebble: %v", err)
	}
}

// A flipped bit in the byte of a format is damage, not a newer format: mutants 623
// and 6514 of the first long run.
func TestFlippedFormatIsDamage(t *testing.T) {
	originals, err := makeOriginals(4)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"store/sidecar-a", "store/sidecar-b", "store/witness"} {
		d := originals[1].files.clone()
		d[path][8] ^= 0x80
		if got := judgeMutant(path, d, originals[1].tells); !strings.HasPrefix(got, "harmless") {
			t.Error(got)
		}
	}
}
