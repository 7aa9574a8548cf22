package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options says how backups are worked on. The zero value works.
type Options struct {
	FS     vfs.FS           // nil = the disk
	Rate   int64            // bytes written, or read, a second; 0 = as fast as it goes
	Full   bool             // take a full backup, also where an incremental one would do
	Now    func() time.Time // wall clock, for names and reports; nil = time.Now
	Random io.Reader        // of ids; nil = crypto/rand
	Logger *slog.Logger     // nil = discard
	// Progress hears of the bytes written, or read, and of about how many there will be.
	Progress func(done, of int64)
}

const (
	manifestFile   = "manifest.json"
	manifestFormat = 1
)

// Manifest describes a backup. It is written last.
type Manifest struct {
	Format   int         `json:"format"`
	ID       string      `json:"id"`
	Name     string      `json:"name"` // of the folder
	Kind     string      `json:"kind"` // full or incremental
	WhyFull  string      `json:"why_full,omitempty"`
	Parent   string      `json:"parent,omitempty"` // id of the backup before, of an incremental one
	Store    string      `json:"store"`
	Groups   int         `json:"groups"`
	Epoch    uint32      `json:"epoch"`
	From     int64       `json:"from_ms"`  // restorable from here,
	Until    int64       `json:"until_ms"` // to here: the newest time of anything in it
	Started  int64       `json:"started_ms"`
	Ended    int64       `json:"ended_ms"`
	People   int64       `json:"people"`
	Frames   uint64      `json:"frames"`
	Bytes    int64       `json:"bytes"`
	Position []position  `json:"positions"` // by group: the last frame
	Files    []fileEntry `json:"files"`
	Sum      string      `json:"sha256"`
}

func (m *Manifest) checksum() *string { return &m.Sum }

// Kinds of backups.
const (
	Full        = "full"
	Incremental = "incremental"
)

// position is the last frame of a group: its number and hash.
type position struct {
	Frame uint64 `json:"frame"`
	Hash  string `json:"hash"`
}

// fileEntry is one file of a backup that never changes.
type fileEntry struct {
	File   string `json:"file"`
	Kind   string `json:"kind"`
	Number uint32 `json:"number"`
	Bytes  int64  `json:"bytes"`
	Rows   uint64 `json:"rows,omitempty"`
	Hash   string `json:"sha256"`
	// Of a piece of the event log: the segment's name and where in it the piece lies.
	Segment string `json:"segment,omitempty"`
	Offset  int64  `json:"offset,omitempty"`
}

// hexStore writes the id of a store as manifests do.
func hexStore(id [16]byte) string { return hex.EncodeToString(id[:]) }

func parseID(s string) (id ID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, errBytes("%q is no id", s)
	}
	return ID(b), nil
}

// readManifest reads and checks the manifest of the backup in dir.
func readManifest(fs vfs.FS, dir string) (*Manifest, error) {
	var m Manifest
	if err := readSealed(fs, fs.PathJoin(dir, manifestFile), manifestFormat, &m); err != nil {
		return nil, err
	}
	if m.Name != fs.PathBase(dir) {
		return nil, errBytes("%s: the manifest is that of %s", dir, m.Name)
	}
	if _, err := parseID(m.ID); err != nil {
		return nil, err
	}
	if m.Groups < 1 || m.Groups > 1024 || len(m.Position) != m.Groups ||
		m.Kind != Full && m.Kind != Incremental {
		return nil, errBytes("%s: malformed manifest", dir)
	}
	for i := range m.Files {
		e := &m.Files[i]
		if e.File == "" || strings.ContainsAny(e.File+e.Segment, `/\`) {
			return nil, errBytes("%s: the manifest names %q", dir, e.File)
		}
	}
	return &m, nil
}

// folder is the folder of a backup.
type folder struct {
	fs   vfs.FS
	dir  string
	pace *pace // of reading; may be nil
}

// entryReader reads a file and knows whether it was what its entry says.
type entryReader struct {
	file vfs.File
	e    *fileEntry
	sum  hash.Hash
	n    int64
	pace *pace
}

func openEntry(at folder, e *fileEntry) (*entryReader, error) {
	f, err := at.fs.Open(at.fs.PathJoin(at.dir, e.File))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errBytes("%s is missing", e.File)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != e.Bytes {
		err = errBytes("%s has %d bytes, should have %d", e.File, info.Size(), e.Bytes)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &entryReader{file: f, e: e, sum: sha256.New(), pace: at.pace}, nil
}

func (r *entryReader) Read(b []byte) (int, error) {
	n, err := r.file.Read(b)
	_, _ = r.sum.Write(b[:n]) // a hash takes everything
	r.n += int64(n)
	if err := r.pace.spend(int64(n)); err != nil {
		return n, err
	}
	return n, err
}

func (r *entryReader) Close() error { return r.file.Close() }

// verify compares what was read, which must be all, with the entry.
func (r *entryReader) verify() error {
	if r.n != r.e.Bytes || hex.EncodeToString(r.sum.Sum(nil)) != r.e.Hash {
		return errBytes("it fails its checksum")
	}
	return nil
}

func (o *Options) fill() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}
