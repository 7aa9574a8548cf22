package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// streamOf writes a stream of records to memory.
func streamOf(f *testing.F, id streamID, rows []row) []byte {
	f.Helper()
	fs := vfs.NewMem()
	to, err := createSink(fs, "stream", nil)
	if err != nil {
		f.Fatal(err)
	}
	pack, err := newPacker()
	if err != nil {
		f.Fatal(err)
	}
	w, err := newWriter(to, id, pack)
	for i := 0; err == nil && i < len(rows); i++ {
		if err = w.add(rows[i].key, rows[i].value); err == nil && i%3 == 2 {
			err = w.flush()
		}
	}
	if err := errors.Join(err, w.end(), to.close()); err != nil {
		f.Fatal(err)
	}
	in, err := fs.Open("stream")
	if err != nil {
		f.Fatal(err)
	}
	b := make([]byte, to.bytes)
	if _, err := in.ReadAt(b, 0); err != nil {
		f.Fatal(err)
	}
	return b
}

// resealed gives every block of a stream, and its end, the checksum of what it is.
func resealed(b []byte) []byte {
	b = bytes.Clone(b)
	le := binary.LittleEndian
	if len(b) >= streamHeader {
		le.PutUint32(b[streamHeader-4:], checkSum(b[:streamHeader-4]))
	}
	for at := streamHeader; at+blockHeader <= len(b); {
		head := b[at : at+blockHeader]
		stored := int(le.Uint32(head[8:]))
		if le.Uint32(head) == endMagic || stored < 0 || stored > len(b)-at-blockHeader {
			le.PutUint32(head[16:], checkSum(head[:16]))
			break
		}
		whole := append(bytes.Clone(head[:16]), b[at+blockHeader:at+blockHeader+stored]...)
		le.PutUint32(head[16:], checkSum(whole))
		at += blockHeader + stored
	}
	return b
}

// A stream that was not written as it is is an error of a class, never a panic, and
// takes memory only for what its bytes hold; also with right checksums. What is read
// is so many records as its end says.
func FuzzStream(f *testing.F) {
	id := streamID{kindRows, 7, ID{3}}
	var rows []row
	for i := range 8 {
		rows = append(rows, keyOf(somebody(i)), claimOf(somebody(i)))
	}
	f.Add(streamOf(f, id, nil))
	f.Add(streamOf(f, id, rows))
	f.Add(streamOf(f, id, append(rows, row{[]byte{1}, bytes.Repeat([]byte("abc"), 3000)})))
	u, err := newUnpacker()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resealed(b)} {
			rows := uint64(0)
			err := u.read(bytes.NewReader(b), int64(len(b)), id, func(_, _ []byte) error {
				rows++
				return nil
			})
			if err != nil && !errors.Is(err, storage.ErrCorrupt) &&
				!errors.Is(err, storage.ErrNewerFormat) {
				t.Fatal(err)
			}
			if err == nil && rows != binary.LittleEndian.Uint64(b[len(b)-12:]) {
				t.Fatalf("%d records", rows)
			}
		}
	})
}

// A manifest and people.json that were not written as they are are an error of a class.
// What is read is written back byte for byte.
func FuzzSealed(f *testing.F) {
	fs := vfs.NewMem()
	const dir = "000001-20261122T000000Z-full"
	m := Manifest{
		Format: 1, ID: ID{1}.String(), Name: dir, Kind: Full, Groups: 1,
		Store: hexStore(testStore()), Position: []position{{3, "ff"}},
		Files: []fileEntry{{File: "rows-0001.tbk", Kind: "rows", Number: 1, Bytes: 99}},
	}
	x := peopleIndex{
		Format: peopleFormat, Backup: ID{1}.String(), Store: m.Store, Groups: 4, Parts: 2,
		Files: []peoplePart{{Part: 1, File: "people-0001-1.tbk", Bytes: 8}},
	}
	for _, v := range []sealed{&m, &x} {
		b, err := encodeSealed(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range []string{manifestFile, peopleFile} {
			overwrite(t, fs, dir+"/"+name, bytes.Clone(b)) // files in memory may spoil what is written
			var v sealed
			var err error
			if name == manifestFile {
				v, err = readManifest(fs, dir)
			} else {
				v, _, err = readPeople(fs, dir)
			}
			if err != nil {
				if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNewerFormat) {
					t.Fatal(err)
				}
				continue
			}
			if again, err := encodeSealed(v); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%q reads back as %q, %v", b, again, err)
			}
		}
	})
}

// Whose a record of a people file is, is an error of a class for bytes of any length,
// and somebody of a part that there is for those that are read.
func FuzzOwner(f *testing.F) {
	key, claim := keyOf(somebody(3)), claimOf(somebody(3))
	f.Add(key.key, key.value)
	f.Add(claim.key, claim.value)
	f.Add(key.key[:2], key.value)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		owner, err := ownerOf(key, value, 16)
		switch {
		case err != nil && !errors.Is(err, storage.ErrCorrupt):
			t.Fatal(err)
		case err == nil && owner.part(8) >= 8:
			t.Fatalf("%x is of part %d", key, owner.part(8))
		}
	})
}
