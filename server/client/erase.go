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
)

const (
	// eraseLines is how many people one request erases; a line has at most eraseLine
	// bytes.
	eraseLines = 500
	eraseLine  = 64 << 10
)

// EraseOptions says whom to erase. Path is required: a file with one user id a line,
// or one JSON object a line, {"user_id": …} or {"identities": [{"type", "value"}]}.
type EraseOptions struct {
	Path string
	// Receipts is where the receipts go, a line of JSON each, with the number of the
	// line in Path; "" = Path with .receipts.ndjson behind it. It names nobody.
	Receipts string
	Restart  bool // forget an interrupted erasure of the same file
	// Progress, when set, is called after every acknowledged request.
	Progress func(ErasedList)
}

// ErasedList is how far an erasure has come, earlier runs counted.
type ErasedList struct {
	Bytes, TotalBytes int64
	Erased            int64 // by this and earlier runs
	Before            int64 // had been erased before
	Unknown           int64 // nobody of that id is there, or ever was
	Rejected          int64 // lines that name nobody
	Resumed           int64 // lines of earlier runs
	Receipts          string
}

// erasedLine is a line of the file of receipts.
type erasedLine struct {
	Line    int64           `json:"line"`
	Receipt string          `json:"receipt,omitempty"`
	At      string          `json:"erased_at,omitempty"`
	Purged  string          `json:"purged_at,omitempty"`
	Before  bool            `json:"before,omitempty"`
	Removed json.RawMessage `json:"removed,omitempty"`
	Error   *erasedError    `json:"error,omitempty"`
}

type erasedError struct {
	Code   string `json:"code"`
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// erasedHead is the first line: what the receipts are of.
type erasedHead struct {
	List string `json:"list_sha256"`
}

// Person names one person: by user id or, when Identity is a type of identities, by
// the value of one of that type.
type Person struct{ ID, Identity string }

// path is that of the person with something behind it.
func (p Person) path(behind string) string {
	path := "/v1/users/" + url.PathEscape(p.ID) + behind
	if p.Identity != "" {
		path += "?identity=" + url.QueryEscape(p.Identity)
	}
	return path
}

// EraseUser erases one person and gives the receipt.
func (c *Client) EraseUser(ctx context.Context, who Person) (json.RawMessage, error) {
	body, _, err := c.do(ctx, call{method: http.MethodDelete, path: who.path(""), again: true})
	return body, err
}

// ErasedPerson is an entry of a server's ledger of erasures, as it names people.
type ErasedPerson struct {
	Workspace uint32 `json:"workspace"`
	Slot      uint16 `json:"slot"`
	Person    uint64 `json:"person"`
}

// Ledger is what a server says of its ledger of erasures as a whole, in hexadecimal.
type Ledger struct {
	Store string   `json:"store"` // its id
	Names []string `json:"names"` // that went with the last person who had them: their keys
}

// Erasures reads a server's ledger of erasures. A reply that breaks off is an error
// that [BrokenOff] knows.
func (c *Client) Erasures(ctx context.Context, f func(ErasedPerson)) (
	end Ledger, err error,
) {
	res, err := c.opened(ctx, func() (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/erasures", nil)
	})
	if err != nil {
		return end, err
	}
	defer res.Body.Close()
	err = eachLine(res.Body, func(line []byte) (done bool, err error) {
		var entry struct {
			Done  bool   `json:"done"`
			Error *Error `json:"error"`
			Ledger
			ErasedPerson
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			return true, fmt.Errorf("%w: %w", errBrokenOff, err)
		}
		if entry.Error != nil {
			return true, faultOf(line)
		}
		if entry.Done {
			end = entry.Ledger
			return true, nil
		}
		f(entry.ErasedPerson)
		return false, nil
	})
	return end, err
}

// Receipt gives the receipt of an erasure as it stands.
func (c *Client) Receipt(ctx context.Context, receipt string) (json.RawMessage, error) {
	body, _, err := c.do(ctx, call{
		method: http.MethodGet, path: "/v1/erasures/" + url.PathEscape(receipt), again: true,
	})
	return body, err
}

// Purge waits until no file of the server, nor of its backups, holds the keys of those
// who were erased.
func (c *Client) Purge(ctx context.Context) error {
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/erasures:purge", again: true})
	return err
}

// ExportUser writes everything that is held of a person, as JSON, to out.
func (c *Client) ExportUser(ctx context.Context, who Person, out io.Writer) error {
	res, err := c.opened(ctx, func() (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, c.base+who.path("/export"), nil)
	})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(out, res.Body)
	return err
}

// EraseList erases the people of a file. What was interrupted goes on behind the last
// receipt when it is started again with the same content. Memory: one request.
func (c *Client) EraseList(ctx context.Context, o EraseOptions) (ErasedList, error) {
	e, err := c.openErase(&o)
	if err != nil {
		return ErasedList{}, err
	}
	defer e.list.Close()
	for {
		end, err := e.round(ctx)
		if err != nil {
			return e.done, errors.Join(err, e.out.Close())
		}
		if o.Progress != nil {
			o.Progress(e.done)
		}
		if end {
			return e.done, errors.Join(e.out.Sync(), e.out.Close())
		}
	}
}

// erasing is an erasure under way.
type erasing struct {
	c    *Client
	list *os.File
	in   *bufio.Reader
	out  *os.File
	line int64 // read
	done ErasedList
}

func (c *Client) openErase(o *EraseOptions) (*erasing, error) {
	list, err := os.Open(o.Path)
	if err != nil {
		return nil, err
	}
	e := &erasing{c: c, list: list, in: bufio.NewReaderSize(list, 64<<10)}
	e.done.Receipts = o.Receipts
	if o.Receipts == "" {
		e.done.Receipts = o.Path + ".receipts.ndjson"
	}
	sum := sha256.New()
	if e.done.TotalBytes, err = io.Copy(sum, list); err == nil {
		_, err = list.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = e.resume(erasedHead{hex.EncodeToString(sum.Sum(nil))}, o.Restart)
	}
	if err != nil {
		return nil, errors.Join(err, list.Close())
	}
	return e, nil
}

// resume opens the file of receipts, and reads past the lines that have one.
func (e *erasing) resume(head erasedHead, restart bool) error {
	flags := os.O_RDWR | os.O_CREATE
	if restart {
		flags |= os.O_TRUNC
	}
	out, err := os.OpenFile(e.done.Receipts, flags, 0o600)
	if err != nil {
		return err
	}
	size, err := e.count(out, head)
	if err == nil {
		err = out.Truncate(size) // a line that was cut off
	}
	if err == nil {
		_, err = out.Seek(size, io.SeekStart)
	}
	if err == nil && size == 0 {
		line, _ := json.Marshal(head) // of strings: it cannot go wrong
		_, err = out.Write(append(line, '\n'))
	}
	for last := e.done.Resumed; err == nil && e.line < last; {
		_, err = e.next()
	}
	if err != nil {
		return errors.Join(err, out.Close())
	}
	e.out = out
	return nil
}

// count reads the receipts there are: Resumed becomes the last line that has one. It
// returns the bytes of whole lines.
func (e *erasing) count(out io.Reader, head erasedHead) (size int64, err error) {
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
		if size == 0 {
			var of erasedHead
			if json.Unmarshal(line, &of) != nil || of != head {
				return 0, fmt.Errorf("%s holds the receipts of another list: use --restart, or "+
					"another file", e.done.Receipts)
			}
		} else {
			var r erasedLine
			if err := json.Unmarshal(line, &r); err != nil {
				return 0, fmt.Errorf("%s: %w", e.done.Receipts, err)
			}
			e.tally(&r)
			e.done.Resumed = r.Line
		}
		size += int64(len(line))
	}
}

func (e *erasing) tally(r *erasedLine) {
	switch {
	case r.Error != nil && r.Error.Code == "user_not_found":
		e.done.Unknown++
	case r.Error != nil:
		e.done.Rejected++
	case r.Before:
		e.done.Before++
	default:
		e.done.Erased++
	}
}

// next reads a line of the list.
func (e *erasing) next() ([]byte, error) {
	line, err := e.in.ReadBytes('\n')
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	e.line++
	e.done.Bytes += int64(len(line))
	if len(line) > eraseLine {
		return nil, fmt.Errorf("line %d has more than %d bytes", e.line, eraseLine)
	}
	return bytes.TrimSpace(line), nil
}

// round erases the next people, and writes their receipts.
func (e *erasing) round(ctx context.Context) (end bool, err error) {
	var users []json.RawMessage
	var lines []int64
	for size := 0; len(users) < eraseLines && size < eraseLine; {
		line, err := e.next()
		if errors.Is(err, io.EOF) {
			end = true
			break
		}
		if err != nil {
			return false, err
		}
		if len(line) == 0 {
			continue
		}
		if line[0] != '{' {
			id, err := json.Marshal(string(line))
			if err != nil {
				return false, err
			}
			line = fmt.Appendf(nil, `{"user_id":%s}`, id)
		} else if !json.Valid(line) {
			return false, fmt.Errorf("line %d is not JSON", e.line)
		}
		size += len(line)
		users, lines = append(users, line), append(lines, e.line)
	}
	if len(users) == 0 {
		return end, nil
	}
	return end, e.send(ctx, users, lines)
}

func (e *erasing) send(ctx context.Context, users []json.RawMessage, lines []int64) error {
	body, err := json.Marshal(map[string]any{"users": users})
	if err != nil {
		return err
	}
	reply, _, err := e.c.do(ctx, call{
		method: http.MethodPost, path: "/v1/users:erase", kind: "application/json", body: body,
		again: true,
	})
	if err != nil {
		return fmt.Errorf("lines %d to %d: %w", lines[0], lines[len(lines)-1], err)
	}
	var got struct{ Receipts []erasedLine }
	if err := decode("/v1/users:erase", reply, &got); err != nil {
		return err
	}
	if len(got.Receipts) != len(lines) {
		return fmt.Errorf("%d receipts of %d people", len(got.Receipts), len(lines))
	}
	var out bytes.Buffer
	for i := range got.Receipts {
		r := &got.Receipts[i]
		r.Line = lines[i]
		e.tally(r)
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	_, err = e.out.Write(out.Bytes())
	return err
}
