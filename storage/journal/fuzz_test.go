package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// written is a file and a ring of a journal in epoch 1 that holds three records.
func written(f *testing.F) (o Options, st State, file, ring []byte) {
	f.Helper()
	disk, shm := &simDisk{files: map[string][]byte{}, page: 512}, &simShm{}
	b := bench{disk: disk, shm: shm, used: answered{}, o: Options{
		Disk: disk, Shm: shm, StoreID: [16]byte{7}, Groups: 2, Slots: 16,
		Mono: func() int64 { return 0 }, page: 512, batch: 64,
	}}
	j, rec, err := Recover(b.o, b.st)
	if err != nil {
		f.Fatal(err)
	}
	b.j, b.st = j, j.First(1, rec, 1000)
	if err := j.Start(b.st, 1000); err != nil {
		f.Fatal(err)
	}
	for id := range uint64(3) {
		b.put(id+1, Lease{}, id)
	}
	b.sync()
	return b.o, b.st, bytes.Clone(disk.files[fileName(1)]), bytes.Clone(shm.mem)
}

// A file, and a ring, whose bytes are any is no journal, one of a newer version or of
// another epoch, or is cut; or it is read, and what is read stands in it. With a right
// checksum of the header and with any. A file that is written on has the header that
// would be written.
func FuzzFile(f *testing.F) {
	o, st, file, ring := written(f)
	f.Add(file, false)
	f.Add(file[:o.page], false)
	f.Add(file[:len(file)-SlotSize], false)
	for _, slots := range []uint32{0, 1, 1<<32 - 1} {
		other := bytes.Clone(file[:o.page+int(slots&1)*SlotSize])
		binary.LittleEndian.PutUint32(other[12:], slots)
		f.Add(other, false)
	}
	f.Add(ring, true)
	f.Fuzz(func(t *testing.T, b []byte, isRing bool) {
		if len(b) > 1<<16 {
			return
		}
		for _, resealed := range []bool{false, true} {
			b := bytes.Clone(b)
			at := 40
			if isRing {
				at = 36
			}
			if resealed && len(b) >= at+4 {
				binary.LittleEndian.PutUint32(b[at:], sum(0, b[:at]))
			}
			recoverFrom(t, o, st, b, isRing)
		}
	})
}

func recoverFrom(t *testing.T, o Options, st State, b []byte, isRing bool) {
	t.Helper()
	disk, shm := &simDisk{files: map[string][]byte{}, page: 512}, &simShm{}
	o.Disk, o.Shm = disk, shm
	if isRing {
		shm.mem = make([]byte, o.page+o.Slots*SlotSize)
		copy(shm.mem, b)
		b = shm.mem
	} else {
		disk.files[fileName(1)] = b
	}
	j, rec, err := Recover(o, st)
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNewerFormat), errors.Is(err, ErrRolledBack):
		return
	case err != nil:
		t.Fatal(err)
	}
	last := st.Water
	for i := range rec.Records {
		r := &rec.Records[i]
		slot := make([]byte, SlotSize)
		r.put(slot, j.salt, j.table)
		if r.Number <= last || r.Epoch != st.Epoch ||
			!bytes.Contains(b, slot[:recordHead+len(r.Payload)]) {
			t.Fatalf("record %d of epoch %d behind %d", r.Number, r.Epoch, last)
		}
		last = r.Number
	}
	if rec.Gapless > last {
		t.Fatalf("known up to %d, the last is %d", rec.Gapless, last)
	}
	head := j.header(j.seq)
	if !isRing && isWrittenOn(b, o.Slots) && string(b[:44]) != string(head[:44]) {
		t.Fatalf("%x is written on as %x", b[:44], head[:44])
	}
	if err := j.Abandon(); err != nil {
		t.Fatal(err)
	}
}

// isWrittenOn reports whether the header of a file is of this format and of this
// many slots. A file of another size is read, and another is made beside it.
func isWrittenOn(b []byte, slots int) bool {
	le := binary.LittleEndian
	return le.Uint32(b[8:]) == fileFormat && le.Uint32(b[12:]) == uint32(slots)
}
