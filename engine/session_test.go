package engine

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// sessionWorld has places with one offer each, under one cap that counts impressions.
func sessionWorld(places int) string {
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: Asia/Shanghai\n" +
		"---\nkind: cap\nid: c\nscope: person\nper: offer\ncount_on: impression\n" +
		"window: {rolling: 7d}\nlimit: 60\n")
	for i := range places {
		fmt.Fprintf(&b, "---\nkind: offer\nid: o%d\ngroup: g%d\nmessage_class: marketing\n"+
			"treatments: [{id: t, channel: web, content: {type: text, body: a}}]\n"+
			"---\nkind: decision_policy\nid: y%d\ncandidates: {offers: {groups: [g%d]}}\n"+
			"---\nkind: placement\nid: p%d\nsticky: none\nchannel: web\npolicy: y%d\n", i, i, i, i, i, i)
	}
	return b.String()
}

// A person whose session is open is answered at once for every counter that has no
// use on its way to the disk: while nothing at all becomes durable, and over many
// rounds of the journal. Without a ring everything waits.
func TestOpenSessionDoesNotWait(t *testing.T) {
	f := func(name string, ring bool, fs vfs.FS) {
		t.Run(name, func(t *testing.T) {
			o := storage.Options{Groups: 4, FS: fs, JournalSlots: 256, BoundedMax: 4 * time.Millisecond}
			if ring {
				o.RingDir = sharedFolder(t)
			}
			b := &bed{t: t, dir: t.TempDir() + "/store", m: &machine{wall: clockStart, mono: 1}}
			o.FS = heldFS{fs, &b.late}
			var err error
			if b.e, err = Open(b.dir, Options{Read: b.m.read, Storage: o}); err != nil {
				t.Fatal(err)
			}
			openSessions(b, ring)
			if err := errors.Join(b.e.CheckStore(), b.e.Close()); err != nil {
				t.Fatal(err)
			}
		})
	}
	f("ring", true, vfs.NewMem())
	f("ring, store on the disk", true, vfs.Default)
	f("no ring", false, vfs.NewMem())
}

// sharedFolder is a folder of shared memory that goes with the test.
func sharedFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tact-test-")
	if err != nil {
		t.Skip("no shared memory here:", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // of a test
	return dir
}

func openSessions(b *bed, ring bool) {
	const people, places = 12, 6
	b.publish(sessionWorld(places))
	ask := func(person, place int) {
		req := b.decideReq(fmt.Sprint("u", person), fmt.Sprint("p", place))
		req.Timeout = 5 * time.Second
		if got := b.ask(req); got != fmt.Sprint("o", place) {
			b.t.Fatalf("got %q, %v; %v, %+v", got, b.out.Degraded, b.e.Waited(), b.e.StoreStats().Journal)
		}
	}
	var want [storage.WaitCauses]uint64
	expect := func(what string) {
		b.t.Helper()
		if got := b.e.Waited(); got != want {
			b.t.Fatalf("%s: waited by cause: %v, want %v", what, got, want)
		}
	}
	for i := range people {
		b.user(UserDoc{UserID: fmt.Append(nil, "u", i), BodyHash: 1})
		ask(i, 0)
	}
	if !ring {
		want[storage.WaitClosed] = people
		expect("the first of each person, no ring")
		return
	}
	want[storage.WaitLease] = people
	expect("the first of each person")
	before := b.e.StoreStats().Journal
	rounds := 12
	for range rounds {
		b.rest()
		b.late.Lock() // nothing becomes durable
		for i := range people {
			for p := range places {
				ask(i, p)
			}
		}
		b.late.Unlock()
		expect("a session that is open")
	}
	after := b.e.StoreStats().Journal
	if n := uint64(rounds * people * places); after.AtOnce-before.AtOnce != n || after.Refused > 0 {
		b.t.Errorf("%d of %d grants were answered at once, %d not taken",
			after.AtOnce-before.AtOnce, n, after.Refused)
	}
	b.rest()
	b.late.Lock()
	ask(0, 1)
	done := make(chan error)
	go func() {
		var out Decision
		req := b.decideReq("u0", "p1")
		done <- b.e.Decide(req, &out)
	}()
	select {
	case <-done:
		b.t.Error("two answers of one counter that are not durable")
	case <-time.After(20 * time.Millisecond):
	}
	b.late.Unlock()
	if err := <-done; err != nil {
		b.t.Fatal(err)
	}
	want[storage.WaitCounter] = 1
	expect("the second use of a counter")
}

// rest waits until everything is durable and the journal empty.
func (b *bed) rest() {
	b.t.Helper()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if st := b.e.StoreStats(); st.DurableLag == 0 && st.Journal.Backlog == 0 {
			return
		}
		if time.Now().After(until) {
			b.t.Fatalf("the journal does not come to rest: %+v", b.e.StoreStats().Journal)
		}
	}
}
