package client

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a server that applies lines like tact does, and fails as its plan says.
type fake struct {
	mu      sync.Mutex
	applied map[string]string   // key of a line → body
	order   map[string][]string // user → event ids or attribute values, as applied
	sent    int                 // lines received, duplicates counted
	fail    func(n int) string  // by number of the request: "", drop, 429, 507, cut, doubt, full
	n       int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	plan := ""
	if f.fail != nil {
		plan = f.fail(f.n)
	}
	if plan == "429" {
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	if plan == "507" {
		w.WriteHeader(http.StatusInsufficientStorage)
		_, _ = io.WriteString(w, `{"code":"disk_full","detail":"no room"}`)
		return
	}
	if plan == "400" {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"code":"bad","detail":"no"}`)
		return
	}
	var out bytes.Buffer
	in := bufio.NewScanner(req.Body)
	in.Buffer(nil, 2<<20)
	for n := 1; in.Scan(); n++ {
		out.WriteString(f.line(n, in.Bytes(), req.Header.Get("Idempotency-Key")))
	}
	switch plan {
	case "drop":
		panic(http.ErrAbortHandler)
	case "cut":
		out.Truncate(out.Len() / 2)
	case "full":
		out.Truncate(out.Len() - 1)
		out.Truncate(bytes.LastIndexByte(out.Bytes(), '\n') + 1)
		fmt.Fprintf(&out, `{"line":%d,"status":"rejected","error":{"code":"disk_full"}}`+"\n",
			bytes.Count(out.Bytes(), []byte("\n"))+1)
	case "doubt":
		out.Reset()
		out.WriteString(`{"line":1,"status":"in_doubt","error":{"code":"in_doubt"}}` + "\n")
	}
	_, _ = w.Write(out.Bytes())
}

func (f *fake) line(n int, text []byte, key string) string {
	f.sent++
	var doc struct {
		UserID     string         `json:"user_id"`
		EventID    string         `json:"event_id"`
		Event      string         `json:"event"`
		Attributes map[string]any `json:"attributes"`
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.UserID == "" {
		return fmt.Sprintf(`{"line":%d,"status":"rejected","error":{"code":"missing_field",`+
			`"field":"user_id","detail":"is required"}}`+"\n", n)
	}
	id := doc.EventID
	if doc.Event == "" {
		id = fmt.Sprintf("%s:%d", key, n)
	}
	status := "duplicate"
	if _, seen := f.applied[id]; !seen {
		status = "applied"
		f.applied[id] = string(text)
		f.order[doc.UserID] = append(f.order[doc.UserID], fmt.Sprint(doc.Attributes["n"]))
	}
	return fmt.Sprintf(`{"line":%d,"status":%q}`+"\n", n, status)
}

func newFake(t *testing.T) (*fake, *Client) {
	t.Helper()
	f := &fake{applied: map[string]string{}, order: map[string][]string{}}
	s := httptest.NewServer(f)
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	c := New(s.URL, "key")
	c.wait = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return f, c
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// peopleCSV has n good records of 20 users, each with a rising number, and a
// record with too few cells in front of every hundredth.
func peopleCSV(n int) (text string, bad int) {
	var b strings.Builder
	b.WriteString("customer,n,joined\n")
	for i := range n {
		if i%100 == 99 {
			b.WriteString("short\n")
			bad++
		}
		fmt.Fprintf(&b, "u%d,%d,\"2026-01-0%d\"\n", i%20, i, i%9+1)
	}
	return b.String(), bad
}

func people() []string {
	return []string{"user_id=customer", "attributes.n=n:int", "attributes.joined=joined:date"}
}

// checkOrder: each user's lines were applied once and in the order of the file.
func checkOrder(t *testing.T, f *fake, n int) {
	t.Helper()
	total := 0
	for user, got := range f.order {
		total += len(got)
		last := -1
		for _, text := range got {
			var i int
			if _, err := fmt.Sscan(text, &i); err != nil || i <= last {
				t.Fatalf("%s: %s came after %d", user, text, last)
			}
			last = i
		}
	}
	if total != n {
		t.Errorf("%d lines applied, want %d", total, n)
	}
}

func TestImport(t *testing.T) {
	f, c := newFake(t)
	text, bad := peopleCSV(2500)
	path := write(t, "people.csv", "\ufeff"+text)
	calls := 0
	report, err := c.Import(context.Background(), ImportOptions{
		Path: path, Kind: "users", Map: people(), Batch: 100,
		Progress: func(ImportProgress) { calls++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Applied != 2500 || report.Rejected != int64(bad) || report.Duplicate != 0 ||
		report.Bytes != report.TotalBytes || calls == 0 {
		t.Errorf("%+v, %d calls", report, calls)
	}
	checkOrder(t, f, 2500)
	rejected, err := os.ReadFile(report.RejectedFile)
	if err != nil || strings.Count(string(rejected), "\n") != bad ||
		!strings.HasPrefix(string(rejected), `{"line":101,"code":"bad_record"`) {
		t.Errorf("%v: %s", err, rejected)
	}
	if _, err := os.Stat(path + ".tact-import"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state file is still there: %v", err)
	}
}

// Interrupted at random places and by every kind of fault, and started again
// until it ends: each line is applied once, in order, and counted once.
func TestImportInterrupted(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 2))
		f, c := newFake(t)
		faults := []string{"", "", "", "drop", "429", "cut", "doubt", "400"}
		f.fail = func(int) string { return faults[rng.IntN(len(faults))] }
		text, bad := peopleCSV(1500)
		path := write(t, "people.csv", text)
		o := ImportOptions{Path: path, Kind: "users", Map: people(), Batch: 50}
		var report ImportReport
		var err error
		runs := 0
		for {
			runs++
			o.Connections = 1 + rng.IntN(4)
			if report, err = c.Import(context.Background(), o); err == nil {
				break
			}
			if runs > 2000 {
				t.Fatalf("seed %d: no end: %v", seed, err)
			}
		}
		checkOrder(t, f, 1500)
		if got := report.Applied + report.Duplicate; got != 1500 || report.Rejected != int64(bad) {
			t.Errorf("seed %d: %+v after %d runs", seed, report, runs)
		}
		rejected, err := os.ReadFile(report.RejectedFile)
		if err != nil || strings.Count(string(rejected), "\n") != bad {
			t.Errorf("seed %d: %d rejected lines (%v)", seed, strings.Count(string(rejected), "\n"), err)
		}
	}
}

// After a faultless resume no acknowledged line is sent again.
func TestImportResumes(t *testing.T) {
	f, c := newFake(t)
	f.fail = func(n int) string {
		if n == 6 {
			return "400"
		}
		return ""
	}
	text, bad := peopleCSV(1000)
	path := write(t, "people.csv", text)
	o := ImportOptions{Path: path, Kind: "users", Map: people(), Batch: 100, Connections: 1}
	if _, err := c.Import(context.Background(), o); err == nil {
		t.Fatal("the fault was not reported")
	}
	o.Map = append(people(), "tags='x'")
	if _, err := c.Import(context.Background(), o); !errors.Is(err, ErrOtherFile) {
		t.Fatalf("another mapping: %v", err)
	}
	o.Map = people()
	report, err := c.Import(context.Background(), o)
	if err != nil || report.Resumed == 0 || report.Applied != 1000 || report.Rejected != int64(bad) {
		t.Fatalf("%v %+v", err, report)
	}
	if f.sent != 1000 {
		t.Errorf("%d lines were sent for 1000", f.sent)
	}
	checkOrder(t, f, 1000)
}

// What a full disk refuses is not among the rejected lines: the import ends, says
// why, and goes on with it when it is started again.
func TestImportOnAFullDisk(t *testing.T) {
	for _, plan := range []string{"507", "full"} {
		f, c := newFake(t)
		f.fail = func(n int) string {
			if n == 6 {
				return plan
			}
			return ""
		}
		text, bad := peopleCSV(1000)
		o := ImportOptions{
			Path: write(t, "people.csv", text), Kind: "users", Map: people(), Batch: 100, Connections: 1,
		}
		if _, err := c.Import(context.Background(), o); err == nil ||
			!strings.Contains(err.Error(), "disk is full") || f.n != 6 {
			t.Fatalf("%s: %v after %d requests", plan, err, f.n)
		}
		report, err := c.Import(context.Background(), o)
		if err != nil || report.Applied+report.Duplicate != 1000 || report.Rejected != int64(bad) {
			t.Errorf("%s: %v %+v", plan, err, report)
		}
		checkOrder(t, f, 1000)
	}
}

// The same file again makes duplicates only.
func TestImportEventsTwice(t *testing.T) {
	_, c := newFake(t)
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, `{"user_id":"u%d","event":"visit","occurred_at":"2026-01-01T00:00:00Z"}`+"\n", i%7)
	}
	b.WriteString("{\"event\":\n\n[1]\n{\"event\":\"x\"}\n")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, b.String())
	_ = z.Close()
	path := write(t, "events.ndjson.gz", packed.String())
	o := ImportOptions{Path: path, Kind: "events"}
	first, err := c.Import(context.Background(), o)
	if err != nil || first.Applied != 300 || first.Rejected != 3 {
		t.Fatalf("%v %+v", err, first)
	}
	second, err := c.Import(context.Background(), o)
	if err != nil || second.Duplicate != 300 || second.Applied != 0 || second.Rejected != 3 {
		t.Errorf("%v %+v", err, second)
	}
}

func TestMapping(t *testing.T) {
	f := func(kind string, expressions []string, rec record, want string) {
		t.Helper()
		m, err := ParseMapping(kind, expressions)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := m.apply(&rec)
		got := fmt.Sprint(err)
		if err == nil {
			b, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			got = string(b)
		}
		if got != want {
			t.Errorf("%v:\ngot  %s\nwant %s", expressions, got, want)
		}
	}
	row := record{
		columns: []string{"id", "age", "a:b", "tags", "t", "vip", "none"},
		values:  []any{"7", "30", "x", "p| q ||", "24/12/2026 18:00", "yes", ""},
	}
	f("users", []string{
		"user_id=id", "attributes.age=age:int", `attributes.ab="a:b"`, "tags=tags:list(|)",
		"attributes.at=t:time(02/01/2006 15:04 @Asia/Shanghai)", "tags.vip=vip:bool",
		"tags.tier=age", "consents.marketing.sms=vip:bool", "attributes.none=none",
		"identities.crm=id", "addresses.email='a@b'", "locale='zh-CN'",
	}, row, `{"addresses":{"email":"a@b"},"attributes":{"ab":"x","age":30,`+
		`"at":"2026-12-24T10:00:00.000Z"},"consents":[{"channel":"sms","granted":true,`+
		`"purpose":"marketing"}],"identities":[{"type":"crm","value":"7"}],"locale":"zh-CN",`+
		`"source":"import","tags":["p","q","vip",{"is":"30","tag":"tier"}],"user_id":"7"}`)
	f("users", []string{"user_id=id", "attributes.*=*"}, row, `{"attributes":{"a:b":"x","age":"30",`+
		`"t":"24/12/2026 18:00","tags":"p| q ||","vip":"yes"},"user_id":"7"}`)
	f("users", []string{"user_id=id", "attributes.n=vip:int"}, row,
		`attributes.n: "yes" is not a whole number`)
	var members map[string]any
	dec := json.NewDecoder(strings.NewReader(`{"who":{"id":9007199254740993},"n":1.50,"at":1.5}`))
	dec.UseNumber()
	if err := dec.Decode(&members); err != nil {
		t.Fatal(err)
	}
	f("events", []string{"user_id=who.id", "event='e'", "properties.n=n", "occurred_at=at:unix"},
		record{members: members}, `{"event":"e","occurred_at":"1970-01-01T00:00:01.500Z",`+
			`"properties":{"n":1.50},"user_id":"9007199254740993"}`)
}

func TestMappingFaults(t *testing.T) {
	_, err := ParseMapping("users", []string{
		"user_id", "nobody=x", "user_id=", "user_id=a", "user_id=b", "consents.sms=x",
		"attributes.*=x", "attributes.a=*", "event=x", "attributes.t=x:time(2006 @Nowhere)",
		"attributes.n=x:int(3)",
	})
	if !errors.Is(err, ErrMapping) || strings.Count(err.Error(), "mapping \"") != 10 {
		t.Errorf("%v", err)
	}
}

// What may not be sent twice is sent once.
func TestRetries(t *testing.T) {
	f, c := newFake(t)
	f.fail = func(int) string { return "429" }
	if _, err := c.Publish(context.Background(), nil, "", 0); err == nil || f.n != 1 {
		t.Errorf("publish: %v after %d requests", err, f.n)
	}
	f.n = 0
	if _, err := c.Stats(context.Background(), "", ""); err == nil || f.n != attempts {
		t.Errorf("stats: %v after %d requests", err, f.n)
	}
	var p *Error
	f.fail = func(int) string { return "400" }
	_, err := c.User(context.Background(), "x")
	if !errors.As(err, &p) || p.Status != 400 || p.Code != "bad" || p.Detail != "no" {
		t.Errorf("%v", err)
	}
}

// A quote that is never closed costs its record, not the memory.
func TestLongRecords(t *testing.T) {
	_, c := newFake(t)
	path := write(t, "a.csv", "user_id\nu1\n\""+strings.Repeat("x", 3<<20))
	_, err := c.Import(context.Background(), ImportOptions{Path: path, Kind: "users"})
	if !errors.Is(err, errTooLong) {
		t.Errorf("open quote: %v", err)
	}
	path = write(t, "a.ndjson", `{"user_id":"u1"}`+"\n"+`{"user_id":"`+strings.Repeat("x", 3<<20)+
		`"}`+"\n"+`{"user_id":"u2"}`)
	report, err := c.Import(context.Background(), ImportOptions{Path: path, Kind: "users"})
	if err != nil || report.Applied != 2 || report.Rejected != 1 {
		t.Errorf("long line: %v %+v", err, report)
	}
}
