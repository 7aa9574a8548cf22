package storage

import (
	"bytes"
	"errors"
	"testing"

	"tact/storage/lossy"
)

// nodeRecords are the decoders of the small records that belong to nobody, each with
// bytes that it takes. A decoder gives what it read back as bytes, nil: it cannot.
func nodeRecords() []struct {
	name   string
	sample []byte
	decode func(b []byte) ([]byte, error)
} {
	type of = struct {
		name   string
		sample []byte
		decode func(b []byte) ([]byte, error)
	}
	m := manifest{id: [16]byte{1}, groups: 16, created: 7}
	erasure := (&Erasure{Hash: [16]byte{2}, Slot: 9, Group: 1, Person: 3}).appendKey(nil)
	return []of{
		{"manifest", m.append(nil), func(b []byte) ([]byte, error) {
			m, err := parseManifest(b)
			return m.append(nil), err
		}},
		{"epoch", appendEpoch(nil, 4, 5), func(b []byte) ([]byte, error) {
			_, err := parseEpoch(b)
			return nil, err
		}},
		{"commit", appendCommit(nil, 77), func(b []byte) ([]byte, error) {
			n, err := parseCommit(b)
			return appendCommit(nil, n), err
		}},
		{"hold", appendHold(nil, []uint64{3, 1 << 40}), func(b []byte) ([]byte, error) {
			kept, err := parseHold(b, 2)
			return appendHold(nil, kept), err
		}},
		{
			"group", sealRecord(append([]byte{groupFormat}, make([]byte, 30)...)),
			func(b []byte) ([]byte, error) {
				_, _, err := parseGroupRecord(b)
				return nil, err
			},
		},
		{"document", sealRecord([]byte{docFormat, 'a', 'b'}), func(b []byte) ([]byte, error) {
			content, err := parseDoc("a", b)
			_, value := CopyDocRow("a", content)
			return value, err
		}},
		{
			"person key", append([]byte{personKeyPlain}, make([]byte, 16)...),
			func(b []byte) ([]byte, error) {
				_, err := parsePersonKey(b)
				if errors.Is(err, errPersonGone) {
					err = nil
				}
				return b, err
			},
		},
		{
			"purge", appendNameRefs(erasure, []NameRef{{DictSource, 3}}),
			func(b []byte) ([]byte, error) {
				in := effectReader{b: b}
				_ = readNameRefs(&in)
				return nil, in.end()
			},
		},
		{"name", []byte("app"), func(b []byte) ([]byte, error) {
			var d dictionary
			return nil, d.load(DictSource, 1, string(b))
		}},
	}
}

// Records of the node that were not written as they are are an error of a class, and
// those that are read were written so; with a right checksum and with any.
func FuzzNodeRecords(f *testing.F) {
	all := nodeRecords()
	for i, r := range all {
		if _, err := r.decode(r.sample); err != nil && r.name != "purge" {
			f.Fatalf("%s: %v", r.name, err)
		}
		f.Add(uint8(i), r.sample)
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		r := all[int(which)%len(all)]
		for _, b := range [][]byte{b, sealRecord(bytes.Clone(b[:max(0, len(b)-4)]))} {
			again, err := r.decode(b)
			switch {
			case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat):
				t.Fatalf("%s: %v", r.name, err)
			case err == nil && again != nil && b[0] != 0 && !bytes.Equal(again, b):
				t.Fatalf("%s: %x reads back as %x", r.name, b, again)
			}
		}
	})
}

// A frame in a backup is refused, or says in what group, epoch and order it is and who
// was created in it, all of whom have a key.
func FuzzInspectFrame(f *testing.F) {
	o := simOptions()
	sim := newSimulation(3, o)
	s, _, err := sim.open(lossy.New(), 0)
	if err != nil {
		f.Fatal(err)
	}
	if err := sim.groups[0].write(s, s.groups[0], 20, nil); err != nil {
		f.Fatal(err)
	}
	c, err := s.BeginCopy()
	if err != nil {
		f.Fatal(err)
	}
	err = c.Frames(0, 0, func(value []byte) error {
		f.Add(bytes.Clone(value))
		return nil
	})
	if err := errors.Join(err, c.Close(), s.Close()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sealRecord(bytes.Clone(b[:max(0, len(b)-4)]))} {
			info, err := InspectFrame(b, func(key []byte) {
				if CopyKindOf(key) != CopyPersonKey {
					t.Fatalf("%x is no key of a person", key)
				}
			})
			switch {
			case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat):
				t.Fatal(err)
			case err == nil && info.Hash != frameHash(b):
				t.Fatalf("%+v", info)
			}
		}
	})
}
