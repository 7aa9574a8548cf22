package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A sidecar guards what Pebble does not. A flipped bit in its MANIFEST can open
// with data missing, and that open deletes the files it no longer knows; a cut
// or lost last log opens with the newest records missing. So two files beside
// the Pebble folder, written in turn, hold the checksum of the MANIFEST's prefix
// and the highest durable frame of every group, at most half a second old. Both are
// compared before the store is opened for writing.
//
// Each file is one record, little-endian:
//
//	"tactside" | format u8 | clean u8 | groups u16 | seq u64 | store id 16 |
//	epoch u32 | time ms u64 |
//	2 × (name length u8, name 31, prefix length u64, prefix CRC32C u32) |
//	groups × durable frame u64 | ends 20, from format 2 | CRC32C u32
type sidecar struct {
	fs      vfs.FS
	dir     string
	witness witness

	mu struct { // taken inside Pebble's own calls: never call Pebble with it held
		sync.Mutex
		files [2]vfs.File
		slot  int // of the newest record
		rec   sidecarRecord
		buf   []byte
	}
}

type sidecarRecord struct {
	seq     uint64
	id      [16]byte
	epoch   uint32
	time    UnixMsec
	clean   bool
	marks   [2]manifestMark // of the current MANIFEST, and of the one it replaces until it has
	durable []uint64        // by group
	ends    logEnds
}

// manifestMark is the state of a prefix of a MANIFEST, which only grows.
type manifestMark struct {
	name string
	size int64
	crc  uint32
}

const (
	sidecarMagic   = "tactside"
	sidecarFormat  = 2
	sidecarName    = 31
	sidecarMark    = 1 + sidecarName + 8 + 4
	sidecarHeader  = 8 + 1 + 1 + 2 + 8 + 16 + 4 + 8 + 2*sidecarMark
	markerManifest = "marker.manifest."
)

func sidecarFile(slot int) string { return [2]string{"sidecar-a", "sidecar-b"}[slot] }

func (r *sidecarRecord) append(b []byte) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(append(b, sidecarMagic...), sidecarFormat)
	b = appendBool(b, r.clean)
	b = le.AppendUint16(b, uint16(len(r.durable)))
	b = le.AppendUint64(b, r.seq)
	b = append(b, r.id[:]...)
	b = le.AppendUint32(b, r.epoch)
	b = le.AppendUint64(b, uint64(r.time))
	for _, m := range r.marks {
		var name [sidecarName]byte
		n := copy(name[:], m.name)
		b = append(append(b, byte(n)), name[:]...)
		b = le.AppendUint64(b, uint64(m.size))
		b = le.AppendUint32(b, m.crc)
	}
	for _, n := range r.durable {
		b = le.AppendUint64(b, n)
	}
	b = r.ends.append(b)
	return le.AppendUint32(b, checkSum(b[start:]))
}

func parseSidecar(b []byte) (r sidecarRecord, err error) {
	if len(b) < sidecarHeader+4 || string(b[:8]) != sidecarMagic {
		return r, fmt.Errorf("%w: not a sidecar", ErrCorrupt)
	}
	if b[8] > sidecarFormat && checkSum(b[:len(b)-4]) == le32(b[len(b)-4:]) {
		return r, fmt.Errorf("%w: sidecar format %d", ErrNewerFormat, b[8])
	}
	in := effectReader{b: b[9:]}
	r.clean = in.flag()
	groups := int(in.u16())
	r.seq = in.u64()
	copy(r.id[:], in.bytes(16))
	r.epoch = in.u32()
	r.time = UnixMsec(in.u64())
	for i := range r.marks {
		n := int(in.u8())
		name := in.bytes(sidecarName)
		in.check(n <= sidecarName)
		if !in.bad {
			r.marks[i].name = string(name[:n])
		}
		r.marks[i].size = int64(in.u64())
		r.marks[i].crc = in.u32()
	}
	for range groups {
		r.durable = append(r.durable, in.u64())
	}
	if b[8] > 1 {
		r.ends = readLogEnds(&in)
	}
	size := len(b) - len(in.b)
	sum := in.u32()
	if in.bad || checkSum(b[:size]) != sum {
		return sidecarRecord{}, fmt.Errorf("%w: sidecar fails its checksum", ErrCorrupt)
	}
	return r, nil
}

// loadSidecar returns the newest record that is whole. ErrNotFound: neither file
// is there.
func loadSidecar(fs vfs.FS, dir string) (rec sidecarRecord, slot int, err error) {
	var faults []error
	found := false
	for i := range 2 {
		name := fs.PathJoin(dir, sidecarFile(i))
		b, err := readFile(fs, name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var r sidecarRecord
		if err == nil {
			r, err = parseSidecar(b)
		}
		if errors.Is(err, ErrNewerFormat) {
			return rec, 0, fmt.Errorf("%s: %w", name, err)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if !found || r.seq > rec.seq {
			rec, slot, found = r, i, true
		}
	}
	switch {
	case found:
		return rec, slot, nil
	case len(faults) > 0:
		return rec, 0, errors.Join(faults...)
	}
	return rec, 0, ErrNotFound
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// open makes the two files ready for writing. rec is what is on disk, in slot.
func (s *sidecar) open(fs vfs.FS, dir string, rec sidecarRecord, slot int) error {
	s.fs, s.dir = fs, dir
	s.mu.rec, s.mu.slot = rec, slot
	for i := range s.mu.files {
		name := fs.PathJoin(dir, sidecarFile(i))
		f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return errors.Join(fmt.Errorf("sidecar: %w", err), s.close())
		}
		s.mu.files[i] = f
	}
	if err := s.witness.open(fs, dir, &rec); err != nil {
		return errors.Join(err, s.close())
	}
	return syncFolder(fs, dir)
}

func (s *sidecar) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i, f := range s.mu.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
		s.mu.files[i] = nil
	}
	return errors.Join(append(errs, s.witness.close())...)
}

// update changes the record with f, brings the current MANIFEST's mark up to
// date and writes the record, synced, over the older one.
func (s *sidecar) update(f func(r *sidecarRecord)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.files[0] == nil {
		return ErrClosed
	}
	if f != nil {
		f(&s.mu.rec)
	}
	if m := &s.mu.rec.marks[0]; m.name != "" {
		if err := m.extend(s.fs, s.fs.PathJoin(s.dir, folderDatabase)); err != nil {
			return fmt.Errorf("sidecar: %w", err)
		}
	}
	if err := s.dropMarkLocked(); err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	s.mu.rec.ends = s.witness.seen()
	return s.writeLocked()
}

// dropMarkLocked forgets the MANIFEST before the current one as soon as the
// current one is so for ever: a marker that names the older one is then a stale
// file, and to open it would lose what the newer one knows.
func (s *sidecar) dropMarkLocked() error {
	if s.mu.rec.marks[1].name == "" {
		return nil
	}
	db := s.fs.PathJoin(s.dir, folderDatabase)
	desc, err := pebble.Peek(db, s.fs)
	if err != nil || !desc.Exists || s.fs.PathBase(desc.ManifestFilename) != s.mu.rec.marks[0].name {
		return err
	}
	if err := syncFolder(s.fs, db); err != nil {
		return err
	}
	s.mu.rec.marks[1] = manifestMark{}
	return nil
}

// begin takes over the marks of a record that was verified.
func (s *sidecar) begin(marks [2]manifestMark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.rec.marks = marks
}

// record returns a copy of the record as last written.
func (s *sidecar) record() sidecarRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.mu.rec
	rec.durable = append([]uint64(nil), rec.durable...)
	return rec
}

// sameManifest reports whether the current MANIFEST is as long as recorded.
func (s *sidecar) sameManifest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.mu.rec.marks[0]
	info, err := s.fs.Stat(s.fs.PathJoin(s.dir, folderDatabase, m.name))
	return err == nil && info.Size() == m.size
}

// durableBelow reports whether the record lacks frames that are durable now.
func (s *sidecar) durableBelow(groups []*Group) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, g := range groups {
		if s.mu.rec.durable[i] < g.durable.Load() {
			return true
		}
	}
	return false
}

// rotate records a new MANIFEST in the folder db before Pebble makes it the
// current one. Its name is durable before the marker's: nothing else orders the
// two, and a marker without its file is a store that does not open.
func (s *sidecar) rotate(db, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := manifestMark{name: name}
	if err := m.extend(s.fs, db); err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	if err := syncFolder(s.fs, db); err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	s.mu.rec.marks[1], s.mu.rec.marks[0] = s.mu.rec.marks[0], m
	return s.writeLocked()
}

func (s *sidecar) writeLocked() error {
	slot := 1 - s.mu.slot
	s.mu.rec.seq++
	s.mu.buf = s.mu.rec.append(s.mu.buf[:0])
	f := s.mu.files[slot]
	if _, err := f.WriteAt(s.mu.buf, 0); err != nil {
		return fmt.Errorf("write %s: %w", sidecarFile(slot), err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", sidecarFile(slot), err)
	}
	s.mu.slot = slot
	return nil
}

// extend brings the mark to the MANIFEST's present length. The bytes are synced
// before they are counted, or a crash could take counted bytes away.
func (m *manifestMark) extend(fs vfs.FS, db string) error {
	f, err := fs.Open(fs.PathJoin(db, m.name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	n := info.Size() - m.size
	if n <= 0 {
		return nil
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, m.size); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	m.crc = crc32.Update(m.crc, crc32.MakeTable(crc32.Castagnoli), b)
	m.size += n
	return nil
}

// verify compares the current MANIFEST of the folder db with the record, and makes
// it the first of the record's marks: a start that was cut may have recorded a newer
// one that never became current.
func (r *sidecarRecord) verify(fs vfs.FS, db string) error {
	desc, err := pebble.Peek(db, fs)
	if err != nil {
		return pebbleFault(err, db)
	}
	if !desc.Exists {
		return &Damage{
			File: folderDatabase + "/" + strings.TrimSuffix(markerManifest, "."),
			What: "no marker names a current MANIFEST",
		}
	}
	name := fs.PathBase(desc.ManifestFilename)
	for _, m := range r.marks {
		if m.name != name {
			continue
		}
		b, err := readFile(fs, fs.PathJoin(db, name))
		if err != nil {
			return &Damage{File: folderDatabase + "/" + name, What: err.Error(), Err: err}
		}
		if int64(len(b)) < m.size || checkSum(b[:m.size]) != m.crc {
			return &Damage{
				File: folderDatabase + "/" + name,
				What: fmt.Sprintf("its first %d bytes are not what was written", m.size),
			}
		}
		r.marks = [2]manifestMark{m}
		return nil
	}
	return &Damage{
		File: folderDatabase + "/" + name,
		What: fmt.Sprintf("it is unknown to the sidecar (%s, %s)", r.marks[0].name, r.marks[1].name),
	}
}
