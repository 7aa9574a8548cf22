package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// lineResult is the server's answer for one line.
type lineResult struct {
	Line   int    `json:"line"`
	Status string `json:"status"`
	Error  struct {
		Code   string `json:"code"`
		Field  string `json:"field"`
		Detail string `json:"detail"`
	} `json:"error"`
}

// ErrUnsure reports lines of which the server could not say, time after time,
// whether they were applied. The import can be started again: no line is
// applied twice.
var ErrUnsure = errors.New("the server does not say whether lines were applied")

// errFull reports lines that the server had no room for. They are not rejected: the
// import goes on with them when it is started again.
var errFull = errors.New("the server's disk is full; start the import again when there is room")

// errCut reports a reply that does not answer every line.
var errCut = errors.New("the reply does not answer every line")

// send sends the batches of a round at the same time and counts their results.
func (im *importing) send(ctx context.Context) error {
	results := make([][]lineResult, len(im.batches))
	errs := make([]error, len(im.batches))
	var all sync.WaitGroup
	for i := range im.batches {
		if len(im.batches[i].lines) == 0 {
			continue
		}
		all.Go(func() {
			results[i], errs[i] = im.client.sendBatch(ctx, im, &im.batches[i])
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i := range results {
		for j := range results[i] {
			im.count(&results[i][j], im.batches[i].lines[j])
		}
	}
	return nil
}

func (im *importing) count(r *lineResult, line int) {
	switch r.Status {
	case "applied":
		im.state.Applied++
	case "duplicate":
		im.state.Duplicate++
	default:
		im.reject(reject{
			Line: line, Code: r.Error.Code, Field: r.Error.Field, Detail: r.Error.Detail,
		})
	}
}

// sendBatch sends one batch until every line of it has a definite answer. The
// results are in the order of the lines.
func (c *Client) sendBatch(ctx context.Context, im *importing, b *batch) ([]lineResult, error) {
	r := call{
		method: http.MethodPost, path: "/v1/" + im.options.Kind, kind: "application/x-ndjson",
		body: b.body, again: true,
	}
	if im.options.Kind == "users" {
		r.header = map[string]string{"Idempotency-Key": im.batchKey(b)}
	}
	wait := 50 * time.Millisecond
	for n := 1; ; n++ {
		reply, _, err := c.do(ctx, r)
		if p := (*Error)(nil); errors.As(err, &p) && p.Code == codeDiskFull {
			err = errFull
		}
		if err != nil {
			return nil, fmt.Errorf("lines %d to %d: %w", b.lines[0], b.lines[len(b.lines)-1], err)
		}
		results, err := readResults(reply, len(b.lines))
		if err == nil {
			return results, nil
		}
		if errors.Is(err, errFull) {
			return nil, fmt.Errorf("lines %d to %d: %w", b.lines[0], b.lines[len(b.lines)-1], err)
		}
		if n == attempts {
			return nil, fmt.Errorf("lines %d to %d: %w: %w",
				b.lines[0], b.lines[len(b.lines)-1], ErrUnsure, err)
		}
		if err := c.wait(ctx, wait); err != nil {
			return nil, err
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// batchKey is the same for the same lines, and for no others of any import: it
// holds the first and last line and a digest of the body.
func (im *importing) batchKey(b *batch) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s:%d:%d:", im.state.Fingerprint, b.lines[0], b.lines[len(b.lines)-1])
	_, _ = h.Write(b.body)
	return "import-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// codeDiskFull is what a line is refused with when there is no room for it.
const codeDiskFull = "disk_full"

// readResults reads one result for each of n lines, in order.
func readResults(reply []byte, n int) ([]lineResult, error) {
	results := make([]lineResult, 0, n)
	for text := range bytes.SplitSeq(reply, []byte("\n")) {
		if len(text) == 0 {
			continue
		}
		var r lineResult
		if err := json.Unmarshal(text, &r); err != nil || r.Line != len(results)+1 {
			return nil, errCut
		}
		if r.Status == "in_doubt" {
			return nil, errors.New(r.Error.Code + ": " + r.Error.Detail)
		}
		if r.Error.Code == codeDiskFull {
			return nil, errFull
		}
		results = append(results, r)
	}
	if len(results) != n {
		return nil, errCut
	}
	return results, nil
}

// importState is the content of FILE.tact-import.
type importState struct {
	Version       int    `json:"version"`
	Fingerprint   string `json:"fingerprint"`
	Connections   int    `json:"connections"` // they decide the batches, and so their keys
	Batch         int    `json:"batch"`
	Line          int    `json:"line"` // records up to this line are dealt with
	Applied       int64  `json:"applied"`
	Duplicate     int64  `json:"duplicate"`
	Rejected      int64  `json:"rejected"`
	RejectedBytes int64  `json:"rejected_bytes"` // length of the file of rejected lines
}

const stateVersion = 1

// loadState reads the state of an interrupted import of the same content, or
// makes a new one.
func loadState(path, print string, o *ImportOptions) (importState, error) {
	fresh := importState{
		Version: stateVersion, Fingerprint: print, Connections: o.Connections, Batch: o.Batch,
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && o.Restart {
		return fresh, nil
	}
	if err != nil {
		return fresh, err
	}
	var s importState
	if err := json.Unmarshal(text, &s); err != nil {
		return fresh, fmt.Errorf("%s: %w", path, err)
	}
	if s.Version == stateVersion && s.Fingerprint != print && s.Line == 0 {
		return fresh, nil // of another file nothing was dealt with: it is not in the way
	}
	if s.Version != stateVersion || s.Fingerprint != print {
		return fresh, fmt.Errorf("%s: %w", path, ErrOtherFile)
	}
	if s.Connections < 1 || s.Connections > maxConnections || s.Batch < 1 || s.Batch > maxBatch {
		return fresh, fmt.Errorf("%s: connections or batch out of range", path)
	}
	return s, nil
}

// save writes the rejected lines of the round, then the state that counts them.
func (im *importing) save() error {
	for _, r := range im.rejects {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		n, err := im.rejected.Write(append(text, '\n'))
		if err != nil {
			return err
		}
		im.state.RejectedBytes += int64(n)
		im.state.Rejected++
	}
	if err := im.rejected.Sync(); err != nil {
		return err
	}
	text, err := json.Marshal(im.state)
	if err != nil {
		return err
	}
	return replaceFile(im.statePath(), text)
}

// replaceFile writes a file that is there whole or not at all.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
