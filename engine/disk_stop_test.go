package engine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// brokenDisk fails what is written to logs once it is broken.
type brokenDisk struct {
	vfs.FS
	broken *atomic.Bool
}

type brokenFile struct {
	vfs.File
	broken *atomic.Bool
	name   string
}

func (d brokenDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return brokenFile{f, d.broken, name}, nil
}

func (f brokenFile) fault(what string) error {
	if f.broken.Load() {
		return &os.PathError{Op: what, Path: f.name, Err: syscall.EIO}
	}
	return nil
}

func (f brokenFile) Write(p []byte) (int, error) {
	if err := f.fault("write"); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f brokenFile) Sync() error     { return errors.Join(f.fault("sync"), f.File.Sync()) }
func (f brokenFile) SyncData() error { return errors.Join(f.fault("sync"), f.File.SyncData()) }

const brokenWorld = `
---
{kind: offer, id: capped, group: g, message_class: marketing, value: 2,
 treatments: [{id: t, channel: web, content: {type: text, body: c}}]}
---
{kind: offer, id: free, group: g, message_class: marketing, value: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: f}}]}
---
{kind: cap, id: once, scope: person, per: offer, applies_to: {offers: {ids: [capped]}},
 count_on: decision, window: {rolling: 1d}, limit: 9}
---
{kind: placement, id: spot, channel: web, policy: p}
---
{kind: decision_policy, id: p, candidates: {offers: {groups: [g]}}, ranking: {by: product}}
`

// On a disk that takes nothing any more, what comes in is refused with a reason,
// reads go on, decisions give what has no caps and say that they are not recorded,
// and readiness says why.
func TestBrokenDisk(t *testing.T) {
	var broken atomic.Bool
	b := &bed{t: t, m: &machine{wall: 1_790_000_000_000, mono: 1}}
	e, err := Open("store", Options{Read: b.m.read, Storage: storage.Options{
		Groups: 2, FS: brokenDisk{vfs.NewMem(), &broken},
	}})
	if err != nil {
		t.Fatal(err)
	}
	b.e = e
	b.publish("kind: workspace\nid: default\n" + brokenWorld)
	b.user(UserDoc{UserID: []byte("ann"), HasLocale: true, Locale: []byte("en")})
	ann := b.decideReq("ann", "spot")
	if got := b.ask(ann); !strings.Contains(got, "capped") {
		t.Fatalf("before: %s", got)
	}
	broken.Store(true)
	batch := e.Begin()
	r := batch.User(&UserDoc{UserID: []byte("bob")})
	err = batch.Commit(5 * time.Second)
	var p *Problem
	if !errors.As(errors.Join(r.Err, err), &p) || p.Class != ProblemBusy {
		t.Errorf("a user: %v, %v", r.Err, err)
	}
	for ok, _ := e.Ready(); ok; ok, _ = e.Ready() {
		time.Sleep(time.Millisecond)
	}
	if _, why := e.Ready(); !strings.Contains(strings.Join(why, " "), "input/output error") {
		t.Errorf("ready says %v", why)
	}
	if got := b.ask(ann); !strings.Contains(got, "free") ||
		!slices.Contains(b.out.Degraded, "not_recorded") {
		t.Errorf("a decision: %s, degraded %v", got, b.out.Degraded)
	}
	if b.out.Durability != durabilityNone {
		t.Errorf("a decision that is not recorded says %s", b.out.Durability)
	}
	if v, err := e.User([]byte("ann")); err != nil || v.Locale != "en" {
		t.Errorf("reading a user: %+v, %v", v, err)
	}
	if _, _, _, err := e.Publish(testFiles("kind: workspace\nid: default\n"), "t", "", 0); err == nil {
		t.Error("a publish was taken")
	}
	if err := e.Close(); err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("close: %v", err)
	}
}

// A server that was told to leave more room than there is starts again all the same:
// what a start writes fits.
func TestStartsWhileTheDiskIsNearlyFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	for i, free := range []int64{0, 1 << 60, 1 << 60} {
		e, err := Open(dir, Options{Storage: storage.Options{MinFree: free}})
		if err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		if full := e.store.DiskFull(); full != (free > 0) {
			t.Errorf("start %d: full %v", i, full)
		}
		if err := e.Close(); err != nil {
			t.Fatalf("end %d: %v", i, err)
		}
	}
}
