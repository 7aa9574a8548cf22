package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/parquet-go/parquet-go"
	"github.com/valyala/fasthttp"

	"tact/engine"
)

// fill makes n users u0 … whose first_name is n0 …, the first ten of them vips.
func (r *running) fill(n int) {
	r.t.Helper()
	var body strings.Builder
	for i := range n {
		fmt.Fprintf(&body, `{"user_id":"u%d","attributes":{"first_name":"n%d"}}`+"\n", i, i)
	}
	body.WriteString(`{"identities":[{"type":"email","value":"a@example.com"}]}` + "\n")
	status, reply, _ := r.do(ask{
		method: "POST", path: "/v1/users", kind: "application/x-ndjson", body: body.String(),
	})
	if status != 200 || strings.Contains(reply, "rejected") {
		r.t.Fatalf("users: %d %s", status, reply)
	}
	r.do(ask{
		method: "POST", path: "/v1/segments/vips/members", template: "/v1/segments/{id}/members",
		kind: "application/json", body: `{"add":["u0","u1","u2","u3","u4","u5","u6","u7","u8","u9"]}`,
	})
}

// lines posts a bulk body and splits the reply.
func (r *running) lines(path, body string) []string {
	r.t.Helper()
	status, reply := r.post(path, body)
	if status != 200 {
		r.t.Fatalf("%s %s: %d %s", path, body, status, reply)
	}
	return strings.Split(strings.TrimSpace(reply), "\n")
}

const queryPath = "/v1/eligibility:query"

func TestOffersForUsers(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(20)
	got := r.lines(queryPath, `{"users":["u1","nobody","u2"],"explain":true,"gates":["caps"]}`)
	if len(got) != 5 || !strings.Contains(got[0], `"users":3`) ||
		got[1] != `{"user_id":"u1","offers":["hello"],"refused":[]}` ||
		!strings.Contains(got[2], `"user_id":"nobody","error":{"code":"user_not_found"`) ||
		got[4] != `{"done":true,"users":2,"unknown":1}` {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	got = r.lines(queryPath, `{"users":["u1"],"explain":true,"channel":"sms"}`)
	if got[1] != `{"user_id":"u1","offers":[],"refused":[{"offer_id":"hello","reason":"channel_mismatch"}]}` {
		t.Errorf("%s", got[1])
	}
	many := `{"users":["u0"` + strings.Repeat(`,"u1"`, 9_999) + `]}`
	if n := len(r.lines(queryPath, many)); n != 10_002 {
		t.Errorf("%d lines for 10,000 users", n)
	}
}

func TestUsersForARule(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(300)
	rule := `"rule":{"attribute":"first_name","starts_with":"n1"}`
	status, reply := r.post(queryPath, `{`+rule+`,"format":"count"}`)
	var head struct {
		Users     int
		At        string
		Positions []uint64
	}
	if err := json.Unmarshal([]byte(reply), &head); err != nil || status != 200 || head.Users != 111 ||
		len(head.Positions) != 16 || head.At == "" {
		t.Fatalf("%d %s", status, reply)
	}
	whole := r.lines(queryPath, `{`+rule+`}`)
	ids := whole[1 : len(whole)-1]
	if len(ids) != 111 || whole[len(whole)-1] != `{"done":true,"users":111}` {
		t.Fatalf("%d ids, end %s", len(ids), whole[len(whole)-1])
	}
	var parts []string
	body := `{` + rule + `,"limit":25}`
	for n := 0; body != "" && n < 10; n++ {
		got := r.lines(queryPath, body)
		parts = append(parts, got[1:len(got)-1]...)
		var end struct{ Cursor string }
		if err := json.Unmarshal([]byte(got[len(got)-1]), &end); err != nil {
			t.Fatal(err)
		}
		if body = ""; end.Cursor != "" {
			body = `{"cursor":"` + end.Cursor + `","limit":25}`
		}
	}
	if !slices.Equal(parts, ids) {
		t.Errorf("in parts %d, at once %d", len(parts), len(ids))
	}
	people := r.lines(queryPath, `{"segment":"vips","format":"ndjson","attributes":["first_name"]}`)
	slices.Sort(people)
	if len(people) != 12 || !slices.Contains(people,
		`{"user_id":"u3","attributes":{"first_name":"n3"},"tags":[]}`) {
		t.Errorf("%s", strings.Join(people, "\n"))
	}
	all := r.lines(queryPath, `{"offer":"hello","gates":["caps","consent","holdout"]}`)
	if len(all) != 303 || !slices.Contains(all,
		`{"identity":{"type":"email","value":"a@example.com"}}`) {
		t.Errorf("%d lines of an offer's people", len(all))
	}
	_, reply = r.post(queryPath, `{"offer":"hello","channel":"sms","format":"count"}`)
	if !strings.Contains(reply, `"users":0,"reason":"channel_mismatch"`) {
		t.Errorf("%s", reply)
	}
}

// A bitmap goes out, its ordinals are in the map, and it comes back.
func TestRoaringOutAndIn(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(100)
	status, body, header := r.do(ask{
		method: "POST", path: queryPath, kind: "application/json",
		body: `{"rule":{"attribute":"first_name","starts_with":"n2"},"format":"roaring"}`,
	})
	set := roaring64.New()
	if _, err := set.ReadFrom(strings.NewReader(body)); err != nil || status != 200 ||
		set.GetCardinality() != 11 || header.Get("Tact-Users") != "11" ||
		len(strings.Fields(header.Get("Tact-Positions"))) != 16 {
		t.Fatalf("%d, %d people: %v %v", status, set.GetCardinality(), err, header)
	}
	status, lines, _ := r.do(ask{method: "GET", path: "/v1/ordinals"})
	named := 0
	for line := range strings.SplitSeq(lines, "\n") {
		var l struct {
			Ordinal  *uint64
			UserID   string `json:"user_id"`
			Ordinals string
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Ordinal != nil &&
			set.Contains(*l.Ordinal) && strings.HasPrefix(l.UserID, "u2") {
			named++
		}
	}
	if status != 200 || named != 11 {
		t.Errorf("%d: the map names %d of 11", status, named)
	}
	back := func(data, crc, ordinals string) string {
		return fmt.Sprintf(`{"members":{"ordinals":%q,"crc32c":%q,"roaring":%q},"format":"count"}`,
			ordinals, crc, base64.StdEncoding.EncodeToString([]byte(data)))
	}
	crc, ordinals := header.Get("Tact-Crc32c"), header.Get("Tact-Ordinals")
	if status, reply := r.post(queryPath, back(body, crc, ordinals)); status != 200 ||
		!strings.Contains(reply, `"users":11`) {
		t.Errorf("brought back: %d %s", status, reply)
	}
	f := func(status int, field, body string) {
		t.Helper()
		got, reply := r.post(queryPath, body)
		if got != status || !strings.Contains(reply, `"field":"members.`+field+`"`) {
			t.Errorf("%s: %d %s", field, got, reply)
		}
	}
	f(409, "ordinals", back(body, crc, "0011223344556677.1"))
	f(422, "crc32c", back(body[:len(body)-1], crc, ordinals))
	f(422, "crc32c", back(body, "xyz", ordinals))
	f(422, "roaring", `{"members":{"ordinals":"`+ordinals+`","crc32c":"00000000","roaring":"!"}}`)
	f(400, "crc32c", `{"members":{"ordinals":"`+ordinals+`","roaring":"AA=="}}`)
}

func TestParquet(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(50)
	status, body, header := r.do(ask{
		method: "POST", path: queryPath, kind: "application/json",
		body: `{"offer":"hello","format":"parquet","attributes":["first_name"]}`,
	})
	if status != 200 || header.Get("Tact-Users") != "51" {
		t.Fatalf("%d %v", status, header)
	}
	type row struct {
		UserID   *string `parquet:"user_id,optional"`
		Identity struct {
			Type  *string `parquet:"type,optional"`
			Value *string `parquet:"value,optional"`
		} `parquet:"identity"`
		Attributes struct {
			FirstName *string `parquet:"first_name,optional"`
		} `parquet:"attributes"`
	}
	rows, err := parquet.Read[row](bytes.NewReader([]byte(body)), int64(len(body)))
	if err != nil || len(rows) != 51 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	named, anonymous := 0, 0
	for _, x := range rows {
		switch {
		case x.UserID == nil && *x.Identity.Value == "a@example.com" && x.Attributes.FirstName == nil:
			anonymous++
		case x.UserID != nil && *x.Attributes.FirstName == "n"+strings.TrimPrefix(*x.UserID, "u"):
			named++
		}
	}
	if named != 50 || anonymous != 1 {
		t.Errorf("%d and %d rows are right", named, anonymous)
	}
}

func TestBadQueries(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(5)
	f := func(path string, status int, field, body string) {
		t.Helper()
		got, reply := r.post(path, body)
		if got != status || !strings.Contains(reply, `"field":"`+field) {
			t.Errorf("%.120s: %d %s, want %d with field %s", body, got, reply, status, field)
		}
	}
	q := func(status int, field, body string) { t.Helper(); f(queryPath, status, field, body) }
	q(400, "user", `{"user":"u1"}`)
	q(400, "users", `{"users":"u1"}`)
	q(400, "users", `{}`)
	q(400, "users[1]", `{"users":["u1",2]}`)
	q(422, "users[10000]", `{"users":["u1"`+strings.Repeat(`,"u1"`, 10_000)+`]}`)
	q(422, "users", `{"users":["u1"],"segment":"vips"}`)
	q(422, "segment", `{"rule":{"segment":"vips"},"segment":"vips"}`)
	q(404, "segment", `{"segment":"vip"}`)
	q(422, "offer", `{"offer":"hallo"}`)
	q(422, "offers[0]", `{"users":["u1"],"offers":["hallo"]}`)
	q(422, "offers", `{"segment":"vips","offers":["hello"]}`)
	q(422, "placement_id", `{"users":["u1"],"placement_id":"nowhere"}`)
	q(422, "channel", `{"users":["u1"],"channel":"pigeon"}`)
	q(422, "gates[0]", `{"users":["u1"],"gates":["all"]}`)
	q(422, "offer", `{"segment":"vips","gates":["caps"]}`)
	q(422, "context.page", `{"users":["u1"],"context":{"page":1}}`)
	q(422, "format", `{"users":["u1"],"format":"count"}`)
	q(422, "format", `{"segment":"vips","format":"xml"}`)
	q(422, "explain", `{"segment":"vips","explain":true}`)
	q(422, "limit", `{"segment":"vips","format":"count","limit":3}`)
	q(422, "limit", `{"segment":"vips","limit":0}`)
	q(422, "attributes", `{"segment":"vips","attributes":["first_name"]}`)
	q(422, "attributes[0]", `{"segment":"vips","format":"ndjson","attributes":["first"]}`)
	q(422, "tags[0]", `{"segment":"vips","format":"ndjson","tags":["first"]}`)
	q(422, "rule", `{"rule":{"tag":"none"}}`)
	q(400, "rule", `{"rule":["a"]}`)
	q(400, "rule", `{"rule":`+strings.Repeat(`{"not":`, 40)+`{}`+strings.Repeat(`}`, 40)+`}`)
	q(422, "rule", `{"rule":{"any":[{"segment":"vips"}`+strings.Repeat(`,{"segment":"vips"}`, 20_000)+`]}}`)
	q(422, "cursor", `{"cursor":"AAAA"}`)
	q(422, "cursor", `{"cursor":"AAAA","segment":"vips"}`)
	q(422, "cursor", `{"cursor":"AAAA","gates":["caps"]}`)
	b := func(status int, field, body string) { t.Helper(); f(batchPath, status, field, body) }
	b(400, "placements", `{"users":["u1"]}`)
	b(400, "users", `{"placements":[{"placement_id":"home"}],"mode":"dry_run"}`)
	b(422, "request_id", `{"users":["u1"],"placements":[{"placement_id":"home"}]}`)
	b(422, "request_id", `{"users":["u1"],"request_id":"`+strings.Repeat("x", 129)+`",`+
		`"placements":[{"placement_id":"home"}]}`)
	b(422, "placements[0].placement_id", `{"users":["u1"],"mode":"dry_run",`+
		`"placements":[{"placement_id":"house"}]}`)
	b(400, "user", `{"user":{"user_id":"u1"},"placements":[{"placement_id":"home"}]}`)
	b(422, "cursor", `{"cursor":"x","mode":"dry_run","placements":[{"placement_id":"home"}]}`)
	if status, reply, _ := r.do(ask{method: "GET", path: "/v1/ordinals?from=x"}); status != 400 {
		t.Errorf("ordinals from x: %d %s", status, reply)
	}
}

const batchPath = "/v1/decide:batch"

func TestDecideBatch(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(600)
	decide := `"placements":[{"key":"k","placement_id":"home"}]`
	body := `{"users":["u5","new","u1","u5"],"request_id":"b1",` + decide + `}`
	got := r.lines(batchPath, body)
	if len(got) != 6 || got[5] != `{"done":true,"users":4}` ||
		!strings.Contains(got[1], `"user_id":"u5"`) || !strings.Contains(got[1], `"title":"n5"`) ||
		!strings.Contains(got[2], `"user_id":"new"`) || !strings.Contains(got[3], `"title":"n1"`) {
		t.Fatalf("%s", strings.Join(got, "\n"))
	}
	id := func(line string) string {
		var d struct {
			ID string `json:"decision_id"`
		}
		_ = json.Unmarshal([]byte(line), &d)
		return d.ID
	}
	if id(got[4]) != id(got[1]) || !strings.Contains(got[4], `"replayed":true`) {
		t.Errorf("a user named twice is decided twice: %s", got[4])
	}
	again := r.lines(batchPath, `{"request_id":"b1",`+decide+`,"users":["u1"]}`)
	if id(again[1]) != id(got[3]) {
		t.Errorf("sent again: %s, first %s", again[1], got[3])
	}
	seg := r.lines(batchPath, `{"segment":"vips","mode":"dry_run",`+decide+`}`)
	if len(seg) != 12 || strings.Contains(seg[1], "decision_id") ||
		!strings.Contains(seg[0], `"cursor"`) {
		t.Errorf("%s", strings.Join(seg, "\n"))
	}
	all := r.lines(batchPath, `{"offer":"hello","mode":"dry_run",`+decide+`}`)
	var cursor string
	var first, rest []string
	for _, line := range all[1:] {
		if strings.HasPrefix(line, `{"cursor"`) && cursor == "" {
			cursor = line
			continue
		}
		if cursor == "" {
			first = append(first, line)
		} else if !strings.HasPrefix(line, `{"cursor"`) {
			rest = append(rest, line)
		}
	}
	if cursor == "" || len(first) != 256 || len(rest) != 346 {
		t.Fatalf("cursor %s, %d and %d lines", cursor, len(first), len(rest))
	}
	on := r.lines(batchPath, strings.TrimSuffix(cursor, "}")+`,"mode":"dry_run",`+decide+`}`)
	ids := func(lines []string) (out []string) {
		for _, line := range lines {
			var d struct {
				ID string `json:"user_id"`
			}
			if json.Unmarshal([]byte(line), &d) == nil && d.ID != "" {
				out = append(out, d.ID)
			}
		}
		return out
	}
	if !slices.Equal(ids(on), ids(rest)) {
		t.Errorf("taken up behind the cursor: %d people, want %d", len(ids(on)), len(ids(rest)))
	}
}

// A live batch over a whole segment decides for everybody in it once: sent again, or
// taken up at a cursor, it repeats what it decided.
func TestLiveBatchOverASegment(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(700)
	const ask = `"request_id":"b7","mode":"live","placements":[{"key":"k","placement_id":"home"}]`
	type line struct {
		UserID   string `json:"user_id"`
		ID       string `json:"decision_id"`
		Replayed bool
		Cursor   string
		Error    *struct{ Code string }
	}
	read := func(body string) (made map[string]line, cursor string) {
		t.Helper()
		made = map[string]line{}
		for i, text := range r.lines(batchPath, body) {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
			switch {
			case i == 0:
			case l.Cursor != "" && cursor == "":
				cursor = l.Cursor
			case l.ID != "" || l.Error != nil:
				made[l.UserID] = l
			}
		}
		return made, cursor
	}
	count := func() (n uint64) {
		for _, s := range r.engine.Stats() {
			if s.What == "decision" && s.Variant == "" {
				n += s.N
			}
		}
		return n
	}
	vips, _ := read(`{"segment":"vips",` + ask + `}`)
	if len(vips) != 10 || vips["u3"].ID == "" || count() != 10 {
		t.Fatalf("%d decided, %d counted: %v", len(vips), count(), vips)
	}
	again, _ := read(`{"segment":"vips",` + ask + `}`)
	for id, l := range again {
		if !l.Replayed || l.ID != vips[id].ID {
			t.Errorf("sent again %s has %+v, first %+v", id, l, vips[id])
		}
	}
	all, cursor := read(`{"rule":{},` + ask + `}`)
	if len(all) < 700 || !all["u3"].Replayed || all["u300"].Replayed || cursor == "" {
		t.Fatalf("%d decided, cursor %q", len(all), cursor)
	}
	rest, _ := read(`{"cursor":"` + cursor + `",` + ask + `}`)
	for id, l := range rest {
		if !l.Replayed || l.ID != all[id].ID {
			t.Errorf("behind the cursor %s has %+v, first %+v", id, l, all[id])
		}
	}
	if len(rest) == 0 || len(rest) >= len(all) || count() != uint64(len(all)) {
		t.Errorf("%d behind the cursor of %d, %d counted", len(rest), len(all), count())
	}
	other, _ := read(`{"segment":"vips",` + strings.Replace(ask, `"k"`, `"other"`, 1) + `}`)
	for id, l := range other {
		if l.Error == nil || l.Error.Code != "id_reused" {
			t.Errorf("something else under the same id, %s: %+v", id, l)
		}
	}
}

// A cursor pins its answer for 15 minutes after its last use; then it is 410.
func TestCursorIsGone(t *testing.T) {
	var passed atomic.Int64 // milliseconds
	r := startWith(t, Options{}, engine.Options{Read: func() (wall, mono int64) {
		return 1_790_000_000_000 + passed.Load(), 1 + passed.Load()
	}})
	r.publish()
	r.fill(30)
	first := r.lines(queryPath, `{"rule":{},"limit":5}`)
	var end struct{ Cursor string }
	if err := json.Unmarshal([]byte(first[len(first)-1]), &end); err != nil || end.Cursor == "" {
		t.Fatal(first)
	}
	r.post("/v1/users", `{"user_id":"later"}`)
	on := `{"cursor":"` + end.Cursor + `"}`
	for range 2 { // a use begins the 15 minutes anew
		passed.Add((15*time.Minute - time.Second).Milliseconds())
		if rest := r.lines(queryPath, on); len(rest) != 28 {
			t.Fatalf("%d lines: %s", len(rest), rest)
		}
	}
	passed.Add((15 * time.Minute).Milliseconds())
	if status, body := r.post(queryPath, on); status != 410 || !strings.Contains(body, "cursor_gone") {
		t.Errorf("%d %s", status, body)
	}
}

// A client that goes away ends its batch: nobody is decided for nobody.
func TestBatchEndsWithItsClient(t *testing.T) {
	r := start(t, Options{BulkIdle: 200 * time.Millisecond})
	r.publish()
	r.fill(10)
	body := `{"mode":"dry_run","explain":"all","placements":[{"placement_id":"home"}],"users":["u0"` +
		strings.Repeat(`,"u1"`, 9_999) + `]}`
	for _, reads := range []bool{true, false} {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(1 << 10)
		}
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", batchPath, testKey,
			len(body), body)
		_, _ = c.Read(make([]byte, 100))
		if reads {
			_ = c.Close()
		}
		for n := 0; r.server.bulk.Load() != 0; n++ {
			if n == 500 {
				t.Fatal("the batch goes on without its client")
			}
			time.Sleep(20 * time.Millisecond)
		}
		_ = c.Close()
	}
	var dry uint64
	for _, s := range r.engine.Stats() {
		dry += s.N
	}
	if dry != 0 {
		t.Errorf("a dry batch was counted: %d", dry)
	}
}

// As many answers are kept as may be: one that a limit would end is refused with 429
// and Retry-After; whole ones come, without cursors.
func TestTooManyViews(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(30)
	body, status := `{"offer":"hello","limit":1}`, 0
	for range 17 {
		if status, _ = r.post(queryPath, body); status != 200 {
			t.Fatal(status)
		}
	}
	header := http.Header{}
	for n := 0; status == 200 && n < 1024; n++ {
		status, _, header = r.do(ask{
			method: "POST", path: queryPath, kind: "application/json", body: body,
		})
	}
	wait, _ := strconv.Atoi(header.Get("Retry-After"))
	if status != 429 || wait < 800 || wait > 900 {
		t.Errorf("the 1,025th answer that is kept: %d, Retry-After %d", status, wait)
	}
	if status, _ := r.post(queryPath, `{"offer":"hello","format":"count"}`); status != 200 {
		t.Errorf("a count, which keeps nothing: %d", status)
	}
	all := r.lines(queryPath, `{"rule":{},"format":"ids"}`)
	if len(all) < 32 || strings.Contains(strings.Join(all, ""), "cursor") {
		t.Errorf("a whole answer: %s", all)
	}
	all = r.lines(batchPath,
		`{"rule":{},"mode":"dry_run","placements":[{"placement_id":"home"}]}`)
	if len(all) < 32 || strings.Contains(strings.Join(all, ""), "cursor") {
		t.Errorf("decisions for all: %s", all)
	}
	status, _, header = r.do(ask{
		method: "POST", path: queryPath, kind: "application/json", body: `{"rule":{},"format":"roaring"}`,
	})
	if status != 200 || header.Get("Tact-Cursor") != "" {
		t.Errorf("a bitmap: %d, cursor %q", status, header.Get("Tact-Cursor"))
	}
}

// A drain breaks a reply over a population off, so that the engine may be closed
// behind it; a client sees that the reply has no end.
func TestDrainEndsLongReplies(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	pieces := 0
	next := func(dst []byte) ([]byte, bool, error) {
		pieces++
		s.draining.Store(true)
		return append(dst, "piece\n"...), false, nil
	}
	for long, want := range map[bool]int{true: 1, false: 3} {
		s.draining.Store(false)
		pieces = 0
		r := &request{ctx: &fasthttp.RequestCtx{}}
		r.ctx.Init2(here, nil, false)
		body := &stream{server: s, r: r, next: next, long: long}
		var err error
		for range 3 {
			if _, err = body.Read(make([]byte, 64)); err != nil {
				break
			}
		}
		if pieces != want || long != errors.Is(err, errAborted) {
			t.Errorf("long %v: %d pieces, %v", long, pieces, err)
		}
	}
}
