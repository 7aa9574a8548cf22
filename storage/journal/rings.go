package journal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const ringPrefix = "tact-"

// RingName is the name of a store's ring in the rings' folder.
func RingName(storeID [16]byte) string { return ringPrefix + hex.EncodeToString(storeID[:]) }

// RingFile is a ring in a folder of rings. It says nothing of whether the store that it
// belongs to is still somewhere.
type RingFile struct {
	Path    string
	StoreID [16]byte // of its name
	Bytes   int64
	Made    int64  // unix ms at which the file was made, or written other than as memory
	Whole   bool   // its header is that of a ring of the store
	Epoch   uint32 // of a whole one
	Newest  Msec   // time of the last record of a whole one; 0: it holds none
	UsedBy  int    // a process that has mapped it, as far as this one may see; 0: none seen
}

// Rings lists the rings in a folder, in the order of their names, and opens none for
// writing. Of other names it takes no note. It errors when the folder cannot be read; a
// ring that cannot be read is not whole. Cost: two small reads a ring, and a look at the
// mappings of every process.
func Rings(dir string) ([]RingFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("rings: %w", err)
	}
	var all []RingFile
	for _, e := range entries {
		id, ok := strings.CutPrefix(e.Name(), ringPrefix)
		if !ok || !e.Type().IsRegular() || len(id) != 32 {
			continue
		}
		r := RingFile{Path: filepath.Join(dir, e.Name())}
		if _, err := hex.Decode(r.StoreID[:], []byte(id)); err != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // its store has ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("rings: %w", err)
		}
		r.Bytes, r.Made = info.Size(), info.ModTime().UnixMilli()
		r.read()
		all = append(all, r)
	}
	if len(all) > 0 {
		users := mappings(filepath.Join(dir, ringPrefix))
		for i := range all {
			all[i].UsedBy = users[all[i].Path]
		}
	}
	return all, nil
}

// read takes what the header and the last record say.
func (r *RingFile) read() {
	f, err := os.Open(r.Path)
	if err != nil {
		return
	}
	defer f.Close()
	head := make([]byte, pageSize)
	if _, err := io.ReadFull(f, head); err != nil {
		return
	}
	slots := int64(binary.LittleEndian.Uint32(head[12:]))
	if slots == 0 || r.Bytes != pageSize+slots*SlotSize {
		return
	}
	var tail uint64
	if r.Epoch, tail, r.Whole = (&ring{head}).witness(r.StoreID, int(slots)); !r.Whole {
		r.Epoch = 0
		return
	}
	slot := make([]byte, SlotSize)
	if _, err := f.ReadAt(slot, pageSize+int64(tail%uint64(slots))*SlotSize); err != nil {
		return
	}
	if last, ok := parse(slot, saltOf(r.StoreID), false); ok && last.Number == tail {
		r.Newest = last.Time
	}
}
