package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportList: files of every form are sent in bounded requests; an import
// that was cut goes on behind the last acknowledged request, and what was
// rejected is named once.
func TestImportList(t *testing.T) {
	var got []string
	requests, failAt := 0, -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if requests++; requests == failAt {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		n := bytes.Count(body, []byte{'\n'})
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/octet") {
			n = len(body) / 32
		}
		got = append(got, fmt.Sprintf("%s %d %s", r.URL.RequestURI(), n, body[:min(len(body), 12)]))
		fmt.Fprintf(w, `{"lines":%d,"added":%d,"removed":0}`, n, n)
	}))
	defer server.Close()
	c := New(server.URL, "k")
	f := func(name, content string, o ListOptions, want ListProgress, sent ...string) error {
		t.Helper()
		got, requests = nil, 0
		o.Path, o.List = filepath.Join(t.TempDir(), name), "u"
		if err := os.WriteFile(o.Path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		done, err := c.ImportList(context.Background(), o)
		if err != nil && failAt < 0 {
			t.Fatal(err)
		}
		if err != nil { // once more, and now it ends
			failAt = -1
			if done, err = c.ImportList(context.Background(), o); err != nil {
				t.Fatal(err)
			}
		}
		done.Bytes, done.TotalBytes = 0, 0
		if done != want || fmt.Sprint(got) != fmt.Sprint(sent) {
			t.Errorf("%s: %+v %q, want %+v %q", name, done, got, want, sent)
		}
		if _, err := os.Stat(o.Path + ".tact-import"); err == nil {
			t.Errorf("%s: a state file is left", name)
		}
		rejected, _ := os.ReadFile(o.Path + ".rejected.ndjson")
		if int64(bytes.Count(rejected, []byte{'\n'})) != want.Rejected {
			t.Errorf("%s: rejected %s", name, rejected)
		}
		return err
	}
	path := "/v1/lists/u/entries"
	_ = f("a.txt", "a@b\n\n c@d \r\n", ListOptions{Kind: "email"},
		ListProgress{Values: 2, Changed: 2}, path+"?kind=email 2 a@b\nc@d\n")
	hash := strings.Repeat("ab", 32)
	_ = f("a.txt", hash+"\nshort\n"+hash, ListOptions{Kind: "phone", Hashed: true, Remove: true},
		ListProgress{Values: 2, Changed: 2, Rejected: 1},
		path+"?encoding=sha256&kind=phone&remove=true 2 abababababab")
	_ = f("a.csv", "id,mail\n1,x@y\n2,\n3,z@y\n", ListOptions{Kind: "email", Column: "mail"},
		ListProgress{Values: 2, Changed: 2, Rejected: 1}, path+"?kind=email 2 x@y\nz@y\n")
	_ = f("a.ndjson", `{"kind":"user","value":"u"}`+"\n", ListOptions{},
		ListProgress{Values: 1, Changed: 1}, path+` 1 {"kind":"use`)
	_ = f("a.bin", strings.Repeat("0123456789abcdef", 6), ListOptions{Kind: "email"},
		ListProgress{Values: 3, Changed: 3}, path+"?kind=email 3 0123456789ab")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, "p@q\n")
	_ = z.Close()
	_ = f("a.txt.gz", packed.String(), ListOptions{Kind: "email"},
		ListProgress{Values: 1, Changed: 1}, path+"?kind=email 1 p@q\n")
	var many strings.Builder
	for i := range 150_000 {
		fmt.Fprintf(&many, "%06d\n", i)
		if i == 70_000 {
			many.WriteString(strings.Repeat("x", 513) + "\n")
		}
	}
	failAt = 2
	_ = f("many.txt", many.String(), ListOptions{Kind: "phone"},
		ListProgress{Values: 150_000, Changed: 150_000, Rejected: 1},
		path+"?kind=phone 65536 000000\n00000", path+"?kind=phone 65536 065536\n06553",
		path+"?kind=phone 18928 131072\n13107")
}
