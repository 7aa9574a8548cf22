package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logEnds says how far the two logs of a store were synced: Pebble's, by the
// number of its last synced batch, and the journal, by the number of its last
// synced record in an epoch.
type logEnds struct {
	commit  uint64
	epoch   uint32 // of the journal
	journal uint64
}

func (e *logEnds) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, e.commit)
	return le.AppendUint64(le.AppendUint32(b, e.epoch), e.journal)
}

func readLogEnds(in *effectReader) (e logEnds) {
	e.commit, e.epoch, e.journal = in.u64(), in.u32(), in.u64()
	return e
}

// raise joins what two witnesses know.
func (e *logEnds) raise(o logEnds) {
	e.commit = max(e.commit, o.commit)
	switch {
	case o.epoch > e.epoch:
		e.epoch, e.journal = o.epoch, o.journal
	case o.epoch == e.epoch:
		e.journal = max(e.journal, o.journal)
	}
}

// A witness is one small file that is written, without a sync of its own, after
// every sync of a log and before anybody is told of it. It outlives a kill, not a
// power loss: after one the sidecar knows the ends as they were half a second
// before. A log that ends earlier has lost what was answered.
//
//	"tactwtns" | format u8 | store id 16 | ends 20: commit u64 | journal epoch u32 |
//	journal record u64 | CRC32C u32
type witness struct {
	mu   sync.Mutex
	file vfs.File
	id   [16]byte
	ends logEnds
	err  error // the first failed write: it is not tried again
}

const (
	fileWitness   = "witness"
	witnessMagic  = "tactwtns"
	witnessFormat = 1
	witnessBytes  = 8 + 1 + 16 + 20 + 4
)

func appendWitness(b []byte, id [16]byte, e *logEnds) []byte {
	start := len(b)
	b = append(append(append(b, witnessMagic...), witnessFormat), id[:]...)
	b = e.append(b)
	return binary.LittleEndian.AppendUint32(b, checkSum(b[start:]))
}

func parseWitness(b []byte) (id [16]byte, e logEnds, err error) {
	if len(b) > 12 && string(b[:8]) == witnessMagic && b[8] > witnessFormat &&
		checkSum(b[:len(b)-4]) == le32(b[len(b)-4:]) {
		return id, e, fmt.Errorf("%w: witness format %d", ErrNewerFormat, b[8])
	}
	if len(b) != witnessBytes || string(b[:8]) != witnessMagic ||
		checkSum(b[:witnessBytes-4]) != le32(b[witnessBytes-4:]) {
		return id, e, fmt.Errorf("%w: witness fails its checksum", ErrCorrupt)
	}
	in := effectReader{b: b[25:]}
	return [16]byte(b[9:25]), readLogEnds(&in), nil
}

// loadWitness reads the witness of a store. One that is not whole knows nothing:
// a power loss may have torn it.
func loadWitness(fs vfs.FS, dir string, id [16]byte) (e logEnds, err error) {
	b, err := readFile(fs, fs.PathJoin(dir, fileWitness))
	if errors.Is(err, os.ErrNotExist) {
		return e, ErrNotFound
	}
	if err != nil {
		return e, fmt.Errorf("%s: %w", fileWitness, err)
	}
	of, e, err := parseWitness(b)
	if err == nil && of != id {
		err = fmt.Errorf("%w: witness of another store", ErrCorrupt)
	}
	return e, err
}

// open makes the witness ready for writing. rec holds the ends that are known.
func (w *witness) open(fs vfs.FS, dir string, rec *sidecarRecord) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := fs.OpenReadWrite(fs.PathJoin(dir, fileWitness), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 { // or a store in which nothing is synced has none
		_, err = f.WriteAt(appendWitness(nil, rec.id, &rec.ends), 0)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("witness: %w", err), f.Close())
	}
	w.file, w.id, w.ends, w.err = f, rec.id, rec.ends, nil
	return nil
}

func (w *witness) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// see notes further ends. It returns the first error of writing, once.
func (w *witness) see(e logEnds) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.ends
	w.ends.raise(e)
	if w.file == nil || w.err != nil || w.ends == old {
		return nil
	}
	var room [witnessBytes]byte
	if _, err := w.file.WriteAt(appendWitness(room[:0], w.id, &w.ends), 0); err != nil {
		w.err = fmt.Errorf("witness: %w", err)
		return w.err
	}
	return nil
}

// seen returns the ends as last noted.
func (w *witness) seen() logEnds {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ends
}
