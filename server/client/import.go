package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strconv"
	"strings"
)

// Bounds of an import.
const (
	maxBatch       = 1000 // lines of one request
	maxBatchBytes  = 4 << 20
	maxConnections = 16
)

// ImportOptions says what to import. Path and Kind are required.
type ImportOptions struct {
	Path        string   // .csv .tsv .ndjson .jsonl, also packed as .gz or .zst
	Kind        string   // users or events
	Map         []string // see Mapping; none: columns and members have the names of targets
	Comma       rune     // between cells; default a comma, a tab for .tsv
	Connections int      // requests at the same time, 1 to 16; default 4
	Batch       int      // lines of one request, 1 to 1,000; default 1,000
	// An interrupted import goes on with the Connections and Batch it began with.
	// Restart forgets an interrupted import of the same file.
	Restart bool
	// Progress, when set, is called after every acknowledged round, from the
	// goroutine of Import.
	Progress func(ImportProgress)
}

// ImportProgress is how far an import has come, earlier runs counted.
type ImportProgress struct {
	Bytes, TotalBytes int64 // of the file as it lies on disk
	Line              int   // of the last record dealt with
	Applied           int64
	Duplicate         int64 // applied by an earlier run or an earlier import
	Rejected          int64
}

// ImportReport is the result of an import that came to the end of its file.
type ImportReport struct {
	ImportProgress
	Resumed      int    // the line up to which an earlier run had come, or 0
	RejectedFile string // where the rejected lines are named, or empty
}

// ErrOtherFile reports a state file that belongs to another file or mapping.
var ErrOtherFile = errors.New("an interrupted import of other content or with another mapping " +
	"exists; finish it or start over")

// Import sends the records of a file as lines of POST /v1/users or /v1/events.
//
// After every acknowledged round of batches it writes FILE.tact-import; an
// import that ended early goes on from there when it is started again with the
// same content and mapping. Events without event_id get one made of the file's
// digest and the line, and batches of users carry an idempotency key made of
// them, so that a round sent twice is applied once. The state file is removed
// at the end. Rejected lines are named in FILE.rejected.ndjson.
//
// Lines of one user_id go over the same connection, in order. Lines without
// user_id share one connection.
func (c *Client) Import(ctx context.Context, o ImportOptions) (ImportReport, error) {
	im, err := c.openImport(o)
	if err != nil {
		return ImportReport{}, err
	}
	defer im.close()
	report := ImportReport{Resumed: im.state.Line}
	for {
		end, err := im.round(ctx)
		if err != nil {
			return im.report(report), err
		}
		if o.Progress != nil {
			o.Progress(im.progress())
		}
		if end {
			break
		}
	}
	report = im.report(report)
	return report, im.finish()
}

// importing is one running import.
type importing struct {
	client   *Client
	options  ImportOptions
	file     *file
	mapping  *Mapping // nil: NDJSON records go as they are
	state    importState
	rejected *os.File
	batches  []batch // one for each connection
	rejects  []reject
	ended    bool
}

// batch is the lines that one connection sends in a round.
type batch struct {
	body  []byte
	lines []int // of the file
}

// reject is one line of FILE.rejected.ndjson.
type reject struct {
	Line   int    `json:"line"`
	Code   string `json:"code"`
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail"`
}

func (o *ImportOptions) normalise() error {
	if o.Kind != "users" && o.Kind != "events" {
		return fmt.Errorf("kind %q: must be users or events", o.Kind)
	}
	if o.Connections == 0 {
		o.Connections = 4
	}
	if o.Batch == 0 {
		o.Batch = maxBatch
	}
	if o.Connections < 1 || o.Connections > maxConnections {
		return fmt.Errorf("connections %d: must be from 1 to %d", o.Connections, maxConnections)
	}
	if o.Batch < 1 || o.Batch > maxBatch {
		return fmt.Errorf("batch %d: must be from 1 to %d", o.Batch, maxBatch)
	}
	return nil
}

func (c *Client) openImport(o ImportOptions) (*importing, error) {
	if err := o.normalise(); err != nil {
		return nil, err
	}
	print, err := fingerprint(&o)
	if err != nil {
		return nil, err
	}
	f, err := openFile(o.Path, o.Comma)
	if err != nil {
		return nil, err
	}
	im := &importing{client: c, options: o, file: f}
	if err := im.prepare(print); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return im, nil
}

// prepare reads the mapping, the state of an earlier run, and the records that
// run has dealt with.
func (im *importing) prepare(print string) error {
	if err := im.openMapping(); err != nil {
		return err
	}
	var err error
	if im.state, err = loadState(im.statePath(), print, &im.options); err != nil {
		return err
	}
	im.batches = make([]batch, im.state.Connections)
	im.rejected, err = os.OpenFile(im.rejectedPath(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	// What was written behind the last saved state belongs to lines that come again.
	if err := im.rejected.Truncate(im.state.RejectedBytes); err != nil {
		return err
	}
	if _, err = im.rejected.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	// Saved before the first line is sent: a run that starts again makes the same batches.
	return im.save()
}

func (im *importing) openMapping() error {
	var err error
	switch {
	case len(im.options.Map) > 0:
		im.mapping, err = ParseMapping(im.options.Kind, im.options.Map)
	case !im.file.ndjson:
		im.mapping, err = identity(im.options.Kind, im.file.header)
	}
	if err != nil || im.file.ndjson {
		return err
	}
	if missing := im.mapping.missing(im.file.header); len(missing) > 0 {
		return fmt.Errorf("%w: the file has no column %s; it has %s", ErrMapping,
			strings.Join(missing, ", "), strings.Join(im.file.header, ", "))
	}
	return nil
}

func (im *importing) statePath() string    { return im.options.Path + ".tact-import" }
func (im *importing) rejectedPath() string { return im.options.Path + ".rejected.ndjson" }

func (im *importing) close() {
	_ = im.file.close()
	_ = im.rejected.Close()
}

// finish removes the state file, and the file of rejected lines when it is empty.
func (im *importing) finish() error {
	var err error
	if im.state.Rejected == 0 {
		err = os.Remove(im.rejectedPath())
	}
	if e := os.Remove(im.statePath()); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

func (im *importing) progress() ImportProgress {
	s := &im.state
	return ImportProgress{
		Bytes: im.file.read.Load(), TotalBytes: im.file.size, Line: s.Line,
		Applied: s.Applied, Duplicate: s.Duplicate, Rejected: s.Rejected,
	}
}

func (im *importing) report(r ImportReport) ImportReport {
	r.ImportProgress = im.progress()
	if r.Rejected > 0 {
		r.RejectedFile = im.rejectedPath()
	}
	return r
}

// round reads one batch for each connection, sends them, and saves the state.
func (im *importing) round(ctx context.Context) (end bool, err error) {
	last, err := im.fill(ctx)
	if err != nil {
		return false, err
	}
	if err := im.send(ctx); err != nil {
		return false, err
	}
	if last > 0 {
		im.state.Line = last
	}
	return im.ended, im.save()
}

// fill reads records until a batch is full, and gives the line of the last.
func (im *importing) fill(ctx context.Context) (last int, err error) {
	for i := range im.batches {
		im.batches[i].body, im.batches[i].lines = im.batches[i].body[:0], im.batches[i].lines[:0]
	}
	im.rejects = im.rejects[:0]
	for !im.ended && len(im.rejects) < maxBatch {
		line, rec, err := im.file.next()
		var bad *badRecord
		switch {
		case errors.Is(err, io.EOF):
			im.ended = true
			continue
		case errors.As(err, &bad):
		case err != nil:
			return last, fmt.Errorf("%s: %w", im.options.Path, err)
		}
		if ctx.Err() != nil {
			return last, ctx.Err()
		}
		if line <= im.state.Line {
			continue
		}
		last = line
		if bad != nil {
			im.reject(reject{Line: line, Code: "bad_record", Detail: bad.Error()})
			continue
		}
		if im.add(line, &rec) {
			break
		}
	}
	return last, nil
}

func (im *importing) reject(r reject) {
	im.rejects = append(im.rejects, r)
}

// add puts one record into the batch of its user and says whether that is full.
func (im *importing) add(line int, rec *record) (full bool) {
	doc := rec.members
	if im.mapping != nil {
		var err error
		if doc, err = im.mapping.apply(rec); err != nil {
			im.reject(reject{Line: line, Code: "mapping", Detail: err.Error()})
			return false
		}
	}
	if im.options.Kind == "events" && doc["event_id"] == nil {
		doc["event_id"] = im.lineKey(line)
	}
	text, err := json.Marshal(doc)
	if err == nil && len(text) >= maxLine {
		err = errTooLong
	}
	if err != nil {
		im.reject(reject{Line: line, Code: "bad_record", Detail: err.Error()})
		return false
	}
	b := &im.batches[im.connection(doc)]
	b.body = append(append(b.body, text...), '\n')
	b.lines = append(b.lines, line)
	return len(b.lines) >= im.state.Batch || len(b.body) >= maxBatchBytes
}

// connection chooses the batch by the user, so that one user's lines keep their order.
func (im *importing) connection(doc map[string]any) int {
	id, ok := doc["user_id"].(string)
	if !ok {
		return 0
	}
	h := fnv.New32a()
	_, _ = io.WriteString(h, id)
	return int(h.Sum32() % uint32(len(im.batches)))
}

// lineKey names a line of this content for ever.
func (im *importing) lineKey(line int) string {
	sum := sha256.Sum256([]byte(im.state.Fingerprint + ":" + strconv.Itoa(line)))
	return "import-" + hex.EncodeToString(sum[:16])
}

// fingerprint is a digest of what decides the lines of an import: the file's
// bytes, kind, mapping and separator.
func fingerprint(o *ImportOptions) (string, error) {
	settings, err := json.Marshal([]any{o.Kind, o.Map, o.Comma})
	if err != nil {
		return "", err
	}
	return digestFile(o.Path, settings)
}

// digestFile gives a digest of how a file is read and of its bytes, in hexadecimal.
func digestFile(path string, settings []byte) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, _ = h.Write(settings)
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
