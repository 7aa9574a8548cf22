package loadtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

func targetOf(t *testing.T, s Scenario) *target {
	t.Helper()
	if err := s.withDefaults(); err != nil {
		t.Fatal(err)
	}
	s.Nonce = "n"
	target, err := newTarget(s, 1, address{host: "h:1"}, "k")
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// parse reads a request as a server does.
func parse(t *testing.T, text []byte) *fasthttp.Request {
	t.Helper()
	var r fasthttp.Request
	in := bufio.NewReader(bytes.NewReader(text))
	if err := r.Read(in); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if rest := in.Buffered(); rest != 0 {
		t.Fatalf("%d bytes after the request %q", rest, text)
	}
	return &r
}

func TestRequests(t *testing.T) {
	f := func(s Scenario, step int, path, body string) {
		t.Helper()
		text, _ := targetOf(t, s).append(nil, 5, step)
		r := parse(t, text)
		if got := string(r.URI().Path()); got != path || string(r.Header.Method()) != "POST" ||
			string(r.Header.Peek("Authorization")) != "Bearer k" {
			t.Errorf("head %s", r.Header.String())
		}
		if got := string(r.Body()); got != body {
			t.Errorf("body\n%s, want\n%s", got, body)
		}
	}
	one := Scenario{Users: 1}
	f(one, 0, "/v1/decide", `{"user":{"user_id":"u1"},"placements":[{"key":"p0",`+
		`"placement_id":"home_hero"}],"context":{"page":"home"}}`)
	one.Name, one.Placements, one.DecideMode = MultiSlot, []string{"a", "b"}, "dry_run"
	one.Context = json.RawMessage("{\n}")
	f(one, 0, "/v1/decide", `{"user":{"user_id":"u1"},"placements":[{"key":"p0",`+
		`"placement_id":"a"},{"key":"p1","placement_id":"b"}],"context":{},"mode":"dry_run"}`)
	one = Scenario{Users: 1, Name: ReadWrites, Event: `a"b`}
	event := `{"event_id":"lt-n-5-0","user_id":"u1","event":"a\"b","properties":{"page":"home"}}`
	f(one, 0, "/v1/events", event)
	f(one, 1, "/v1/decide", `{"user":{"user_id":"u1"},"placements":[{"key":"p0",`+
		`"placement_id":"home_hero"}],"context":{"page":"home"}}`)
	one.Name, one.Lines = Batch, 2
	f(one, 0, "/v1/events", event+"\n"+strings.Replace(event, "5-0", "5-1", 1)+"\n")
}

// Both requests of a reading after a write are of one user, and the request of
// an arrival is the same whoever asks.
func TestRequestsArePure(t *testing.T) {
	target := targetOf(t, Scenario{Name: ReadWrites, Zipf: 0.99})
	users := map[string]bool{}
	for i := range int64(200) {
		var event, decide struct {
			UserID string `json:"user_id"`
			User   struct {
				UserID string `json:"user_id"`
			} `json:"user"`
		}
		first, _ := target.append(nil, i, 0)
		second, _ := target.append(nil, i, 1)
		for text, doc := range map[*byte]any{&first[0]: &event, &second[0]: &decide} {
			body := first
			if text == &second[0] {
				body = second
			}
			if err := json.Unmarshal(parse(t, body).Body(), doc); err != nil {
				t.Fatal(err)
			}
		}
		if event.UserID == "" || event.UserID != decide.User.UserID {
			t.Fatalf("event of %s, decision of %s", event.UserID, decide.User.UserID)
		}
		users[event.UserID] = true
		again, _ := target.append(nil, i, 0)
		if !bytes.Equal(first, again) {
			t.Fatalf("arrival %d has two forms", i)
		}
	}
	if len(users) < 50 || len(users) == 200 {
		t.Errorf("%d users of 200 skewed draws", len(users))
	}
}

func TestMix(t *testing.T) {
	target := targetOf(t, Scenario{Name: Mixed, Mix: map[string]int{PageLoad: 3, Events: 1}})
	counts := map[string]int{}
	for i := range int64(40_000) {
		counts[target.name(i)]++
	}
	if n := counts[Events]; len(counts) != 2 || n < 9_500 || n > 10_500 {
		t.Errorf("%v", counts)
	}
}

func TestRequestsDoNotAllocate(t *testing.T) {
	for _, name := range []string{PageLoad, MultiSlot, ReadWrites, Mixed} {
		target := targetOf(t, Scenario{Name: name, Zipf: 0.99, Mix: map[string]int{PageLoad: 1}})
		room := make([]byte, 0, 64<<10)
		i := int64(0)
		if n := testing.AllocsPerRun(200, func() {
			room, _ = target.append(room[:0], i, 0)
			i++
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestScenarioFaults(t *testing.T) {
	f := func(s Scenario) {
		t.Helper()
		if err := s.withDefaults(); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
	f(Scenario{Name: "x"})
	f(Scenario{Name: Recorded})
	f(Scenario{Log: "file"})
	f(Scenario{Zipf: -1})
	f(Scenario{Lines: maxLines + 1})
	f(Scenario{DecideMode: "preview"})
	f(Scenario{Context: json.RawMessage(`[]`)})
	f(Scenario{Context: json.RawMessage(` `)})
	f(Scenario{Properties: json.RawMessage(`{`)})
	f(Scenario{Name: Mixed, Mix: map[string]int{"log": 1}})
	f(Scenario{Users: maxUsers + 1})
}

// No line of a log makes the reader fail in another way than by an error.
func FuzzRecordedLine(f *testing.F) {
	f.Add([]byte(`{"method":"GET","path":"/a"}`))
	f.Add([]byte(`{"method":"POST","path":"/b","body":{"k":1},"content_type":"x/y"}`))
	f.Add([]byte(`{"method":"PUT","path":"/c","body":"\u00e9"}`))
	f.Add([]byte(`{"method":"G T","path":"c"}`))
	f.Add([]byte(`{"method":"HEAD","path":"/c"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		target := &target{}
		r, err := target.recorded(line, address{host: "h"}, "")
		if err == nil && bytes.Count(r.text[:bytes.Index(r.text, []byte("\r\n\r\n"))], []byte("\n")) > 3 {
			t.Errorf("a line adds headers: %q", r.text)
		}
	})
}
