package client

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// ExportOptions says which people to write to a file, and how.
type ExportOptions struct {
	Query   Query  // who; Format is that of the file: ndjson csv parquet roaring
	Path    string // of the file
	Restart bool   // forget an interrupted export to the same file
	// Progress, when set, is called now and then from the goroutine of Export:
	// people written, and how many there are; bytes for a file of one piece.
	Progress func(done, total int64)
}

// ExportReport is the result of an export that came to its end.
type ExportReport struct {
	Head    QueryHead
	Users   int64
	Bytes   int64
	Resumed int64 // people that an earlier run had written
}

// exportState is PATH.part.json: how far an interrupted export had come.
type exportState struct {
	Query  string    `json:"query"` // digest of what was asked
	Head   QueryHead `json:"head"`
	Cursor string    `json:"cursor"`
	Offset int64     `json:"offset"` // bytes of PATH.part that belong to the people before it
	Users  int64     `json:"users"`
}

// cuts bounds how often in a row a connection may break without progress.
const cuts = 8

// Export writes the people of a query to a file. They go to PATH.part, which
// gets its name when it is complete.
//
// ndjson and csv are taken up by cursor after a broken connection, at once or by
// the same command within 15 minutes: the people are those of the first answer,
// each once. After the server was started anew, or 15 minutes, the export begins
// again from the begin. parquet and roaring have no places to go on from: after a
// broken connection the file is fetched again, for the same people.
func (c *Client) Export(ctx context.Context, o ExportOptions) (ExportReport, error) {
	switch o.Query.Format {
	case "ndjson", "csv":
		return c.exportLines(ctx, o)
	case "parquet", "roaring":
		return c.exportFile(ctx, o)
	}
	return ExportReport{}, fmt.Errorf("format %q: must be ndjson, csv, parquet or roaring",
		o.Query.Format)
}

// lineExport is one export to ndjson or csv.
type lineExport struct {
	o     ExportOptions
	file  *os.File
	csv   *csv.Writer // nil for ndjson
	state exportState
	asked Query
	moved bool // since the connection was opened
	done  int64
	from  int64
	cells []string
}

func (c *Client) exportLines(ctx context.Context, o ExportOptions) (ExportReport, error) {
	x := &lineExport{o: o, asked: o.Query}
	x.asked.Format = "ndjson"
	if err := x.open(); err != nil {
		return ExportReport{}, err
	}
	defer x.file.Close()
	broken, wait := 0, 100*time.Millisecond
	for {
		err := x.run(ctx, c)
		if err == nil {
			break
		}
		var p *Error
		switch {
		case errors.As(err, &p) && p.Status == http.StatusGone:
			if err := x.begin(); err != nil { // its answer is gone: all over again
				return ExportReport{}, err
			}
		case !BrokenOff(err) || ctx.Err() != nil:
			return ExportReport{}, err
		}
		if broken++; x.moved {
			broken, wait = 1, 100*time.Millisecond
		}
		if broken > cuts {
			return ExportReport{}, err
		}
		if err := c.wait(ctx, wait); err != nil {
			return ExportReport{}, err
		}
		wait = min(2*wait, 5*time.Second)
	}
	return x.finish()
}

// digest names what is asked for.
func (x *lineExport) digest() string {
	text, _ := json.Marshal(x.o.Query) // strings and checked JSON: it cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func (x *lineExport) part() string      { return x.o.Path + ".part" }
func (x *lineExport) statePath() string { return x.o.Path + ".part.json" }

// open opens the part file, at the place where an earlier run of the same
// question stopped.
func (x *lineExport) open() (err error) {
	x.file, err = os.OpenFile(x.part(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(x.statePath())
	old := exportState{}
	if err == nil && !x.o.Restart && json.Unmarshal(text, &old) == nil && old.Query == x.digest() {
		x.state, x.from = old, old.Users
	} else if err := x.begin(); err != nil {
		return errors.Join(err, x.file.Close())
	}
	return nil
}

// begin forgets what was written.
func (x *lineExport) begin() error {
	x.state, x.from = exportState{Query: x.digest()}, 0
	return x.file.Truncate(0)
}

// run fetches people from the cursor on until the end or a break.
func (x *lineExport) run(ctx context.Context, c *Client) error {
	if err := x.file.Truncate(x.state.Offset); err != nil {
		return err
	}
	if _, err := x.file.Seek(x.state.Offset, io.SeekStart); err != nil {
		return err
	}
	out := newCounting(x.file, x.state.Offset)
	if x.o.Query.Format == "csv" {
		x.csv = csv.NewWriter(out)
	}
	x.done, x.moved = x.state.Users, false
	q := x.asked
	if x.state.Cursor != "" {
		q = q.on(x.state.Cursor)
	}
	_, err := c.People(ctx, q, Answer{
		Head:   func(h QueryHead) error { return x.head(out, h) },
		Person: func(line []byte) error { return x.person(out, line) },
		Cursor: func(cursor string) error { return x.checkpoint(out, cursor) },
	})
	if err != nil {
		return err
	}
	return x.flush(out)
}

// head notes the first answer, and writes the names of columns.
func (x *lineExport) head(out *counting, h QueryHead) error {
	if x.state.Cursor != "" {
		return nil // the answer goes on
	}
	x.state.Head = h
	if x.csv != nil {
		names := []string{"user_id", "identity_type", "identity_value"}
		names = append(append(names, x.o.Query.Attributes...), x.o.Query.Tags...)
		if err := x.csv.Write(names); err != nil {
			return err
		}
	}
	if h.Cursor == "" {
		return nil // it cannot be taken up: a break begins anew
	}
	return x.checkpoint(out, h.Cursor) // the same people, from the first on
}

// person writes one line.
func (x *lineExport) person(out *counting, line []byte) error {
	x.done++
	if x.csv == nil {
		_, err := out.Write(append(line[:len(line):len(line)], '\n'))
		return err
	}
	return x.row(line)
}

// exported is a person as the server writes it.
type exported struct {
	UserID   string `json:"user_id"`
	Identity struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	} `json:"identity"`
	Attributes map[string]json.RawMessage `json:"attributes"`
	Tags       []json.RawMessage          `json:"tags"`
}

// row writes one person as cells: strings as they are, everything else as JSON,
// a label as true, and nothing for what the person has not.
func (x *lineExport) row(line []byte) error {
	var p exported
	if err := json.Unmarshal(line, &p); err != nil {
		return fmt.Errorf("%w: %w", errBrokenOff, err)
	}
	x.cells = append(x.cells[:0], p.UserID, p.Identity.Type, p.Identity.Value)
	for _, name := range x.o.Query.Attributes {
		x.cells = append(x.cells, cellOf(p.Attributes[name]))
	}
	held := make(map[string]string, len(p.Tags))
	for _, raw := range p.Tags {
		var t struct{ Tag, Is string }
		if json.Unmarshal(raw, &t) == nil && t.Tag != "" {
			held[t.Tag] = t.Is
		} else {
			held[cellOf(raw)] = "true"
		}
	}
	for _, name := range x.o.Query.Tags {
		x.cells = append(x.cells, held[name])
	}
	return x.csv.Write(x.cells)
}

func cellOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// checkpoint makes what is written the place to go on from.
func (x *lineExport) checkpoint(out *counting, cursor string) error {
	if err := x.flush(out); err != nil {
		return err
	}
	x.moved = true
	x.state.Cursor, x.state.Offset, x.state.Users = cursor, out.n, x.done
	text, err := json.Marshal(&x.state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(x.statePath(), text, 0o600); err != nil {
		return err
	}
	if x.o.Progress != nil {
		x.o.Progress(x.done, x.state.Head.Users)
	}
	return nil
}

func (x *lineExport) flush(out *counting) error {
	if x.csv != nil {
		x.csv.Flush()
		if err := x.csv.Error(); err != nil {
			return err
		}
	}
	return out.flush()
}

// finish gives the file its name.
func (x *lineExport) finish() (ExportReport, error) {
	info, err := x.file.Stat()
	if err != nil {
		return ExportReport{}, err
	}
	r := ExportReport{Head: x.state.Head, Users: x.done, Bytes: info.Size(), Resumed: x.from}
	if err := errors.Join(x.file.Sync(), os.Rename(x.part(), x.o.Path)); err != nil {
		return r, err
	}
	if err := os.Remove(x.statePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return r, err
	}
	return r, nil
}

// exportFile fetches a file of one piece.
func (c *Client) exportFile(ctx context.Context, o ExportOptions) (ExportReport, error) {
	q := o.Query
	wait := 100 * time.Millisecond
	for n := 1; ; n++ {
		r, err := c.fetch(ctx, o, &q)
		if err == nil || n > cuts || !BrokenOff(err) || ctx.Err() != nil {
			return r, err
		}
		if err := c.wait(ctx, wait); err != nil {
			return r, err
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// fetch fetches the file once; q becomes the query of the same people.
func (c *Client) fetch(ctx context.Context, o ExportOptions, q *Query) (ExportReport, error) {
	res, err := c.stream(ctx, *q)
	if err != nil {
		return ExportReport{}, err
	}
	defer res.Body.Close()
	r := ExportReport{Head: headOf(res.Header)}
	if cursor := r.Head.Cursor; cursor != "" {
		*q = q.on(cursor)
	}
	part := o.Path + ".part"
	file, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return r, err
	}
	defer file.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	report := func(n int64) {
		if o.Progress != nil {
			o.Progress(n, max(res.ContentLength, 0))
		}
	}
	r.Bytes, err = io.Copy(io.MultiWriter(file, sum, progressWriter{report, new(int64)}), res.Body)
	if err != nil {
		return r, fmt.Errorf("%w: %w", errBrokenOff, err)
	}
	if want := res.Header.Get("Tact-Crc32c"); want != "" && want != fmt.Sprintf("%08x", sum.Sum32()) {
		return r, fmt.Errorf("%w: the sum of its bytes is not %s", errBrokenOff, want)
	}
	r.Users = r.Head.Users
	return r, errors.Join(file.Sync(), os.Rename(part, o.Path))
}

// headOf reads the head of a reply that is no JSON from its headers.
func headOf(h http.Header) QueryHead {
	head := QueryHead{
		Reason: h.Get("Tact-Reason"), Cursor: h.Get("Tact-Cursor"), Ordinals: h.Get("Tact-Ordinals"),
	}
	head.At, _ = time.Parse(time.RFC3339Nano, h.Get("Tact-At"))
	head.Users, _ = strconv.ParseInt(h.Get("Tact-Users"), 10, 64)
	head.ByDay, _ = strconv.ParseInt(h.Get("Tact-By-Day"), 10, 64)
	revision, _ := strconv.ParseUint(h.Get("Tact-Config-Version"), 10, 32)
	head.Revision = uint32(revision)
	return head
}

// progressWriter tells how many bytes went through it.
type progressWriter struct {
	report func(int64)
	n      *int64
}

func (p progressWriter) Write(b []byte) (int, error) {
	*p.n += int64(len(b))
	p.report(*p.n)
	return len(b), nil
}

// counting is a buffer in front of a file that knows where in it it is.
type counting struct {
	file io.Writer
	buf  []byte
	n    int64 // bytes taken, those before it counted
}

func newCounting(file io.Writer, from int64) *counting { return &counting{file: file, n: from} }

func (w *counting) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	w.n += int64(len(b))
	if len(w.buf) >= 256<<10 {
		return len(b), w.flush()
	}
	return len(b), nil
}

func (w *counting) flush() error {
	_, err := w.file.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}
