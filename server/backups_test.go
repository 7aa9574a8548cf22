package server

import (
	"encoding/json"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tact/engine"
)

// A backup is begun over HTTP, only into the folder that the server may write to, and
// is told of until it has ended.
func TestBackups(t *testing.T) {
	dir := t.TempDir()
	r := startWith(t, Options{}, engine.Options{BackupDir: dir})
	r.publish()
	refused := func(query string, want int, part string) {
		t.Helper()
		status, body, _ := r.do(ask{method: "POST", path: "/v1/backups" + query})
		if status != want || !strings.Contains(body, part) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	refused("?to="+url.QueryEscape(filepath.Dir(dir)), 403, "backup_folder")
	refused("?to="+url.QueryEscape(dir+"/../elsewhere"), 403, dir)
	refused("?to="+url.QueryEscape(dir+"-not"), 403, dir)
	refused("?full=perhaps", 400, "full")
	refused("?bytes_per_second=-1", 400, "bytes_per_second")
	refused("?from=here", 400, "from")
	if status, body, _ := r.do(ask{method: "GET", path: "/v1/backups"}); status != 200 ||
		!strings.Contains(body, `"none"`) {
		t.Errorf("%d %s", status, body)
	}
	for _, want := range []string{"full", "incremental"} {
		path := "/v1/backups?to=" + url.QueryEscape(filepath.Join(dir, "daily"))
		if status, body, _ := r.do(ask{method: "POST", path: path}); status != 202 {
			t.Fatalf("%d %s", status, body)
		}
		var view struct{ State, Kind, Fault string }
		for view.State == "" || view.State == "running" {
			time.Sleep(10 * time.Millisecond)
			_, body, _ := r.do(ask{method: "GET", path: "/v1/backups"})
			if err := json.Unmarshal([]byte(body), &view); err != nil {
				t.Fatal(err)
			}
		}
		if view.State != "done" || view.Kind != want {
			t.Errorf("%+v, want it to be %s", view, want)
		}
	}
}

func TestNoBackupsWithoutAFolder(t *testing.T) {
	r := start(t, Options{})
	if status, body, _ := r.do(ask{method: "POST", path: "/v1/backups"}); status != 403 {
		t.Errorf("%d %s", status, body)
	}
}
