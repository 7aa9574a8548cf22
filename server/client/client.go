// Package client talks to a running tact server: definitions, revisions, users,
// statistics, and the import of files.
//
// Laws, each with a test:
//  1. A request that may be sent again without harm is sent again after 429, 503
//     and a lost connection, with growing waits, and no other request is.
//  2. An import that was interrupted and is started again sends no line that was
//     acknowledged, and every line that was not; a line sent twice is applied once.
//  3. Lines of one user_id reach the server in the order of the file.
//  4. Every line of a file is counted once: applied, duplicate or rejected, and
//     the rejected ones are named with line and reason.
//
// Path: [Import] reads a file record by record, maps each to a line, and sends
// batches of at most 1,000 lines; memory is bounded by the lines of one round.
//
// Cost: one reading of the file for its digest and one for its records; each round
// waits for the slowest of its requests.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxReply bounds the bytes read of one reply.
const maxReply = 64 << 20

// Client is a connection to one server. It is safe for concurrent use.
type Client struct {
	base string
	key  string
	http *http.Client
	wait func(context.Context, time.Duration) error // between attempts
}

// New makes a client of the server at address (host:port, or a URL with scheme)
// with an API key. It does not connect.
func New(address, key string) *Client {
	base := strings.TrimSuffix(address, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		MaxIdleConnsPerHost:   maxConnections,
		IdleConnTimeout:       20 * time.Second, // below the server's 30 s
		ResponseHeaderTimeout: time.Minute,
		DisableCompression:    true,
	}
	return &Client{
		base: base, key: key,
		http: &http.Client{Transport: transport},
		wait: sleep,
	}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is a problem document that the server answered with.
type Error struct {
	Status     int           `json:"status"`
	Code       string        `json:"code"`
	Field      string        `json:"field"`
	Detail     string        `json:"detail"`
	Faults     []Fault       `json:"errors"`
	Tests      []TestOutcome `json:"tests"`
	RetryAfter time.Duration `json:"-"` // 0 when the server named none
}

// Unwrap returns ErrDamaged when the server met damage.
func (e *Error) Unwrap() error {
	if e.Code == "damaged" {
		return ErrDamaged
	}
	return nil
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server answered %d", e.Status)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Field != "" {
		b.WriteString(" (" + e.Field + ")")
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String()
}

// call is one request. Again says that it may be sent more than once.
type call struct {
	method string
	path   string
	kind   string // Content-Type of body
	header map[string]string
	body   []byte
	again  bool
}

// attempts bounds how often a call is sent: the waits between add up to about 25 s.
const attempts = 10

// do sends a call and gives the body and the header of a 2xx reply; any other
// reply is an *Error.
func (c *Client) do(ctx context.Context, r call) ([]byte, http.Header, error) {
	wait := 50 * time.Millisecond
	for n := 1; ; n++ {
		body, header, err := c.once(ctx, r)
		pause, again := retry(err, wait)
		if err == nil || !r.again || !again || n == attempts || ctx.Err() != nil {
			return body, header, err
		}
		if err := c.wait(ctx, pause); err != nil {
			return nil, nil, err
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// retry says whether an error may go away, and how long to wait.
func retry(err error, wait time.Duration) (time.Duration, bool) {
	var p *Error
	if !errors.As(err, &p) {
		return wait, true
	}
	again := p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable
	return max(wait, min(p.RetryAfter, time.Minute)), again
}

func (c *Client) once(ctx context.Context, r call) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, nil, err
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reply of %s: %w", r.path, err)
	}
	if len(body) > maxReply {
		return nil, nil, fmt.Errorf("reply of %s has more than %d bytes", r.path, maxReply)
	}
	if res.StatusCode/100 == 2 {
		return body, res.Header, nil
	}
	return nil, res.Header, problem(res, body)
}

// problem reads a problem document; a reply that is none keeps its status.
func problem(res *http.Response, body []byte) *Error {
	p := &Error{}
	if json.Unmarshal(body, p) != nil {
		p = &Error{Detail: http.StatusText(res.StatusCode)}
	}
	p.Status = res.StatusCode
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// getJSON sends a GET and decodes its reply.
func (c *Client) getJSON(ctx context.Context, path string, out any) error {
	body, _, err := c.do(ctx, call{method: http.MethodGet, path: path, again: true})
	if err != nil {
		return err
	}
	return decode(path, body, out)
}

func decode(path string, body []byte, out any) error {
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("reply of %s: %w", path, err)
	}
	return nil
}

// User gives a person as JSON. A person never seen is an *Error of status 404.
func (c *Client) User(ctx context.Context, id string) (json.RawMessage, error) {
	body, _, err := c.do(ctx, call{
		method: http.MethodGet, path: "/v1/users/" + url.PathEscape(id), again: true,
	})
	return body, err
}

// Decide sends the body of POST /v1/decide and gives the reply. It is sent
// again after a fault only when again is set: a live request needs a request_id
// for that.
func (c *Client) Decide(ctx context.Context, body []byte, again bool) (json.RawMessage, error) {
	reply, _, err := c.do(ctx, call{
		method: http.MethodPost, path: "/v1/decide", kind: "application/json", body: body, again: again,
	})
	return reply, err
}

// StatsRow is one row of the statistics. Variant is "experiment/variant", or
// empty for the row over everybody.
type StatsRow struct {
	OfferID     string  `json:"offer_id"`
	TreatmentID string  `json:"treatment_id"`
	Variant     string  `json:"variant"`
	What        string  `json:"what"`
	N           uint64  `json:"n"`
	Value       float64 `json:"value"`
}

// Stats reads the statistics; an empty offer or variant does not filter.
func (c *Client) Stats(ctx context.Context, offer, variant string) ([]StatsRow, error) {
	q := url.Values{}
	if offer != "" {
		q.Set("offer", offer)
	}
	if variant != "" {
		q.Set("variant", variant)
	}
	path := "/v1/stats"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	var out struct {
		Rows []StatsRow `json:"rows"`
	}
	err := c.getJSON(ctx, path, &out)
	return out.Rows, err
}

// Ready says whether the server takes traffic, and if not, why.
func (c *Client) Ready(ctx context.Context) (bool, []string, error) {
	var out struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}
	body, _, err := c.once(ctx, call{method: http.MethodGet, path: "/readyz"})
	var p *Error
	if errors.As(err, &p) && p.Status == http.StatusServiceUnavailable {
		return false, strings.Split(p.Detail, "; "), nil
	}
	if err != nil {
		return false, nil, err
	}
	err = decode("/readyz", body, &out)
	return out.Ready, out.Reasons, err
}
