package loadtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Names of scenarios. Each arrival of one is a person who does something.
const (
	PageLoad   = "page"   // one decision for one placement
	MultiSlot  = "multi"  // one decision for all placements
	Events     = "events" // one event
	ReadWrites = "ryw"    // an event and, once it is answered, a decision of that user
	Batch      = "batch"  // many events, one a line
	Mixed      = "mixed"  // the above by weight
	Recorded   = "log"    // requests of a recorded log, in order
)

// Scenario says what is asked. Zero values take the defaults beside the fields,
// which fit the shop of `tact demo`.
type Scenario struct {
	Name       string          `json:"name"`             // default page
	Users      uint64          `json:"users"`            // ids u1 … uN; default 100,000
	Zipf       float64         `json:"zipf"`             // skew of users; 0 is uniform
	Placements []string        `json:"placements"`       // default home_hero
	Context    json.RawMessage `json:"context"`          // object; default {"page":"home"}
	DecideMode string          `json:"decide_mode"`      // live (default) or dry_run
	Event      string          `json:"event"`            // default page_viewed
	Properties json.RawMessage `json:"properties"`       // object; default {"page":"home"}
	Lines      int             `json:"lines"`            // of a batch, 1 to 10,000; default 100
	Mix        map[string]int  `json:"mix,omitempty"`    // weights of mixed
	Log        string          `json:"log,omitempty"`    // file of the recorded log
	Expect     string          `json:"expect,omitempty"` // text that every decision must hold
	Nonce      string          `json:"-"`                // makes event ids new in every run
}

const (
	maxUsers    = 1 << 32
	maxLines    = 10_000
	maxLogBytes = 256 << 20
	maxKinds    = 16 // kinds of requests told apart; later ones share the last
)

func (s *Scenario) withDefaults() error {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&s.Name, PageLoad)
	set(&s.DecideMode, "live")
	set(&s.Event, "page_viewed")
	if s.Users == 0 {
		s.Users = 100_000
	}
	if s.Lines == 0 {
		s.Lines = 100
	}
	if len(s.Placements) == 0 {
		s.Placements = []string{"home_hero"}
		if s.Name == MultiSlot || s.Name == Mixed {
			s.Placements = []string{"home_hero", "app_banner", "email_weekly"}
		}
	}
	for _, object := range []*json.RawMessage{&s.Context, &s.Properties} {
		if len(*object) == 0 {
			*object = json.RawMessage(`{"page":"home"}`)
		}
	}
	if s.Name == Mixed && len(s.Mix) == 0 {
		s.Mix = map[string]int{PageLoad: 70, MultiSlot: 15, ReadWrites: 10, Events: 4, Batch: 1}
	}
	return s.validate()
}

// validate names all faults at once and brings the objects on one line.
func (s *Scenario) validate() error {
	var errs []error
	names := []string{PageLoad, MultiSlot, Events, ReadWrites, Batch, Mixed, Recorded}
	if !slices.Contains(names, s.Name) {
		errs = append(errs, fmt.Errorf("scenario %q: is none of %s", s.Name,
			strings.Join(names, ", ")))
	}
	if (s.Name == Recorded) != (s.Log != "") {
		errs = append(errs, errors.New("the scenario log and a log file belong together"))
	}
	if s.Users > maxUsers {
		errs = append(errs, fmt.Errorf("%d users: at most %d", s.Users, uint64(maxUsers)))
	}
	if !(s.Zipf >= 0 && s.Zipf <= 10) {
		errs = append(errs, fmt.Errorf("zipf %v: want 0 to 10", s.Zipf))
	}
	if s.Lines < 1 || s.Lines > maxLines {
		errs = append(errs, fmt.Errorf("%d lines: want 1 to %d", s.Lines, maxLines))
	}
	if s.DecideMode != "live" && s.DecideMode != "dry_run" {
		errs = append(errs, fmt.Errorf("decide mode %q: want live or dry_run", s.DecideMode))
	}
	for name, object := range map[string]json.RawMessage{
		"context": s.Context, "properties": s.Properties,
	} {
		if !json.Valid(object) || !bytes.HasPrefix(bytes.TrimSpace(object), []byte("{")) {
			errs = append(errs, fmt.Errorf("%s: is not a JSON object", name))
		}
	}
	for name, weight := range s.Mix {
		if !slices.Contains(names[:5], name) || weight < 0 || weight > 1_000_000 {
			errs = append(errs, fmt.Errorf("mix %s=%d: want a scenario and a weight", name, weight))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// A line feed inside would end a line of a batch.
	for _, object := range []*json.RawMessage{&s.Context, &s.Properties} {
		var b bytes.Buffer
		if err := json.Compact(&b, *object); err != nil {
			return err
		}
		*object = b.Bytes()
	}
	return nil
}

// target turns the number of an arrival into its requests. It is pure: equal
// scenario, seed and number give equal bytes, whoever asks.
type target struct {
	scenario Scenario
	seed     uint64
	zipf     *zipf
	scatter  uint64            // prime that spreads the popular users over all ids
	heads    map[string][]byte // request line and headers by kind, up to Content-Length
	event    []byte            // its name as JSON
	decide   [2]decideParts    // for page load and for all placements
	mix      []string          // scenario by cumulative weight
	weights  []uint64
	log      []recordedRequest
	kinds    []string // names of kinds of requests
}

type decideParts struct{ before, after []byte } // the user id stands between them

type recordedRequest struct {
	kind uint8
	text []byte // the whole request
}

// Kinds of requests of the built-in scenarios: positions in target.kinds.
const (
	kindDecide uint8 = iota
	kindDecideMulti
	kindEvent
	kindBatch
)

func newTarget(s Scenario, seed uint64, a address, key string) (*target, error) {
	t := &target{
		scenario: s, seed: seed, heads: map[string][]byte{}, event: quote(s.Event),
		kinds: []string{"decide", "decide multi", "event", "event batch"},
	}
	if s.Zipf > 0 {
		t.zipf = newZipf(s.Users, s.Zipf)
	}
	t.scatter = 2_654_435_761
	if s.Users%t.scatter == 0 {
		t.scatter = 1
	}
	head := func(name, method, path, contentType string) {
		t.heads[name] = requestHead(method, path, contentType, a.host, key)
	}
	head("decide", "POST", "/v1/decide", "application/json")
	head("event", "POST", "/v1/events", "application/json")
	head("batch", "POST", "/v1/events", "application/x-ndjson")
	for i, placements := range [][]string{s.Placements[:1], s.Placements} {
		t.decide[i] = decideBody(s, placements)
	}
	if s.Name == Mixed {
		sum := uint64(0)
		for _, name := range []string{PageLoad, MultiSlot, Events, ReadWrites, Batch} {
			sum += uint64(s.Mix[name])
			t.mix, t.weights = append(t.mix, name), append(t.weights, sum)
		}
		if sum == 0 {
			return nil, errors.New("mix: all weights are 0")
		}
	}
	if s.Name == Recorded {
		return t, t.readLog(a, key)
	}
	return t, nil
}

// requestHead is everything before the length of the body.
func requestHead(method, path, contentType, host, key string) []byte {
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	if contentType != "" {
		b = fmt.Appendf(b, "Content-Type: %s\r\n", contentType)
	}
	if key != "" {
		b = fmt.Appendf(b, "Authorization: Bearer %s\r\n", key)
	}
	return append(b, "Content-Length: "...)
}

// quote is the JSON form of a text; every text has one.
func quote(text string) []byte {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return b
}

// decideBody is a request of POST /v1/decide around the user's id.
func decideBody(s Scenario, placements []string) decideParts {
	p := decideParts{before: []byte(`{"user":{"user_id":"`)}
	p.after = append(p.after, `"},"placements":[`...)
	for i, placement := range placements {
		if i > 0 {
			p.after = append(p.after, ',')
		}
		p.after = fmt.Appendf(p.after, `{"key":"p%d","placement_id":%s}`, i, quote(placement))
	}
	p.after = append(append(p.after, `],"context":`...), s.Context...)
	if s.DecideMode != "live" {
		p.after = fmt.Appendf(p.after, `,"mode":%s`, quote(s.DecideMode))
	}
	p.after = append(p.after, '}')
	return p
}

// steps is how many requests the arrival makes, one after the other.
func (t *target) steps(index int64) int {
	if t.name(index) == ReadWrites {
		return 2
	}
	return 1
}

// name is the scenario of the arrival: its own under mixed.
func (t *target) name(index int64) string {
	if t.mix == nil {
		return t.scenario.Name
	}
	d := newDraw(^t.seed, index)
	at := d.below(t.weights[len(t.weights)-1])
	for i, w := range t.weights {
		if at < w {
			return t.mix[i]
		}
	}
	return t.mix[0]
}

// user draws the number of a user, 1 to Users.
func (t *target) user(d *draw) uint64 {
	if t.zipf == nil {
		return 1 + d.below(t.scenario.Users)
	}
	return 1 + (t.zipf.rank(d)-1)*t.scatter%t.scenario.Users
}

// kind says of which kind one step of an arrival is.
func (t *target) kind(index int64, step int) uint8 {
	if t.log != nil {
		return t.log[index%int64(len(t.log))].kind
	}
	switch name := t.name(index); {
	case name == Batch:
		return kindBatch
	case name == Events || name == ReadWrites && step == 0:
		return kindEvent
	case name == MultiSlot:
		return kindDecideMulti
	}
	return kindDecide
}

// append appends the whole request of one step of an arrival to dst and says of
// which kind it is.
func (t *target) append(dst []byte, index int64, step int) ([]byte, uint8) {
	kind := t.kind(index, step)
	if t.log != nil {
		return append(dst, t.log[index%int64(len(t.log))].text...), kind
	}
	d := newDraw(t.seed, index)
	switch kind {
	case kindBatch:
		return t.appendBatch(dst, &d, index), kind
	case kindEvent:
		return t.frame(dst, "event", func(b []byte) []byte {
			return t.appendEvent(b, t.user(&d), index, 0)
		}), kind
	case kindDecideMulti:
		return t.appendDecide(dst, &d, 1), kind
	}
	return t.appendDecide(dst, &d, 0), kind
}

func (t *target) appendDecide(dst []byte, d *draw, which int) []byte {
	p := &t.decide[which]
	user := t.user(d)
	length := len(p.before) + 1 + digits(user) + len(p.after)
	dst = append(dst, t.heads["decide"]...)
	dst = strconv.AppendInt(dst, int64(length), 10)
	dst = append(dst, "\r\n\r\n"...)
	dst = append(append(dst, p.before...), 'u')
	return append(strconv.AppendUint(dst, user, 10), p.after...)
}

func digits(n uint64) int {
	count := 1
	for ; n >= 10; n /= 10 {
		count++
	}
	return count
}

// frame appends a request whose body is written by f.
func (t *target) frame(dst []byte, head string, f func([]byte) []byte) []byte {
	dst = append(dst, t.heads[head]...)
	const room = "0000000000" // leading zeros are allowed in Content-Length
	at := len(dst)
	dst = append(dst, room+"\r\n\r\n"...)
	start := len(dst)
	dst = f(dst)
	for i, n := at+len(room)-1, len(dst)-start; n > 0; i, n = i-1, n/10 {
		dst[i] = byte('0' + n%10)
	}
	return dst
}

func (t *target) appendEvent(b []byte, user uint64, index int64, line int) []byte {
	b = append(b, `{"event_id":"lt-`...)
	b = append(b, t.scenario.Nonce...)
	b = strconv.AppendInt(append(b, '-'), index, 36)
	b = strconv.AppendInt(append(b, '-'), int64(line), 36)
	b = strconv.AppendUint(append(b, `","user_id":"u`...), user, 10)
	b = append(append(b, `","event":`...), t.event...)
	b = append(append(b, `,"properties":`...), t.scenario.Properties...)
	return append(b, '}')
}

func (t *target) appendBatch(dst []byte, d *draw, index int64) []byte {
	return t.frame(dst, "batch", func(b []byte) []byte {
		for line := range t.scenario.Lines {
			b = append(t.appendEvent(b, t.user(d), index, line), '\n')
		}
		return b
	})
}

// readLog loads a recorded log: a line is {"method","path","body"}, where body
// is absent, a text, or a JSON value that is sent as it is written.
func (t *target) readLog(a address, key string) error {
	f, err := os.Open(t.scenario.Log)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() > maxLogBytes {
		return fmt.Errorf("log %s: %d bytes, at most %d", t.scenario.Log, info.Size(), maxLogBytes)
	}
	t.kinds = nil
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 8<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		r, err := t.recorded(lines.Bytes(), a, key)
		if err != nil {
			return fmt.Errorf("log %s:%d: %w", t.scenario.Log, n, err)
		}
		t.log = append(t.log, r)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("log %s: %w", t.scenario.Log, err)
	}
	if len(t.log) == 0 {
		return fmt.Errorf("log %s: no request in it", t.scenario.Log)
	}
	return nil
}

func (t *target) recorded(line []byte, a address, key string) (recordedRequest, error) {
	var doc struct {
		Method      string          `json:"method"`
		Path        string          `json:"path"`
		ContentType string          `json:"content_type"`
		Body        json.RawMessage `json:"body"`
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return recordedRequest{}, err
	}
	clean := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
	}
	if doc.Method == "" || !clean(doc.Method) || !strings.HasPrefix(doc.Path, "/") ||
		!clean(doc.Path) || strings.ContainsAny(doc.ContentType, "\r\n") {
		return recordedRequest{}, errors.New("method, path or content_type cannot be sent")
	}
	if doc.Method == "HEAD" || doc.Method == "CONNECT" {
		return recordedRequest{}, fmt.Errorf("method %s has no whole reply to wait for", doc.Method)
	}
	body := []byte(doc.Body)
	if len(body) > 0 && body[0] == '"' {
		var text string
		if err := json.Unmarshal(body, &text); err != nil {
			return recordedRequest{}, err
		}
		body = []byte(text)
	}
	if doc.ContentType == "" && len(body) > 0 {
		doc.ContentType = "application/json"
	}
	text := requestHead(doc.Method, doc.Path, doc.ContentType, a.host, key)
	text = fmt.Appendf(text, "%d\r\n\r\n%s", len(body), body)
	path, _, _ := strings.Cut(doc.Path, "?")
	return recordedRequest{t.kindOf(doc.Method + " " + path), text}, nil
}

// kindOf numbers the kinds of requests of a log.
func (t *target) kindOf(name string) uint8 {
	if i := slices.Index(t.kinds, name); i >= 0 {
		return uint8(i)
	}
	if len(t.kinds) == maxKinds-1 {
		name = "other"
	}
	if len(t.kinds) < maxKinds {
		t.kinds = append(t.kinds, name)
	}
	return uint8(len(t.kinds) - 1)
}

// decides says whether replies of the kind are decisions.
func (t *target) decides(kind uint8) bool {
	return strings.HasPrefix(t.kinds[kind], "decide") ||
		strings.HasSuffix(t.kinds[kind], "/v1/decide")
}
