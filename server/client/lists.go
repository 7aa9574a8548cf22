package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of an import into a list: those of one request.
const (
	maxListLines = 1 << 16
	maxListBody  = 4 << 20
	maxListValue = 512
)

// ListOptions says what to import into a suppression list. Path, List and Kind
// are required.
type ListOptions struct {
	Path    string // .txt, .csv, .tsv, .ndjson, also packed as .gz or .zst; .bin
	List    string
	Kind    string // user, email, phone, push, wechat, wecom; of .ndjson: said on each line
	Hashed  bool   // the values are SHA-256 digests of normalised values, in hexadecimal
	Column  string // of .csv and .tsv; none: the only one
	Remove  bool   // take the values out of the list
	Restart bool   // forget an interrupted import of the same file
	// Progress, when set, is called after every acknowledged request.
	Progress func(ListProgress)
}

// ListProgress is how far an import into a list has come, earlier runs counted.
type ListProgress struct {
	Bytes, TotalBytes int64 // of the file as it lies on disk
	Values            int64 // acknowledged
	Changed           int64 // of them added to the list, or removed from it
	Rejected          int64 // lines that cannot be values; named in FILE.rejected.ndjson
}

// listState is FILE.tact-import of an import into a list.
type listState struct {
	Version     int    `json:"version"`
	Fingerprint string `json:"fingerprint"`
	Records     int64  `json:"records"` // dealt with
	Values      int64  `json:"values"`
	Changed     int64  `json:"changed"`
	Rejected    int64  `json:"rejected"`
}

// listVersion tells the state of a list's import from that of other imports.
const listVersion = 101

// ImportList sends the values of a file to POST /v1/lists/{id}/entries, 65,536
// at a time. Adding is idempotent, so an import that ended early goes on, when
// it is started again with the same content, behind the last acknowledged
// request. The state file is removed at the end. Memory: one request.
func (c *Client) ImportList(ctx context.Context, o ListOptions) (ListProgress, error) {
	im, err := c.openList(&o)
	if err != nil {
		return ListProgress{}, err
	}
	defer im.close()
	for {
		end, err := im.round(ctx)
		if err != nil {
			return im.progress(), err
		}
		if o.Progress != nil {
			o.Progress(im.progress())
		}
		if end {
			return im.progress(), os.Remove(im.statePath())
		}
	}
}

// listImport is one running import into a list.
type listImport struct {
	client   *Client
	o        *ListOptions
	file     *file
	state    listState
	seen     int64 // records read by this run
	next     func() ([]byte, error)
	body     []byte
	rejected *os.File
	path     string // of the request
	kind     string // its Content-Type
}

func (c *Client) openList(o *ListOptions) (*listImport, error) {
	print, err := listPrint(o)
	if err != nil {
		return nil, err
	}
	im := &listImport{client: c, o: o}
	if im.file, err = openPlain(o.Path); err != nil {
		return nil, err
	}
	if err = im.open(print); err != nil {
		return nil, errors.Join(err, im.file.close())
	}
	return im, nil
}

// open chooses how records are read and sent, and reads the state of an earlier
// run.
func (im *listImport) open(print string) error {
	query := url.Values{"kind": {im.o.Kind}}
	if im.o.Remove {
		query.Set("remove", "true")
	}
	im.kind = "text/plain"
	switch name := plainName(im.o.Path); {
	case strings.HasSuffix(name, ".bin"):
		im.kind, im.next = "application/octet-stream", im.digests()
	case strings.HasSuffix(name, ".txt"):
		im.next = im.lines()
	case im.file.ndjson:
		im.kind, im.next, query = "application/x-ndjson", im.lines(), nil
		if im.o.Remove {
			return errors.New("an .ndjson file says remove on each line")
		}
	default:
		var err error
		if im.next, err = im.column(); err != nil {
			return err
		}
	}
	if im.o.Hashed && im.kind == "text/plain" {
		query.Set("encoding", "sha256")
	}
	im.path = "/v1/lists/" + url.PathEscape(im.o.List) + "/entries"
	if len(query) > 0 {
		im.path += "?" + query.Encode()
	}
	im.state = listState{Version: listVersion, Fingerprint: print}
	text, err := os.ReadFile(im.statePath())
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && im.o.Restart:
	case err != nil:
		return err
	default:
		var s listState
		if err := json.Unmarshal(text, &s); err != nil {
			return fmt.Errorf("%s: %w", im.statePath(), err)
		}
		if s.Version != listVersion || s.Fingerprint != print {
			return fmt.Errorf("%s: %w", im.statePath(), ErrOtherFile)
		}
		im.state = s
	}
	return nil
}

func (im *listImport) statePath() string { return im.o.Path + ".tact-import" }

func (im *listImport) close() {
	_ = im.file.close()
	if im.rejected != nil {
		_ = im.rejected.Close()
	}
}

func (im *listImport) progress() ListProgress {
	return ListProgress{
		Bytes: im.file.read.Load(), TotalBytes: im.file.size, Values: im.state.Values,
		Changed: im.state.Changed, Rejected: im.state.Rejected,
	}
}

// round sends the next values of the file.
func (im *listImport) round(ctx context.Context) (end bool, err error) {
	im.body = im.body[:0]
	n := int64(0)
	for n < maxListLines && len(im.body) < maxListBody-maxLine/2 {
		value, err := im.next()
		if errors.Is(err, io.EOF) {
			end = true
			break
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", im.o.Path, err)
		}
		if im.seen++; im.seen <= im.state.Records {
			continue
		}
		if why := im.wrong(value); why != "" {
			if err := im.reject(why); err != nil {
				return false, err
			}
			continue
		}
		n++
		im.body = append(im.body, value...)
		if im.kind != "application/octet-stream" {
			im.body = append(im.body, '\n')
		}
	}
	if n > 0 {
		var reply struct{ Added, Removed int64 }
		body, _, err := im.client.do(ctx, call{
			method: http.MethodPost, path: im.path, kind: im.kind, body: im.body, again: true,
		})
		if err == nil {
			err = json.Unmarshal(body, &reply)
		}
		if err != nil {
			return false, fmt.Errorf("records %d to %d: %w", im.seen-n+1, im.seen, err)
		}
		im.state.Values += n
		im.state.Changed += reply.Added + reply.Removed
	}
	im.state.Records = max(im.state.Records, im.seen)
	return end, im.save()
}

// wrong says why a value cannot be sent, or "".
func (im *listImport) wrong(value []byte) string {
	switch {
	case im.kind != "text/plain":
		return ""
	case im.o.Hashed:
		if _, err := hex.DecodeString(string(value)); err != nil || len(value) != 64 {
			return "not 64 hexadecimal digits"
		}
	case len(value) == 0 || len(value) > maxListValue:
		return "not 1 to 512 bytes"
	}
	return ""
}

// reject names a record that is not a value.
func (im *listImport) reject(why string) (err error) {
	if im.rejected == nil {
		flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
		if im.state.Rejected == 0 {
			flags |= os.O_TRUNC
		}
		im.rejected, err = os.OpenFile(im.o.Path+".rejected.ndjson", flags, 0o600)
		if err != nil {
			return err
		}
	}
	im.state.Rejected++
	text, err := json.Marshal(reject{Line: int(im.seen), Code: "invalid_value", Detail: why})
	if err == nil {
		_, err = im.rejected.Write(append(text, '\n'))
	}
	return err
}

// save writes the state beside the old one and puts it in its place.
func (im *listImport) save() error {
	text, err := json.Marshal(im.state)
	if err != nil {
		return err
	}
	next := im.statePath() + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, im.statePath())
}

// lines reads one value a line; empty lines are passed over.
func (im *listImport) lines() func() ([]byte, error) {
	in := bufio.NewReaderSize(im.file.plain, 64<<10)
	return func() ([]byte, error) {
		for {
			line, err := in.ReadSlice('\n')
			if errors.Is(err, bufio.ErrBufferFull) {
				return nil, errors.New("a line is longer than 64 KiB")
			}
			if line = bytes.TrimSpace(line); len(line) > 0 {
				return line, nil
			}
			if err != nil {
				return nil, err
			}
		}
	}
}

// digests reads digests of 32 bytes, one after the other.
func (im *listImport) digests() func() ([]byte, error) {
	in := bufio.NewReaderSize(im.file.plain, 64<<10)
	room := make([]byte, sha256.Size)
	return func() ([]byte, error) {
		_, err := io.ReadFull(in, room)
		return room, err
	}
}

// column reads one column of a file with cells.
func (im *listImport) column() (func() ([]byte, error), error) {
	header := im.file.header
	column := im.o.Column
	if column == "" && len(header) == 1 {
		column = header[0]
	}
	at := -1
	for i, name := range header {
		if name == column {
			at = i
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("name the column of the values; the file has %s",
			strings.Join(header, ", "))
	}
	return func() ([]byte, error) {
		_, rec, err := im.file.next()
		var bad *badRecord
		if errors.As(err, &bad) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		text, _ := rec.values[at].(string)
		return []byte(strings.TrimSpace(text)), nil
	}, nil
}

// listPrint is a digest of what decides the values of an import: the file's
// bytes and how they are read.
func listPrint(o *ListOptions) (string, error) {
	return digestFile(o.Path,
		fmt.Appendf(nil, "%q %q %q %t %t\n", o.List, o.Kind, o.Column, o.Hashed, o.Remove))
}

// plainName is a file's name without the ending of its packing.
func plainName(path string) string {
	name := strings.ToLower(filepath.Base(path))
	return strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
}
