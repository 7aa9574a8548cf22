package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// queryPath answers for whom a rule, a segment or an offer is.
const queryPath = "/v1/eligibility:query"

// maxQueryLine bounds one line of a streamed reply.
const maxQueryLine = 16 << 20

// Query says which people are asked for: docs/bulk.md has the members.
type Query struct {
	Rule      json.RawMessage `json:"rule,omitempty"`
	Segment   string          `json:"segment,omitempty"`
	Offer     string          `json:"offer,omitempty"`
	Placement string          `json:"placement_id,omitempty"`
	Channel   string          `json:"channel,omitempty"`
	Gates     []string        `json:"gates,omitempty"` // caps, consent, holdout
	Context   json.RawMessage `json:"context,omitempty"`

	Cursor     string   `json:"cursor,omitempty"`
	Format     string   `json:"format,omitempty"`
	Attributes []string `json:"attributes,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	Limit      int64    `json:"limit,omitempty"`
}

// on is the same query from a cursor on: what it asks is in the cursor.
func (q Query) on(cursor string) Query {
	return Query{
		Cursor: cursor, Format: q.Format, Attributes: q.Attributes, Tags: q.Tags, Limit: q.Limit,
	}
}

// QueryHead is when and by what everybody was judged, and how many there are.
// Reason says why an offer is for nobody.
type QueryHead struct {
	At       time.Time `json:"at"`
	Revision uint32    `json:"config_version"`
	Users    int64     `json:"users"`
	ByDay    int64     `json:"by_day,omitempty"` // people of whom a window was answered by day
	Reason   string    `json:"reason,omitempty"`
	Cursor   string    `json:"cursor,omitempty"`
	Ordinals string    `json:"ordinals,omitempty"`
	// Positions are how far each log group had come, by its number.
	Positions json.RawMessage `json:"positions,omitempty"`
}

// Count asks how many people there are.
func (c *Client) Count(ctx context.Context, q Query) (head QueryHead, err error) {
	q.Format = "count"
	body, err := json.Marshal(q)
	if err != nil {
		return head, err
	}
	reply, _, err := c.do(ctx, call{
		method: http.MethodPost, path: queryPath, kind: "application/json", body: body, again: true,
	})
	if err != nil {
		return head, err
	}
	return head, decode(queryPath, reply, &head)
}

// Answer is what People hands on, one call for each line: the head first, then
// people, as the server wrote them, and cursors behind which it can be taken up.
type Answer struct {
	Head   func(QueryHead) error
	Person func(line []byte) error // a JSON string or object, without line feed
	Cursor func(cursor string) error
}

// queryLine is what a line may be beside a person.
type queryLine struct {
	QueryHead
	Done  bool   `json:"done"`
	Error *Error `json:"error"`
}

// errBrokenOff reports a reply that broke off.
var errBrokenOff = errors.New("the reply broke off")

// People streams the people of a query, format ids or ndjson, in the order of
// groups and ordinals. It returns the cursor of the last line when a limit ended
// the reply, else "". A reply that breaks off is an error that [BrokenOff] knows.
func (c *Client) People(ctx context.Context, q Query, a Answer) (cursor string, err error) {
	res, err := c.stream(ctx, q)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	err = eachLine(res.Body, func(line []byte) (done bool, err error) {
		done, cursor, err = a.line(line)
		return done, err
	})
	return cursor, err
}

// eachLine calls f for each line of a streamed reply, without its line feed, until
// f says that it is done. A reply that ends before that broke off.
func eachLine(body io.Reader, f func(line []byte) (done bool, err error)) error {
	in := bufio.NewReaderSize(body, 256<<10)
	var long []byte
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, line...); len(long) > maxQueryLine {
				return fmt.Errorf("a line of more than %d bytes", maxQueryLine)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errBrokenOff, err)
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
		}
		if done, err := f(bytes.TrimSuffix(line, []byte("\n"))); done || err != nil {
			return err
		}
		long = long[:0]
	}
}

// BrokenOff tells whether a reply broke off, so that it can be taken up by cursor.
func BrokenOff(err error) bool { return errors.Is(err, errBrokenOff) }

// line hands on one line.
func (a *Answer) line(line []byte) (done bool, cursor string, err error) {
	if !bytes.HasPrefix(line, []byte(`{"at"`)) && !bytes.HasPrefix(line, []byte(`{"cursor"`)) &&
		!bytes.HasPrefix(line, []byte(`{"done"`)) && !bytes.HasPrefix(line, []byte(`{"error"`)) {
		return false, "", a.Person(line)
	}
	var l queryLine
	if err := json.Unmarshal(line, &l); err != nil {
		return false, "", fmt.Errorf("%w: %w", errBrokenOff, err)
	}
	switch {
	case l.Error != nil:
		return true, "", l.Error
	case l.Done:
		return true, l.Cursor, nil
	case !l.At.IsZero():
		if a.Head == nil {
			return false, "", nil
		}
		return false, "", a.Head(l.QueryHead)
	case a.Cursor != nil:
		return false, "", a.Cursor(l.Cursor)
	}
	return false, "", nil
}

// stream sends a query and gives its reply, which the caller closes. It is sent
// again while the server is busy.
func (c *Client) stream(ctx context.Context, q Query) (*http.Response, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	return c.opened(ctx, func() (*http.Request, error) {
		req, err := http.NewRequestWithContext(
			ctx, http.MethodPost, c.base+queryPath, bytes.NewReader(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/json")
		}
		return req, err
	})
}

// opened sends a request that makes nothing, again while the server is busy, and
// gives its reply, which the caller closes.
func (c *Client) opened(
	ctx context.Context, request func() (*http.Request, error),
) (*http.Response, error) {
	wait := 50 * time.Millisecond
	for n := 1; ; n++ {
		res, err := c.open(request)
		pause, again := retry(err, wait)
		if err == nil || !again || n == attempts || ctx.Err() != nil {
			return res, err
		}
		if err := c.wait(ctx, pause); err != nil {
			return nil, err
		}
		wait = min(2*wait, 5*time.Second)
	}
}

func (c *Client) open(request func() (*http.Request, error)) (*http.Response, error) {
	req, err := request()
	if err != nil {
		return nil, err
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return nil, problem(res, reply)
}
