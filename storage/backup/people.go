package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"

	"tact/storage"
)

// The people files of a backup hold what must vanish with a person: the key that
// opens what is sealed, and the hashes of identities that point at the person; and,
// in the first part, the names that are forgotten with the last person who had them.
// They are the only files of a finished backup that are ever replaced. people.json
// names those that count, with their checksums; it is replaced after them.
const (
	peopleFile   = "people.json"
	peoplePrefix = "people-"
	peopleFormat = 2
	// A part of so many people is rewritten in some milliseconds.
	peoplePerPart = 8192
	peoplePartMax = 1024
)

// peopleIndex is people.json.
type peopleIndex struct {
	Format     int          `json:"format"`
	Backup     string       `json:"backup"`          // its id
	Store      string       `json:"store,omitempty"` // "" in format 1: as the manifest says
	Groups     int          `json:"groups"`
	Parts      int          `json:"parts"`      // people are spread over, a power of two
	Generation int          `json:"generation"` // rises with every replacement
	Files      []peoplePart `json:"files"`
	Sum        string       `json:"sha256"`

	of string // the store's id, when it is known
}

func (x *peopleIndex) checksum() *string { return &x.Sum }

type peoplePart struct {
	Part  uint32 `json:"part"`
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
	Rows  uint64 `json:"rows"`
	Hash  string `json:"sha256"`
}

// peopleParts is how many parts n people are spread over.
func peopleParts(n int) int {
	parts := 1
	for parts < peoplePartMax && parts*peoplePerPart < n {
		parts *= 2
	}
	return parts
}

// person is whom a record of a people file belongs to.
type person struct {
	group storage.GroupID
	id    storage.PersonID
}

// part is where a person's records lie.
func (p person) part(parts int) uint32 {
	return (uint32(p.id) + 37*uint32(p.group)) & uint32(parts-1)
}

// ownerOf reads whom a record belongs to: a person's key by its key, a claim of an
// identity by its value. A name is nobody's, and nobody lies in the first part.
func ownerOf(key, value []byte, groups int) (p person, err error) {
	switch storage.CopyKindOf(key) {
	case storage.CopyPersonKey:
		if len(key) != 15 || binary.BigEndian.Uint16(key[1:]) >= storage.Slots {
			return p, errBytes("key of a person: %x", key)
		}
		slot := binary.BigEndian.Uint16(key[1:])
		p.group = groupOf(storage.Slot(slot), groups)
		p.id = storage.PersonID(binary.BigEndian.Uint64(key[7:]))
		return p, nil
	case storage.CopyIdentity:
		if len(value) < 16 {
			return p, errBytes("claim of %d bytes", len(value))
		}
		p.group = storage.GroupID(binary.LittleEndian.Uint16(value[2:]))
		p.id = storage.PersonID(binary.LittleEndian.Uint64(value[8:]))
		return p, nil
	case storage.CopyOwnName:
		return p, nil
	}
	return p, errBytes("a record of no person: %x", key)
}

func groupOf(slot storage.Slot, groups int) storage.GroupID {
	return storage.GroupID(int(slot) * groups / storage.Slots)
}

// peopleWriter spreads records over parts.
type peopleWriter struct {
	fs    vfs.FS
	dir   string
	index peopleIndex
	id    ID
	pace  *pace
	pack  *zstd.Encoder
	parts []*writer // nil: nothing lies there yet
}

func newPeopleWriter(fs vfs.FS, dir string, head peopleIndex, id ID, p *pace) (
	*peopleWriter, error,
) {
	pack, err := newPacker()
	if err != nil {
		return nil, err
	}
	head.Format, head.Backup, head.Generation = peopleFormat, id.String(), 1
	return &peopleWriter{
		fs: fs, dir: dir, index: head, id: id, pace: p, pack: pack,
		parts: make([]*writer, head.Parts),
	}, nil
}

func (w *peopleWriter) add(key, value []byte) error {
	p, err := ownerOf(key, value, w.index.Groups)
	if err != nil {
		return err
	}
	at := p.part(w.index.Parts)
	if w.parts[at] == nil {
		part, err := createPart(w.fs, w.dir, streamID{kindPeople, at, w.id}, 1)
		if err != nil {
			return err
		}
		part.to.pace = w.pace
		if w.parts[at], err = newWriter(part.to, part.id, w.pack); err != nil {
			return err
		}
	}
	// A small block, for all parts are open at once.
	if len(w.parts[at].raw) > 32<<10 {
		if err := w.parts[at].flush(); err != nil {
			return err
		}
	}
	return w.parts[at].add(key, value)
}

// partFile is a people file being made.
type partFile struct {
	id   streamID
	name string
	to   *sink
}

func createPart(fs vfs.FS, dir string, id streamID, generation int) (*partFile, error) {
	name := partName(id.number, generation)
	to, err := createSink(fs, fs.PathJoin(dir, name), nil)
	return &partFile{id, name, to}, err
}

func partName(part uint32, generation int) string {
	return fmt.Sprintf("%s%04d-%d.tbk", peoplePrefix, part, generation)
}

// close ends all parts and writes people.json.
func (w *peopleWriter) close() error {
	for at, part := range w.parts {
		if part == nil {
			continue
		}
		w.parts[at] = nil
		if err := errors.Join(part.end(), part.to.close()); err != nil {
			return err
		}
		w.index.Files = append(w.index.Files, peoplePart{
			Part: uint32(at), File: partName(uint32(at), 1), Bytes: part.to.bytes,
			Rows: part.rows, Hash: part.to.digest(),
		})
	}
	if err := syncFolder(w.fs, w.dir); err != nil {
		return err
	}
	return writeSealed(w.fs, w.dir, peopleFile, &w.index)
}

// abandon lets go of files that are open.
func (w *peopleWriter) abandon() {
	for _, part := range w.parts {
		if part != nil {
			_ = part.to.file.Close() // it is not going to be used
		}
	}
}

// readPeople reads people.json of a backup.
func readPeople(fs vfs.FS, dir string) (*peopleIndex, ID, error) {
	var x peopleIndex
	var id ID
	if err := readSealed(fs, fs.PathJoin(dir, peopleFile), peopleFormat, &x); err != nil {
		return nil, id, err
	}
	id, err := parseID(x.Backup)
	if err != nil || x.Parts < 1 || x.Parts > peoplePartMax || x.Parts&(x.Parts-1) != 0 ||
		x.Groups < 1 || x.Groups > 1024 {
		return nil, id, errBytes("%s", peopleFile)
	}
	x.of = x.Store
	for i := range x.Files {
		p := &x.Files[i]
		if int(p.Part) >= x.Parts || !strings.HasPrefix(p.File, peoplePrefix) ||
			strings.ContainsAny(p.File, `/\`) {
			return nil, id, errBytes("%s names %s", peopleFile, p.File)
		}
	}
	return &x, id, nil
}

// peopleTries is how often people files are looked for that somebody replaces meanwhile.
const peopleTries = 10

// eachPerson calls f for every record of the people files of the backup m in at. They are
// no damage when somebody is forgotten in them meanwhile: each part is read whole, as it
// was before or as it is then, before f hears of it.
func eachPerson(at folder, m *Manifest, u *unpacker, f func(key, value []byte) error) error {
	x, id, err := peopleOf(at, m)
	if err != nil {
		return err
	}
	type record struct{ key, value []byte }
	for i, tries := 0, 0; i < len(x.Files); {
		var part []record
		err := x.readPart(at, u, id, &x.Files[i], func(key, value []byte) error {
			part = append(part, record{bytes.Clone(key), bytes.Clone(value)})
			return nil
		})
		if err != nil {
			next, _, nextErr := peopleOf(at, m)
			tries++
			if nextErr != nil || tries == peopleTries || next.Generation == x.Generation ||
				len(next.Files) != len(x.Files) {
				return err
			}
			x = next
			continue
		}
		for _, r := range part {
			if err := f(r.key, r.value); err != nil {
				return err
			}
		}
		i++
	}
	return nil
}

// peopleOf reads people.json of the backup m, which must be its own.
func peopleOf(at folder, m *Manifest) (*peopleIndex, ID, error) {
	x, id, err := readPeople(at.fs, at.dir)
	if errors.Is(err, os.ErrNotExist) {
		err = errBytes("%s is missing", peopleFile)
	}
	if err == nil && (id.String() != m.ID || x.Groups != m.Groups ||
		x.Store != "" && x.Store != m.Store) {
		err = errBytes("%s is that of another backup", peopleFile)
	}
	return x, id, err
}

func (x *peopleIndex) readPart(at folder, u *unpacker, id ID, p *peoplePart,
	f func(key, value []byte) error,
) error {
	file := fileEntry{
		File: p.File, Kind: kindPeople.String(), Number: p.Part, Bytes: p.Bytes, Rows: p.Rows,
		Hash: p.Hash,
	}
	return readStream(at, u, streamID{kindPeople, p.Part, id}, &file,
		func(key, value []byte) error {
			owner, err := ownerOf(key, value, x.Groups)
			if err == nil && owner.part(x.Parts) != p.Part {
				err = errBytes("%s holds somebody of another part", p.File)
			}
			if err != nil {
				return err
			}
			return f(key, value)
		})
}

// readStream reads one file of a backup as its entry describes it.
func readStream(at folder, u *unpacker, id streamID, e *fileEntry,
	f func(key, value []byte) error,
) error {
	in, err := openEntry(at, e)
	if err != nil {
		return err
	}
	defer in.Close()
	rows := uint64(0)
	err = u.read(in, e.Bytes, id, func(key, value []byte) error {
		rows++
		return f(key, value)
	})
	if err == nil {
		err = in.verify()
	}
	if err == nil && rows != e.Rows {
		err = errBytes("%d records, should be %d", rows, e.Rows)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.File, err)
	}
	return nil
}

// wipe overwrites a file with zeros, as far as the file system writes in place,
// and removes it.
func wipe(fs vfs.FS, path string) error {
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = io.Copy(&atZero{f: f}, io.LimitReader(zeros{}, info.Size()))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return fs.Remove(path)
}

// atZero writes a file from its beginning.
type atZero struct {
	f  vfs.File
	at int64
}

func (w *atZero) Write(b []byte) (int, error) {
	n, err := w.f.WriteAt(b, w.at)
	w.at += int64(n)
	return n, err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// sameKey tells whether a record is the key of a person.
func sameKey(key []byte, p Person) bool {
	return bytes.Equal(key, storage.AppendPersonKey(nil, p.Slot, p.Workspace, p.ID))
}
