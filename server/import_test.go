package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tact/server/client"
)

// The client's whole surface against a real server.
func TestClient(t *testing.T) {
	r := start(t, Options{})
	ctx := context.Background()
	c := client.New(r.addr, testKey)
	defer c.Close()
	var files []client.File
	for _, f := range testFiles() {
		files = append(files, client.File{Name: f.Name, Content: f.Content})
	}
	if got, err := c.Check(ctx, files); err != nil || !got.OK {
		t.Fatalf("check: %v %+v", err, got)
	}
	published, err := c.Publish(ctx, files, "first", 0)
	if err != nil || published.Revision.Number != 1 {
		t.Fatalf("publish: %v %+v", err, published)
	}
	if rev, err := c.Rollback(ctx, 1, 1); err != nil || rev.Number != 2 || rev.Restores != 1 {
		t.Errorf("rollback: %v %+v", err, rev)
	}
	if n, got, err := c.Files(ctx, 0); err != nil || n != 2 || len(got) != len(files) ||
		string(got[0].Content) != string(files[0].Content) {
		t.Errorf("files: %v %d", err, n)
	}
	if list, err := c.Revisions(ctx, 0); err != nil || len(list) != 2 || list[1].Note != "first" {
		t.Errorf("revisions: %v %+v", err, list)
	}
	if ok, why, err := c.Ready(ctx); err != nil || !ok {
		t.Errorf("ready: %v %v", err, why)
	}
	importPeople(t, c)
	if err := c.SegmentMembers(ctx, "vips", []string{"u1"}, nil); err != nil {
		t.Errorf("members: %v", err)
	}
	user, err := c.User(ctx, "u1")
	if err != nil || !strings.Contains(string(user), `"segments":["vips"]`) ||
		!strings.Contains(string(user), `"first_name":"n1"`) {
		t.Errorf("user: %v %s", err, user)
	}
	reply, err := c.Decide(ctx, []byte(`{"user":{"user_id":"u1"},"request_id":"r",`+
		`"placements":[{"placement_id":"home"}]}`), true)
	if err != nil || !strings.Contains(string(reply), `"title":"n1"`) {
		t.Errorf("decide: %v %s", err, reply)
	}
	if rows, err := c.Stats(ctx, "hello", ""); err != nil || len(rows) == 0 {
		t.Errorf("stats: %v %v", err, rows)
	}
}

// importPeople imports 3,000 users and then an event for each, twice.
func importPeople(t *testing.T, c *client.Client) {
	t.Helper()
	var users, events strings.Builder
	users.WriteString("id,name\n")
	events.WriteString("id,what,at\n")
	for i := range 3000 {
		fmt.Fprintf(&users, "u%d,n%d\n", i, i)
		fmt.Fprintf(&events, "u%d,visit,2026-01-02 03:04:05\n", i)
	}
	events.WriteString("u1,visit,never\n")
	dir := t.TempDir()
	run := func(name, text string, o client.ImportOptions) client.ImportReport {
		t.Helper()
		o.Path = filepath.Join(dir, name)
		if err := os.WriteFile(o.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := c.Import(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	report := run("users.csv", users.String(), client.ImportOptions{
		Kind: "users", Map: []string{"user_id=id", "attributes.first_name=name"},
	})
	if report.Applied != 3000 || report.Rejected != 0 {
		t.Errorf("users: %+v", report)
	}
	o := client.ImportOptions{Kind: "events", Map: []string{
		"user_id=id", "event=what", "occurred_at=at:time(2006-01-02 15:04:05)",
	}}
	if report = run("events.csv", events.String(), o); report.Applied != 3000 || report.Rejected != 1 {
		t.Errorf("events: %+v", report)
	}
	if report = run("events.csv", events.String(), o); report.Duplicate != 3000 {
		t.Errorf("events again: %+v", report)
	}
}
