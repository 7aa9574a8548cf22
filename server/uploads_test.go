package server

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"tact/engine"
	"tact/engine/definition"
)

// uploadPeople is how many people a list of TestUploads names: 20,000, or a million
// times TACT_EFFORT.
func uploadPeople() int {
	x, err := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64)
	if err != nil || x <= 0 {
		return 20_000
	}
	return max(int(x*1_000_000), 20_000)
}

// uploading is a server with n people u0 … and something to put them in.
type uploading struct {
	*running
	n int
}

func startUploading(t *testing.T, n int) *uploading {
	r := &uploading{start(t, Options{}), n}
	yaml := "kind: tag\nid: vip\n---\nkind: tag\nid: city\nvalues: [north, south]\n" +
		"---\nkind: segment\nid: list\nmembers: static\n---\nkind: segment\nid: copy\nmembers: static\n"
	status, body, _ := r.do(ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json",
		body: bundleOf(t, []definition.File{{Name: "t.yaml", Content: []byte(yaml)}}),
	})
	if status != 200 {
		t.Fatalf("publish: %d %s", status, body)
	}
	for from := 0; from < n; from += 5000 {
		batch := r.engine.Begin()
		for i := from; i < min(from+5000, n); i++ {
			if x := batch.User(&engine.UserDoc{UserID: fmt.Append(nil, "u", i)}); x.Err != nil {
				t.Fatal(x.Err)
			}
		}
		if err := batch.Commit(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// generated is a body that is written while it is sent.
func generated(write func(w *bufio.Writer)) io.Reader {
	out, in := io.Pipe()
	go func() {
		w := bufio.NewWriter(in)
		write(w)
		_ = w.Flush()
		_ = in.Close()
	}()
	return out
}

// upload sends a body and returns the last line of the reply. It says how long it
// took and by how much the heap grew at most.
func (r *uploading) upload(method, path, kind string, body io.Reader, header http.Header) string {
	r.t.Helper()
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&now)
				most.Store(max(most.Load(), now.HeapInuse))
			}
		}
	}()
	began := time.Now()
	req, err := http.NewRequest(method, "http://"+r.addr+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", kind)
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 64<<20)
	last, n := "", 0
	for lines.Scan() {
		last, n = lines.Text(), n+1
	}
	if res.StatusCode != 200 || lines.Err() != nil {
		r.t.Fatalf("%s %s: %d, %v, %s", method, path, res.StatusCode, lines.Err(), last)
	}
	took := time.Since(began)
	close(stop)
	<-done
	grown := int64(most.Load()) - int64(before.HeapInuse)
	r.t.Logf("%s %s %s: %v, %d lines answered, heap +%d MiB at most", method, path, kind,
		took.Round(time.Millisecond), n, max(grown, 0)>>20)
	return last
}

func (r *uploading) expect(what, got string, parts ...string) {
	r.t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			r.t.Errorf("%s: %s, want it with %s", what, got, part)
		}
	}
}

func (r *uploading) size(query string) uint64 {
	r.t.Helper()
	_, body := r.post("/v1/segments:count", query)
	_, rest, _ := strings.Cut(body, `"users":`)
	n, err := strconv.ParseUint(rest[:strings.IndexAny(rest, ",}")], 10, 64)
	if err != nil {
		r.t.Fatal(body)
	}
	return n
}

// bitmapOf exports the people of a query as a bitmap, with its headers.
func (r *uploading) bitmapOf(query string) ([]byte, http.Header) {
	r.t.Helper()
	status, body, header := r.do(ask{
		method: "POST", path: queryPath, kind: "application/json", body: query,
	})
	if status != 200 {
		r.t.Fatal(status, body)
	}
	return []byte(body), http.Header{
		"Tact-Crc32c": header["Tact-Crc32c"], "Tact-Ordinals": header["Tact-Ordinals"],
	}
}

// A Parquet file of more people than a row group holds is streamed in several, in
// the order in which ids come.
func TestParquetOfManyRowGroups(t *testing.T) {
	const n = 70_000
	r := startUploading(t, n)
	status, body, _ := r.do(ask{
		method: "POST", path: queryPath, kind: "application/json",
		body: `{"rule":{},"format":"parquet","tags":["vip"]}`,
	})
	file, err := parquet.OpenFile(strings.NewReader(body), int64(len(body)))
	if status != 200 || err != nil || file.NumRows() != n || len(file.RowGroups()) < 2 {
		t.Fatalf("%d, %v", status, err)
	}
	for _, g := range file.RowGroups() {
		if g.NumRows() > 65_536 {
			t.Errorf("a row group of %d", g.NumRows())
		}
	}
	type row struct {
		UserID string `parquet:"user_id,optional"`
	}
	rows, err := parquet.Read[row](strings.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	ids := r.lines(queryPath, `{"rule":{}}`)
	at := 0
	for _, line := range ids[1:] {
		if !strings.HasPrefix(line, `"`) {
			continue // a cursor, or the end
		}
		if at == n || line != strconv.Quote(rows[at].UserID) {
			t.Fatalf("row %d is not %s", at, line)
		}
		at++
	}
	if at != n {
		t.Errorf("%d ids", at)
	}
}

// A list of everybody, by each way there is: lines of JSON and of CSV into a static
// segment, a bitmap of one segment into another; a tag by lists of ids, by a CSV
// file and by a bitmap. With TACT_EFFORT=1 a list names a million people.
func TestUploads(t *testing.T) {
	if testing.Short() && raceEnabled {
		t.Skip("the lists are long for the race detector")
	}
	n := uploadPeople()
	r := startUploading(t, n)
	const strangers = 100
	json := generated(func(w *bufio.Writer) {
		for i := range n + strangers {
			fmt.Fprintf(w, "{\"user_id\":\"u%d\"}\n", i)
		}
	})
	members := "/v1/segments/list/members"
	r.expect("lines", r.upload("PUT", members, ndjson, json, nil),
		fmt.Sprintf(`"added":%d,`, n), `"unknown":100`, `"rejected":0`)
	csv := generated(func(w *bufio.Writer) {
		fmt.Fprintln(w, "user_id,why")
		for i := 0; i < n; i += 2 {
			fmt.Fprintf(w, "u%d,\"said so, twice\"\n", i)
		}
	})
	r.expect("csv", r.upload("PUT", members, "text/csv", csv, nil),
		`"added":0,`, fmt.Sprintf(`"removed":%d,`, n/2))
	if got := r.size(`{"segment":"list"}`); got != uint64(n/2) {
		t.Errorf("%d in the list", got)
	}

	bitmap, header := r.bitmapOf(`{"segment":"list","format":"roaring"}`)
	fill := fmt.Sprintf(`{"members":{"ordinals":%q,"crc32c":%q,"roaring":%q}}`,
		header.Get("Tact-Ordinals"), header.Get("Tact-Crc32c"), base64.StdEncoding.EncodeToString(bitmap))
	r.expect("bitmap", r.upload("POST", "/v1/segments/copy/members:fill", "application/json",
		strings.NewReader(fill), nil), fmt.Sprintf(`"added":%d,`, n/2))
	if got := r.size(`{"rule":{"all":[{"segment":"copy"},{"segment":"list"}]}}`); got != uint64(n/2) {
		t.Errorf("%d in both", got)
	}

	r.expect("tag by bitmap", r.upload("POST", "/v1/tags/vip/members",
		"application/octet-stream", bytes.NewReader(bitmap), header),
		fmt.Sprintf(`"applied":%d`, n/2))
	tags := generated(func(w *bufio.Writer) {
		fmt.Fprintln(w, "user_id,is")
		for i := range n + strangers {
			fmt.Fprintf(w, "u%d,%s\n", i, [...]string{"north", "south"}[i%2])
		}
	})
	r.upload("POST", "/v1/tags/city/members", "text/csv", tags, nil)
	const list = 400_000 // ids that fit into the 8 MiB of one request
	for from := 0; from < n; from += list {
		ids := generated(func(w *bufio.Writer) {
			fmt.Fprintf(w, `{"remove":["u%d"`, from)
			for i := from + 1; i < min(from+list, n); i++ {
				fmt.Fprintf(w, `,"u%d"`, i)
			}
			fmt.Fprint(w, "]}")
		})
		r.expect("tag by list", r.upload("POST", "/v1/tags/vip/members", "application/json", ids, nil),
			fmt.Sprintf(`"applied":%d`, min(list, n-from)))
	}
	for rule, want := range map[string]int{
		`{"tag":"vip"}`: 0, `{"tag":"city","is":"north"}`: n - n/2, `{"tag":"city","is":"south"}`: n / 2,
	} {
		if got := r.size(`{"rule":` + rule + `}`); got != uint64(want) {
			t.Errorf("%s holds for %d, want %d", rule, got, want)
		}
	}
	if err := r.engine.CheckStore(); err != nil {
		t.Error(err)
	}
}
