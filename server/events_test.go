package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tact/engine"
	"tact/storage"
)

// The event log is read by time, name and user, and every reply is as the document
// says.
func TestEventLog(t *testing.T) {
	r := start(t, Options{})
	if _, faults, _, err := r.engine.Publish(testFiles(), "test", "", 0); err != nil || len(faults) > 0 {
		t.Fatal(err, faults)
	}
	begun := time.Now().Add(-time.Second)
	for i := range 6 {
		status, reply := r.post("/v1/events", fmt.Sprintf(
			`{"event_id":"e%d","user_id":"u%d","event":"visit","properties":{"n": [%d, "小雨"]}}`,
			i, i%2, i))
		if status != 200 {
			t.Fatal(status, reply)
		}
	}
	r.post("/v1/events", `{"event_id":"d","identities":[{"type":"device","value":"d1"}],"event":"seen"}`)
	f := func(query string, status int, lines int, part string) {
		t.Helper()
		got, reply, _ := r.do(ask{method: "GET", path: "/v1/events" + query})
		if got != status || status == 200 && strings.Count(reply, "\n") != lines+1 ||
			!strings.Contains(reply, part) {
			t.Errorf("%s: %d %s, want %d, %d lines and %s", query, got, reply, status, lines, part)
		}
	}
	at := func(t time.Time) string { return url.QueryEscape(t.Format(time.RFC3339Nano)) }
	f("", 200, 7, `"properties":{"n":[3,"小雨"]}}`)
	f("", 200, 7, `{"done":true,"events":7}`)
	f("", 200, 7, `{"event_id":"d","identities":[{"type":"device","value":"d1"}],"event":"seen",`)
	f("?event=visit", 200, 6, `{"event_id":"e5","user_id":"u1","event":"visit","occurred_at":"`)
	f("?event=visit&user_id=u1", 200, 3, `"user_id":"u1"`)
	f("?limit=2", 200, 2, `{"done":true,"events":2,"limited":true}`)
	f("?from="+at(begun), 200, 7, `"events":7`)
	f("?from="+at(begun)+"&until="+at(begun.Add(time.Millisecond)), 200, 0, `"events":0`)
	f("?until="+at(begun), 200, 0, `"events":0`)
	f("?after=start", 200, 7, `"events":7,"cursor":"`)
	f("?after=start&limit=2", 200, 2, `"limited":true,"cursor":"`)
	f("?after=start&event=visit&user_id=u1", 200, 3, `"cursor":"`)
	f("?after=", 422, 0, "bad_cursor")
	f("?after=AQAAAAAB", 422, 0, `"field":"after"`)
	_, reply, _ := r.do(ask{method: "GET", path: "/v1/events?after=start"})
	_, rest, _ := strings.Cut(reply, `"cursor":"`)
	cursor, _, _ := strings.Cut(rest, `"`)
	f("?after="+cursor, 200, 0, `"events":0,"cursor":"`)
	r.post("/v1/events", `{"event_id":"late","user_id":"u1","event":"visit"}`)
	f("?after="+cursor, 200, 1, `{"event_id":"late",`)
	f("?from=yesterday", 400, 0, `"field":"from"`)
	f("?limit=0", 400, 0, `"field":"limit"`)
	f("?of=u1", 400, 0, "unknown_parameter")
	f("?event=never", 422, 0, "unknown_event")
	f("?user_id=nobody", 404, 0, "user_not_found")
	f("?from="+at(begun)+"&until="+at(begun), 422, 0, "bad_range")
	if status, _, _ := r.do(ask{method: "GET", path: "/v1/events", noKey: true}); status != 401 {
		t.Errorf("without a key: %d", status)
	}
}

// An outcome is an event too, with what it was an outcome of.
func TestEventLogHasOutcomes(t *testing.T) {
	r := start(t, Options{})
	if _, faults, _, err := r.engine.Publish(testFiles(), "test", "", 0); err != nil || len(faults) > 0 {
		t.Fatal(err, faults)
	}
	r.post("/v1/users", `{"user_id":"u1"}`)
	status, reply := r.post("/v1/decide",
		`{"user":{"user_id":"u1"},"placements":[{"key":"k","placement_id":"home"}]}`)
	_, rest, ok := strings.Cut(reply, `"tracking_token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	if status != 200 || !ok {
		t.Fatal(status, reply)
	}
	if status, reply = r.post("/v1/outcomes", `{"event_id":"o1","outcome":"accept","value":2.5,`+
		`"tracking_token":"`+token+`"}`); status != 200 {
		t.Fatal(status, reply)
	}
	_, reply, _ = r.do(ask{method: "GET", path: "/v1/events?event=offer_accept"})
	for _, part := range []string{
		`{"user_id":"u1","event":"offer_accept","occurred_at":"`, `"outcome":"accept",` +
			`"offer_id":"hello","treatment_id":"web","placement_id":"home","channel":"web","value":2.5}`,
	} {
		if !strings.Contains(reply, part) {
			t.Errorf("%s, want %s", reply, part)
		}
	}
}

// Damage is told: before the first line by a problem document that names the file, behind
// it by a last line.
func TestEventLogDamaged(t *testing.T) {
	for file, of := range []string{"first", "second"} {
		dir := t.TempDir()
		for life := range 2 { // each start begins a file of the log
			t.Run("fill", func(t *testing.T) {
				r := startIn(t, dir, Options{}, engine.Options{})
				var lines strings.Builder
				for n := range 400 { // more than one piece of the reply
					fmt.Fprintf(&lines, `{"event_id":"e%d-%d","user_id":"u","event":"visit",`+
						`"properties":{"x":"%0400d"}}`+"\n", life, n, n)
				}
				status, reply, _ := r.do(ask{
					method: "POST", path: "/v1/events", kind: "application/x-ndjson", body: lines.String(),
				})
				if status != 200 || strings.Contains(reply, "rejected") {
					t.Fatal(status, reply)
				}
			})
			s, err := storage.Open(dir, storage.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.FlushLog(), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
		files, err := filepath.Glob(filepath.Join(dir, "log", "effects-*.tlog"))
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		b, err := os.ReadFile(files[file])
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(files[file], b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Run(of, func(t *testing.T) {
			r := startIn(t, dir, Options{}, engine.Options{})
			status, reply, _ := r.do(ask{method: "GET", path: "/v1/events"})
			lines := strings.Split(strings.TrimSpace(reply), "\n")
			last := lines[len(lines)-1]
			if of == "first" && (status != 500 || !strings.Contains(reply, `"code":"damaged"`)) ||
				of == "second" && (status != 200 || len(lines) < 300 ||
					!strings.HasPrefix(last, `{"error":{"code":"damaged","detail":"`)) ||
				!strings.Contains(last, filepath.Base(files[file])) {
				t.Errorf("%d, %d lines, the last %.400s", status, len(lines), last)
			}
		})
	}
}

// A reader that goes away leaves nothing open: the store closes without a word.
func TestEventLogReaderGoesAway(t *testing.T) {
	r := start(t, Options{})
	var lines strings.Builder
	raw := strings.Repeat("x", 4000)
	for i := range 2000 {
		fmt.Fprintf(&lines, `{"event_id":"e%d","user_id":"u%d","event":"visit","properties":{"x":"%s"}}`+
			"\n", i, i%7, raw)
	}
	status, reply, _ := r.do(ask{
		method: "POST", path: "/v1/events", kind: "application/x-ndjson", body: lines.String(),
	})
	if status != 200 || strings.Contains(reply, "rejected") {
		t.Fatal(status, reply)
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+r.addr+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	res, err := r.client.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = res.Body.Close() // what was cancelled says so
}
