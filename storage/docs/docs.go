// Package docs keeps versioned definitions: every publish is a revision, an
// immutable set of files with its author, label and note. What the revisions are
// about it does not know.
//
// Laws, each with a test:
//  1. Revisions are numbered from 1 without gaps, and the current one is the
//     last. Going back to an older revision is a new revision that points at the
//     content of the older one.
//  2. A publish is one durable atomic write: after a crash the revision and the
//     current pointer are both there or neither is.
//  3. Each revision holds the digest of the one before it, so the past cannot be
//     changed unnoticed. Bytes that are not what was written are an error.
//
// Path: Publish encodes the files into one content document and a small head,
// and hands both with the current pointer to Store.PutDoc. Cost: one synced
// commit a publish; Latest reads three documents.
package docs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"tact/storage"
)

// Classes of errors.
var (
	// ErrNotFound reports a revision that does not exist.
	ErrNotFound = errors.New("no such revision")
	// ErrCorrupt reports stored bytes that are not what was published.
	ErrCorrupt = errors.New("revision is corrupt")
	// ErrInvalid reports a publish that cannot be stored.
	ErrInvalid = errors.New("invalid revision")
	// ErrConflict reports that another publish came first.
	ErrConflict = errors.New("another revision was published meanwhile")
)

// Limits of one revision.
const (
	MaxFiles = 1 << 16
	MaxBytes = 32 << 20 // names and contents together
	maxText  = 4 << 10  // author, label, note, file name
)

// File is one definitions file. Name is unique within a revision.
type File struct {
	Name    string
	Content []byte
}

// Digest is a SHA-256.
type Digest [32]byte

// Revision is one published set of files.
//
// Publish reads Time, Author, Label, Note and either Files or Content; it sets
// the rest.
type Revision struct {
	Number  uint32
	Time    storage.UnixMsec // of the publish
	Author  string
	Label   string
	Note    string
	Content uint32 // the revision whose files these are: Number, or an older one
	Files   []File // sorted by name; empty in what List returns
	// Previous is the digest of the revision before, zero for the first.
	Previous Digest
	// Digest is over everything above, the files included.
	Digest Digest
}

// Store is the revisions of one storage.Store. Its methods may be called from
// any goroutine.
type Store struct {
	docs *storage.Store
	mu   sync.Mutex // one publish at a time
}

// Open returns the revisions of a store. It reads nothing yet.
func Open(s *storage.Store) *Store { return &Store{docs: s} }

const (
	keyCurrent = "rev/current"
	keyHead    = "rev/head/"
	keyContent = "rev/content/"
	headFormat = 1
)

// CurrentOf returns the number of the current revision when key and value are the
// document that says so.
func CurrentOf(key string, value []byte) (n uint32, ok bool) {
	if key != keyCurrent || len(value) != 4 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(value), true
}

func headKey(n uint32) string    { return fmt.Sprintf("%s%010d", keyHead, n) }
func contentKey(n uint32) string { return fmt.Sprintf("%s%010d", keyContent, n) }

// Publish stores a revision and makes it the current one. With rev.Content set,
// and no files, it points at the files of that revision: a rollback. With
// rev.Number set, the current revision must be the one before it, or
// ErrConflict. It returns the number when everything is durable; on
// storage.ErrUnknown the revision may or may not be there, and Latest says which.
func (s *Store) Publish(rev Revision) (n uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	current, err := s.current()
	if err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	if rev.Number != 0 && rev.Number != current+1 {
		return 0, fmt.Errorf("publish: %w: %d is current", ErrConflict, current)
	}
	rev.Number, rev.Previous = current+1, Digest{}
	if current > 0 {
		before, err := s.head(current)
		if err != nil {
			return 0, fmt.Errorf("publish: %w", err)
		}
		rev.Previous = before.Digest
	}
	put, err := s.encode(&rev)
	if err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	if err := s.docs.PutDoc(put...); err != nil {
		return 0, fmt.Errorf("publish revision %d: %w", rev.Number, err)
	}
	return rev.Number, nil
}

// encode returns the documents of a publish.
func (s *Store) encode(rev *Revision) ([]storage.Doc, error) {
	for _, text := range []string{rev.Author, rev.Label, rev.Note} {
		if len(text) > maxText {
			return nil, fmt.Errorf("%w: text of %d bytes", ErrInvalid, len(text))
		}
	}
	var put []storage.Doc
	var content Digest
	if rev.Content != 0 {
		if len(rev.Files) != 0 {
			return nil, fmt.Errorf("%w: files and the content of revision %d",
				ErrInvalid, rev.Content)
		}
		older, err := s.head(rev.Content)
		if err != nil {
			return nil, err
		}
		rev.Content, content = older.Content, older.content
	} else {
		rev.Content = rev.Number
		body, err := encodeFiles(rev.Files)
		if err != nil {
			return nil, err
		}
		content = sha256.Sum256(body)
		put = append(put, storage.Doc{Key: contentKey(rev.Number), Value: body})
	}
	head := appendHead(nil, rev, content)
	return append(put,
		storage.Doc{Key: headKey(rev.Number), Value: head},
		storage.Doc{Key: keyCurrent, Value: binary.LittleEndian.AppendUint32(nil, rev.Number)},
	), nil
}

// Get returns a revision with its files.
func (s *Store) Get(n uint32) (Revision, error) {
	h, err := s.head(n)
	if err != nil {
		return Revision{}, err
	}
	body, err := s.docs.GetDoc(contentKey(h.Content))
	if errors.Is(err, storage.ErrNotFound) {
		return Revision{}, fmt.Errorf("%w: revision %d: its files are missing", ErrCorrupt, n)
	}
	if err != nil {
		return Revision{}, fmt.Errorf("revision %d: %w", n, err)
	}
	if sha256.Sum256(body) != h.content {
		return Revision{}, fmt.Errorf("%w: revision %d: its files are others", ErrCorrupt, n)
	}
	if h.Files, err = decodeFiles(body); err != nil {
		return Revision{}, fmt.Errorf("revision %d: %w", n, err)
	}
	return h.Revision, nil
}

// Latest returns the current revision; ErrNotFound before the first publish.
func (s *Store) Latest() (Revision, error) {
	n, err := s.current()
	if err != nil {
		return Revision{}, err
	}
	if n == 0 {
		return Revision{}, fmt.Errorf("%w: nothing was published", ErrNotFound)
	}
	return s.Get(n)
}

// List returns up to limit revisions without their files, the newest first. It
// verifies that each is chained to the one before it.
func (s *Store) List(limit int) ([]Revision, error) {
	n, err := s.current()
	if err != nil {
		return nil, err
	}
	var out []Revision
	var want Digest
	for ; n > 0 && len(out) < limit; n-- {
		h, err := s.head(n)
		if err != nil {
			return nil, err
		}
		if len(out) > 0 && h.Digest != want {
			return nil, fmt.Errorf("%w: revision %d is not the one that %d follows",
				ErrCorrupt, n, n+1)
		}
		want = h.Previous
		out = append(out, h.Revision)
	}
	return out, nil
}

// current returns the number of the current revision, 0 before the first.
func (s *Store) current() (uint32, error) {
	b, err := s.docs.GetDoc(keyCurrent)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("current revision: %w", err)
	}
	if len(b) != 4 {
		return 0, fmt.Errorf("%w: current pointer of %d bytes", ErrCorrupt, len(b))
	}
	return binary.LittleEndian.Uint32(b), nil
}

// head is a revision without its files and with the digest of their bytes.
type head struct {
	Revision
	content Digest
}

func (s *Store) head(n uint32) (head, error) {
	b, err := s.docs.GetDoc(headKey(n))
	if errors.Is(err, storage.ErrNotFound) {
		return head{}, fmt.Errorf("%w: %d", ErrNotFound, n)
	}
	if err != nil {
		return head{}, fmt.Errorf("revision %d: %w", n, err)
	}
	h, err := parseHead(b)
	if err != nil {
		return head{}, fmt.Errorf("revision %d: %w", n, err)
	}
	if h.Number != n || h.Content == 0 || h.Content > n {
		return head{}, fmt.Errorf("%w: revision %d calls itself %d", ErrCorrupt, n, h.Number)
	}
	return h, nil
}

// appendHead appends, little-endian:
//
//	format u8 | number u32 | time ms u64 | content revision u32 |
//	3 × (length u32, text): author, label, note |
//	content digest 32 | previous digest 32 | digest of all before it 32
func appendHead(b []byte, rev *Revision, content Digest) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = le.AppendUint32(append(b, headFormat), rev.Number)
	b = le.AppendUint64(b, uint64(rev.Time))
	b = le.AppendUint32(b, rev.Content)
	for _, text := range []string{rev.Author, rev.Label, rev.Note} {
		b = appendText(b, text)
	}
	b = append(append(b, content[:]...), rev.Previous[:]...)
	sum := sha256.Sum256(b[start:])
	return append(b, sum[:]...)
}

func parseHead(b []byte) (h head, err error) {
	const digests = 3 * len(Digest{})
	if len(b) < 1+4+8+4+3*4+digests {
		return h, fmt.Errorf("%w: head of %d bytes", ErrCorrupt, len(b))
	}
	end := len(b) - len(Digest{})
	h.Digest = Digest(b[end:])
	switch {
	case sha256.Sum256(b[:end]) != h.Digest:
		return h, fmt.Errorf("%w: head fails its digest", ErrCorrupt)
	case b[0] > headFormat:
		return h, fmt.Errorf("%w: head, format %d", storage.ErrNewerFormat, b[0])
	case b[0] != headFormat:
		return h, fmt.Errorf("%w: head format %d", ErrCorrupt, b[0])
	}
	le := binary.LittleEndian
	h.Number, h.Time = le.Uint32(b[1:]), storage.UnixMsec(le.Uint64(b[5:]))
	h.Content = le.Uint32(b[13:])
	rest, ok := b[17:end], true
	for _, text := range []*string{&h.Author, &h.Label, &h.Note} {
		var t []byte
		if t, rest, ok = cutText(rest); !ok {
			return h, fmt.Errorf("%w: head is cut", ErrCorrupt)
		}
		*text = string(t)
	}
	if len(rest) != 2*len(Digest{}) {
		return h, fmt.Errorf("%w: head is cut", ErrCorrupt)
	}
	h.content, h.Previous = Digest(rest), Digest(rest[len(Digest{}):])
	return h, nil
}

// encodeFiles returns count u32 | count × (length u32, name | length u32,
// content), sorted by name.
func encodeFiles(files []File) ([]byte, error) {
	if len(files) > MaxFiles {
		return nil, fmt.Errorf("%w: %d files, at most %d", ErrInvalid, len(files), MaxFiles)
	}
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(sorted)))
	for i, f := range sorted {
		switch {
		case f.Name == "" || len(f.Name) > maxText:
			return nil, fmt.Errorf("%w: file name of %d bytes", ErrInvalid, len(f.Name))
		case i > 0 && sorted[i-1].Name == f.Name:
			return nil, fmt.Errorf("%w: file %q comes twice", ErrInvalid, f.Name)
		case len(b)+len(f.Name)+len(f.Content) > MaxBytes:
			return nil, fmt.Errorf("%w: more than %d bytes", ErrInvalid, MaxBytes)
		}
		b = appendText(b, f.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Content)))
		b = append(b, f.Content...)
	}
	return b, nil
}

func decodeFiles(b []byte) ([]File, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: files of %d bytes", ErrCorrupt, len(b))
	}
	n, rest := binary.LittleEndian.Uint32(b), b[4:]
	if n > MaxFiles || int(n)*8 > len(rest) {
		return nil, fmt.Errorf("%w: %d files in %d bytes", ErrCorrupt, n, len(b))
	}
	files := make([]File, 0, n)
	for range n {
		var name, content []byte
		var ok bool
		if name, rest, ok = cutText(rest); ok {
			content, rest, ok = cutText(rest)
		}
		if !ok || len(files) > 0 && files[len(files)-1].Name >= string(name) {
			return nil, fmt.Errorf("%w: file %d", ErrCorrupt, len(files))
		}
		files = append(files, File{string(name), content})
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the files", ErrCorrupt, len(rest))
	}
	return files, nil
}

func appendText(b []byte, text string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

func cutText(b []byte) (text, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.LittleEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n : 4+n], b[4+n:], true
}
