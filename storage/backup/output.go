package backup

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// fileBytesMax is where a further file of a kind begins.
const fileBytesMax = 1 << 30

// output writes the files of a backup, one after the other.
type output struct {
	at      folder
	id      ID
	pace    *pace
	pack    *zstd.Encoder
	files   []fileEntry
	bytes   int64
	open    *writer // nil: none
	kind    fileKind
	numbers [kindLog + 1]uint32
}

// add adds a record to the files of a kind.
func (o *output) add(kind fileKind, key, value []byte) error {
	if o.open != nil && (o.kind != kind || o.open.to.bytes >= fileBytesMax) {
		if err := o.end(); err != nil {
			return err
		}
	}
	if o.open == nil {
		if err := o.begin(kind); err != nil {
			return err
		}
	}
	return o.open.add(key, value)
}

func (o *output) begin(kind fileKind) error {
	o.numbers[kind]++
	o.kind = kind
	to, err := createSink(o.at.fs, o.path(streamName(kind, o.numbers[kind])), o.pace)
	if err != nil {
		return err
	}
	o.open, err = newWriter(to, streamID{kind, o.numbers[kind], o.id}, o.pack)
	return err
}

func streamName(kind fileKind, number uint32) string {
	return fmt.Sprintf("%s-%04d.tbk", kind, number)
}

func (o *output) path(name string) string { return o.at.fs.PathJoin(o.at.dir, name) }

// end ends the open file, when there is one.
func (o *output) end() error {
	w := o.open
	if w == nil {
		return nil
	}
	o.open = nil
	if err := errors.Join(w.end(), w.to.close()); err != nil {
		return err
	}
	o.enter(w.to, fileEntry{
		File: streamName(o.kind, o.numbers[o.kind]), Kind: o.kind.String(),
		Number: o.numbers[o.kind], Rows: w.rows,
	})
	return nil
}

// enter notes a whole file.
func (o *output) enter(s *sink, e fileEntry) {
	e.Bytes, e.Hash = s.bytes, s.digest()
	o.bytes += s.bytes
	o.files = append(o.files, e)
}

// piece copies a part of a file of the event log, as it is.
func (o *output) piece(segment string, offset int64, from io.Reader) error {
	if err := o.end(); err != nil {
		return err
	}
	o.numbers[kindLog]++
	name := fmt.Sprintf("%s-%04d.part", kindLog, o.numbers[kindLog])
	to, err := createSink(o.at.fs, o.path(name), o.pace)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(to, from, make([]byte, 256<<10))
	if err := errors.Join(err, to.close()); err != nil {
		return err
	}
	o.enter(to, fileEntry{
		File: name, Kind: kindLog.String(), Number: o.numbers[kindLog], Segment: segment,
		Offset: offset,
	})
	return nil
}

// abandon lets go of what is open after an error.
func (o *output) abandon() {
	if o.open != nil {
		_ = o.open.to.file.Close() // it is not going to be used
		o.open = nil
	}
}
