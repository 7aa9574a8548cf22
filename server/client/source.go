package client

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxLine bounds one record of a file and one line of a request: the server's limit.
const maxLine = 1 << 20

var (
	errTooLong = errors.New("the record is longer than 1 MiB")
	// ErrFormat reports a file name whose ending says neither CSV nor NDJSON.
	ErrFormat = errors.New("file must end in .csv, .tsv, .ndjson or .jsonl, " +
		"with .gz or .zst behind it if packed")
)

// source reads the records of a file in order. Each record has the number of
// the line on which it begins, counted from 1. A bad record is an error of type
// *badRecord and does not end the reading.
type source interface {
	next() (line int, rec record, err error)
}

// badRecord is a record that cannot be read; the ones behind it can.
type badRecord struct {
	line  int
	cause error
}

func (e *badRecord) Error() string { return e.cause.Error() }

// file is an open import file: packed bytes counted, unpacked, split into records.
type file struct {
	source
	handle *os.File
	unpack io.Closer
	size   int64        // of the packed file
	read   atomic.Int64 // packed bytes read so far
	header []string     // of a CSV file
	ndjson bool
	raw    bool          // no records: only plain is read
	plain  *bufio.Reader // the unpacked bytes, before source reads any
}

// openFile opens path by its name's ending. comma 0 = a comma, or a tab for .tsv.
func openFile(path string, comma rune) (*file, error) {
	name := strings.ToLower(path)
	packed := ""
	for _, ending := range []string{".gz", ".zst"} {
		if strings.HasSuffix(name, ending) {
			packed, name = ending, strings.TrimSuffix(name, ending)
		}
	}
	f := &file{ndjson: strings.HasSuffix(name, ".ndjson") || strings.HasSuffix(name, ".jsonl")}
	tabs := strings.HasSuffix(name, ".tsv")
	if !f.ndjson && !tabs && !strings.HasSuffix(name, ".csv") {
		return nil, fmt.Errorf("%s: %w", path, ErrFormat)
	}
	if comma == 0 {
		comma = ','
		if tabs {
			comma = '\t'
		}
	}
	handle, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f.handle = handle
	if err := f.start(packed, comma); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.close())
	}
	return f, nil
}

// openPlain opens a file of values: .txt and .bin too, by their plain bytes.
func openPlain(path string) (*file, error) {
	name := plainName(path)
	if !strings.HasSuffix(name, ".txt") && !strings.HasSuffix(name, ".bin") {
		return openFile(path, 0)
	}
	handle, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &file{handle: handle, raw: true}
	packed := strings.ToLower(filepath.Ext(path))
	if err := f.start(packed, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.close())
	}
	return f, nil
}

func (f *file) start(packed string, comma rune) error {
	info, err := f.handle.Stat()
	if err != nil {
		return err
	}
	f.size = info.Size()
	var in io.Reader = &counted{f.handle, &f.read}
	switch packed {
	case ".gz":
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in, f.unpack = z, z
	case ".zst":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return err
		}
		rc := z.IOReadCloser()
		in, f.unpack = rc, rc
	}
	buffered := bufio.NewReaderSize(in, 64<<10)
	f.plain = buffered
	if f.raw {
		return nil
	}
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
		if _, err := buffered.Discard(3); err != nil {
			return err
		}
	}
	if f.ndjson {
		f.source = &ndjsonSource{in: buffered}
		return nil
	}
	s := newCSV(buffered, comma)
	f.source = s
	f.header, err = s.readHeader()
	return err
}

func (f *file) close() error {
	var err error
	if f.unpack != nil {
		err = f.unpack.Close()
	}
	return errors.Join(err, f.handle.Close())
}

type counted struct {
	in io.Reader
	n  *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// csvSource reads CSV with a header line.
type csvSource struct {
	in     *csv.Reader
	guard  *guard
	header []string
}

// guard refuses to give more than maxLine bytes for one record: a quote that is
// never closed would take in the rest of the file.
type guard struct {
	in   io.Reader
	left int
}

func (g *guard) Read(p []byte) (int, error) {
	if g.left <= 0 {
		return 0, errTooLong
	}
	n, err := g.in.Read(p[:min(len(p), g.left)])
	g.left -= n
	return n, err
}

func newCSV(in io.Reader, comma rune) *csvSource {
	// The CSV reader reads ahead by its own buffer of 4 KiB.
	g := &guard{in: in, left: maxLine + 4096}
	r := csv.NewReader(g)
	r.Comma = comma
	r.ReuseRecord = true
	return &csvSource{in: r, guard: g}
}

func (s *csvSource) readHeader() ([]string, error) {
	fields, err := s.in.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file has no header line")
		}
		return nil, fmt.Errorf("header: %w", err)
	}
	seen := map[string]bool{}
	for _, name := range fields {
		if seen[name] {
			return nil, fmt.Errorf("header: column %q comes twice", name)
		}
		seen[name] = true
		s.header = append(s.header, strings.Clone(name))
	}
	return s.header, nil
}

func (s *csvSource) next() (int, record, error) {
	s.guard.left = maxLine + 4096
	fields, err := s.in.Read()
	var bad *csv.ParseError
	if errors.As(err, &bad) {
		return bad.StartLine, record{}, &badRecord{bad.StartLine, bad.Err}
	}
	if err != nil {
		return 0, record{}, err
	}
	line, _ := s.in.FieldPos(0)
	rec := record{columns: s.header, values: make([]any, len(fields))}
	for i, v := range fields {
		rec.values[i] = v
	}
	return line, rec, nil
}

// ndjsonSource reads one JSON object a line; blank lines are skipped.
type ndjsonSource struct {
	in   *bufio.Reader
	line int
	buf  []byte
}

func (s *ndjsonSource) next() (int, record, error) {
	for {
		text, err := s.readLine()
		if err != nil {
			return s.line, record{}, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		var members map[string]any
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&members); err != nil {
			return s.line, record{}, &badRecord{s.line, err}
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) || members == nil {
			return s.line, record{}, &badRecord{s.line, errors.New("not one JSON object")}
		}
		return s.line, record{members: members}, nil
	}
}

// readLine gives the next line without its end. The bytes are valid until the
// next call.
func (s *ndjsonSource) readLine() ([]byte, error) {
	s.line++
	s.buf = s.buf[:0]
	long := false
	for {
		part, err := s.in.ReadSlice('\n')
		if len(s.buf)+len(part) > maxLine {
			long = true
		} else {
			s.buf = append(s.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && (!errors.Is(err, io.EOF) || len(s.buf) == 0 && !long):
			return nil, err
		case long:
			return nil, &badRecord{s.line, errTooLong}
		default:
			return s.buf, nil
		}
	}
}
