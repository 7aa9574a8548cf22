package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// asked is a server with n people that breaks its replies off as cut says: after
// how many lines the reply of a number ends, 0 = not. A cursor is the number of
// the person to go on with.
type asked struct {
	n, every int
	hang     int                  // in the first reply, at this person, until the client goes
	kept     func(reply int) bool // whether it has cursors; nil: it has
	cut      func(reply int) int
	gone     func(reply int) bool
	replies  int
	from     []string
}

func (a *asked) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a.replies++
	var q Query
	body, _ := io.ReadAll(req.Body)
	if err := json.Unmarshal(body, &q); err != nil {
		panic(err)
	}
	a.from = append(a.from, q.Cursor)
	if a.gone != nil && a.gone(a.replies) {
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, `{"code":"cursor_gone","field":"cursor"}`)
		return
	}
	if q.Format == "roaring" {
		a.file(w)
		return
	}
	from, _ := strconv.Atoi(q.Cursor)
	left := -1
	if a.cut != nil {
		if left = a.cut(a.replies); left == 0 {
			left = -1
		}
	}
	line := func(format string, args ...any) {
		if left == 0 {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		left--
		fmt.Fprintf(w, format+"\n", args...)
	}
	kept := a.kept == nil || a.kept(a.replies)
	cursor := ""
	if kept {
		cursor = fmt.Sprintf(`,"cursor":"%d"`, from)
	}
	line(`{"at":"2026-11-22T10:00:00Z","config_version":3,"users":%d%s}`, a.n, cursor)
	for i := from; i < a.n; i++ {
		if a.hang > 0 && i == a.hang && a.replies == 1 {
			w.(http.Flusher).Flush()
			<-req.Context().Done()
		}
		if i == 2 {
			line(`{"identity":{"type":"email","value":"a,b"},"attributes":{"n":2},"tags":[]}`)
		} else {
			line(`{"user_id":"u%d","attributes":{"n":%d},"tags":["vip",{"tag":"tier","is":"x"}]}`, i, i)
		}
		if kept && (i+1)%a.every == 0 {
			line(`{"cursor":"%d"}`, i+1)
		}
	}
	line(`{"done":true,"users":%d}`, a.n-from)
}

// file answers with a file of one piece, of which the first reply is cut and the
// second damaged.
func (a *asked) file(w http.ResponseWriter) {
	data := []byte(strings.Repeat("bitmap", 1000))
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Header().Set("Tact-Cursor", "c")
	w.Header().Set("Tact-Users", "7")
	w.Header().Set("Tact-At", "2026-11-22T10:00:00.000Z")
	w.Header().Set("Tact-Crc32c",
		fmt.Sprintf("%08x", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))))
	switch a.replies {
	case 1:
		_, _ = w.Write(data[:100])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case 2:
		data[5] ^= 1
	}
	_, _ = w.Write(data)
}

func exporting(t *testing.T, a *asked) (*Client, string) {
	t.Helper()
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	c := New(s.URL, "k")
	t.Cleanup(c.Close)
	c.wait = func(context.Context, time.Duration) error { return nil }
	return c, filepath.Join(t.TempDir(), "out")
}

func wholeCSV(n int) string {
	want := "user_id,identity_type,identity_value,n,vip,tier\n"
	for i := range n {
		if i == 2 {
			want += ",email,\"a,b\",2,,\n"
			continue
		}
		want += fmt.Sprintf("u%d,,,%d,true,x\n", i, i)
	}
	return want
}

var errStop = errors.New("stop")

// An export whose connection breaks again and again has everybody once, and one
// that was ended goes on when it is started again.
func TestExportGoesOn(t *testing.T) {
	a := &asked{n: 100, every: 10, cut: func(reply int) int { return 15 }}
	c, path := exporting(t, a)
	q := Query{
		Segment: "s", Format: "csv", Attributes: []string{"n"}, Tags: []string{"vip", "tier"},
	}
	// From a cursor on 14 lines are 12 people or so: enough for the next cursor.
	done, err := c.Export(context.Background(), ExportOptions{Query: q, Path: path})
	got, _ := os.ReadFile(path)
	if err != nil || done.Users != 100 || string(got) != wholeCSV(100) || a.replies < 5 {
		t.Fatalf("%v, %d people in %d replies:\n%s", err, done.Users, a.replies, got)
	}
	if _, err := os.Stat(path + ".part.json"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state left behind: %v", err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	const many = 100
	b := &asked{n: many, every: 10, hang: 60}
	c, path = exporting(t, b)
	_, err = c.Export(ctx, ExportOptions{Query: q, Path: path, Progress: func(done, _ int64) {
		if done == 50 {
			cancel()
		}
	}})
	if err == nil {
		t.Fatal("ended, and no error")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an unfinished file has its name: %v", err)
	}
	done, err = c.Export(context.Background(), ExportOptions{Query: q, Path: path})
	got, _ = os.ReadFile(path)
	if err != nil || done.Resumed < 50 || string(got) != wholeCSV(many) {
		t.Fatalf("%v, resumed at %d, asked from %v", err, done.Resumed, b.from)
	}
}

// An answer without cursors that breaks off is asked for anew, from the first on.
func TestExportWithoutCursors(t *testing.T) {
	a := &asked{n: 60, every: 10, kept: func(reply int) bool { return reply > 2 }}
	a.cut = func(reply int) int {
		if reply <= 3 {
			return 30
		}
		return 0
	}
	c, path := exporting(t, a)
	done, err := c.Export(context.Background(), ExportOptions{
		Path:  path,
		Query: Query{Segment: "s", Format: "csv", Attributes: []string{"n"}, Tags: []string{"vip", "tier"}},
	})
	got, _ := os.ReadFile(path)
	if err != nil || done.Users != 60 || string(got) != wholeCSV(60) ||
		strings.Join(a.from, ",") != ",,,20" {
		t.Fatalf("%v, %d people, asked from %q:\n%s", err, done.Users, a.from, got)
	}
}

// A cursor whose answer is gone: the export begins again from the begin.
func TestExportBeginsAgain(t *testing.T) {
	a := &asked{n: 60, every: 10}
	a.cut = func(reply int) int {
		if reply == 1 {
			return 30
		}
		return 0
	}
	a.gone = func(reply int) bool { return reply == 2 }
	c, path := exporting(t, a)
	done, err := c.Export(context.Background(), ExportOptions{
		Path:  path,
		Query: Query{Segment: "s", Format: "csv", Attributes: []string{"n"}, Tags: []string{"vip", "tier"}},
	})
	got, _ := os.ReadFile(path)
	if err != nil || done.Users != 60 || string(got) != wholeCSV(60) || a.from[2] != "" {
		t.Fatalf("%v, asked from %q:\n%s", err, a.from, got)
	}
}

// Without any progress an export gives up.
func TestExportGivesUp(t *testing.T) {
	a := &asked{n: 60, every: 100, cut: func(int) int { return 3 }}
	c, path := exporting(t, a)
	_, err := c.Export(context.Background(), ExportOptions{
		Path: path, Query: Query{Segment: "s", Format: "ndjson"},
	})
	if !BrokenOff(err) || a.replies > cuts+2 {
		t.Fatalf("after %d replies: %v", a.replies, err)
	}
}

// A bitmap that came damaged or not whole is fetched again, for the same people.
func TestExportRoaring(t *testing.T) {
	a := &asked{n: 7}
	c, path := exporting(t, a)
	done, err := c.Export(context.Background(), ExportOptions{
		Path: path, Query: Query{Segment: "s", Format: "roaring"},
	})
	got, _ := os.ReadFile(path)
	if err != nil || len(got) != 6000 || done.Users != 7 || a.replies != 3 || a.from[2] != "c" {
		t.Fatalf("%v, %d bytes after %d replies from %q", err, len(got), a.replies, a.from)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
}

// What the caller cannot take ends the reading.
func TestPeopleStops(t *testing.T) {
	a := &asked{n: 100, every: 10}
	c, _ := exporting(t, a)
	n := 0
	_, err := c.People(context.Background(), Query{Segment: "s"}, Answer{
		Person: func([]byte) error {
			if n++; n == 5 {
				return errStop
			}
			return nil
		},
	})
	if !errors.Is(err, errStop) || n != 5 {
		t.Errorf("%v after %d people", err, n)
	}
}
