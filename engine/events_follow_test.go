package engine

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// followed reads what comes behind a cursor, and gives the next one.
func (b *bed) followed(after string, limit int64, event string) (ids []string, next string, more bool) {
	b.t.Helper()
	q := EventsQuery{Follow: &EventsFollow{After: []byte(after), Limit: limit}}
	if event != "" {
		q.Event = []byte(event)
	}
	all, err := b.e.Events(&q)
	if err != nil {
		b.t.Fatal(err)
	}
	for v, err := range all {
		var p *Problem
		switch {
		case errors.As(err, &p) && p.Code == "log_moved": // as it says: once more
			return b.followed(after, limit, event)
		case err != nil:
			b.t.Fatal(err)
		}
		ids = append(ids, string(v.Person)+" "+string(v.EventID))
	}
	if q.Follow.Next == nil {
		b.t.Fatal("there is no cursor at the end")
	}
	return ids, string(q.Follow.Next), q.Follow.More
}

// A reader that hands the cursor on gets every event once and those of a person in
// order, whatever moves into the log meanwhile, over starts and losses of the process.
func TestEventsAreFollowed(t *testing.T) {
	for seed := range uint64(6) {
		b := newBed(t, testDefinitions)
		random := rand.New(rand.NewPCG(seed, 9))
		event := []string{"", "visit"}[seed%2]
		var want, got []string // of the event asked for
		cursor, n := EventsStart, 0
		send := func() {
			batch := b.e.Begin()
			for range 1 + random.IntN(4) {
				n++
				name := []string{"visit", "order"}[(n+1)%2]
				doc := EventDoc{
					EventID: fmt.Appendf(nil, "e%d", n), UserID: fmt.Appendf(nil, "u%d", random.IntN(9)),
					Event: []byte(name), BodyHash: 1,
				}
				if r := batch.Event(&doc); r.Err != nil {
					t.Fatal(r.Err)
				}
				if event == "" || event == name {
					want = append(want, string(doc.UserID)+" "+string(doc.EventID))
				}
			}
			if err := batch.Commit(10 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
		send()
		for range 150 {
			switch random.IntN(8) {
			case 0, 1, 2:
				send()
			case 3:
				if err := b.e.store.FlushLog(); err != nil {
					t.Fatal(err)
				}
			case 4:
				if random.IntN(4) == 0 {
					b.reopen()
				}
			case 5:
				b.m.pass(time.Duration(random.IntN(90)) * time.Minute)
			default:
				limit := int64(random.IntN(6))
				ids, next, more := b.followed(cursor, limit, event)
				if more && int64(len(ids)) < limit || limit == 0 && more {
					t.Fatalf("%d of a limit of %d, more %v", len(ids), limit, more)
				}
				got, cursor = append(got, ids...), next
			}
		}
		for more := true; more; {
			var ids []string
			ids, cursor, more = b.followed(cursor, 5, event)
			got = append(got, ids...)
		}
		if ids, _, more := b.followed(cursor, 0, event); len(ids) > 0 || more {
			t.Fatalf("seed %d: behind the end are %v", seed, ids)
		}
		byUser := func(a, b string) int {
			return strings.Compare(a[:strings.IndexByte(a, ' ')], b[:strings.IndexByte(b, ' ')])
		}
		slices.SortStableFunc(want, byUser)
		slices.SortStableFunc(got, byUser)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d read, %d sent\n%q\nwant\n%q", seed, len(got), len(want), got, want)
		}
	}
}

// A cursor whose next events have left the log is told so, with what has; one that has
// read them goes on, and so does one of a group in which nothing happens.
func TestFollowedEventsLeave(t *testing.T) {
	b := &bed{t: t, m: &machine{wall: 1_790_000_000_000, mono: 1}}
	fs := vfs.NewMem()
	open := func() {
		t.Helper()
		var err error
		if b.e, err = Open("store", Options{Read: b.m.read, Storage: storage.Options{
			Groups: 4, FS: fs, KeepEffects: 24 * time.Hour, LogEvery: time.Millisecond,
		}}); err != nil {
			t.Fatal(err)
		}
	}
	open()
	t.Cleanup(func() { _ = b.e.Close() })
	b.publish(testDefinitions)
	n := 0
	send := func(user string) {
		t.Helper()
		n++
		doc := EventDoc{
			EventID: fmt.Appendf(nil, "e%d", n), UserID: []byte(user), Event: []byte("visit"), BodyHash: 1,
		}
		if r := b.apply(func(x *Batch) LineResult { return x.Event(&doc) }); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for i := range 12 {
		send(fmt.Sprint("u", i))
	}
	_, part, more := b.followed(EventsStart, 3, "")
	_, all, _ := b.followed(EventsStart, 0, "")
	if !more {
		t.Fatal("the part is all")
	}
	send("u0") // behind all of them
	for i := range 3 {
		if err := errors.Join(b.e.store.FlushLog(), b.e.Close()); err != nil {
			t.Fatal(err)
		}
		b.m.pass(30 * time.Hour)
		open() // a file ends with a start, and the old ones leave
		if i == 0 {
			send("u0")
		}
	}
	for end := time.Now().Add(time.Minute); b.e.store.Stats().Log.Effects.GoneDays < 2; {
		if time.Now().After(end) {
			t.Fatal("nothing leaves")
		}
		time.Sleep(time.Millisecond)
	}
	refused := func(after, code string) {
		t.Helper()
		_, err := b.e.Events(&EventsQuery{Follow: &EventsFollow{After: []byte(after)}})
		var p *Problem
		if !errors.As(err, &p) || p.Code != code || p.Field != "after" {
			t.Errorf("%.20s…: %v, want %s", after, err, code)
		}
	}
	refused(part, "cursor_expired")
	refused(all, "cursor_expired") // of u0 something came behind it, and has left
	_, now, _ := b.followed(EventsStart, 0, "")
	send("u1")
	if ids, _, _ := b.followed(now, 0, ""); len(ids) != 1 || !strings.HasPrefix(ids[0], "u1 ") {
		t.Errorf("behind the newest: %v", ids)
	}
	refused("", "bad_cursor")
	refused("x", "bad_cursor")
	raw, err := base64.RawURLEncoding.DecodeString(now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		broken := bytes.Clone(raw)
		broken[i] ^= 1
		refused(base64.RawURLEncoding.EncodeToString(broken), "bad_cursor")
	}
	// One of a store whose epochs are far behind, as before a restore, or ahead.
	for _, epoch := range []uint32{b.e.store.Epoch() + 1, b.e.store.Epoch() - 1<<11} {
		c := storage.LogCursor{Epoch: epoch, Groups: make([]storage.LogPosition, 4)}
		refused(string(b.e.appendEventsCursor(nil, &c)), "cursor_expired")
	}
	c := storage.LogCursor{Epoch: b.e.store.Epoch(), Groups: make([]storage.LogPosition, 4)}
	c.Groups[2].Frame = 1 << 40
	refused(string(b.e.appendEventsCursor(nil, &c)), "cursor_expired")
}

func FuzzEventsCursor(f *testing.F) {
	e, err := Open("store", Options{Storage: storage.Options{Groups: 2, FS: vfs.NewMem()}})
	if err != nil {
		f.Fatal(err)
	}
	if err := e.Close(); err != nil { // its keys stay; its loops would look like new paths
		f.Fatal(err)
	}
	c := storage.LogCursor{Epoch: 3, Groups: []storage.LogPosition{{Frame: 7, Time: 9}, {}}}
	f.Add(e.appendEventsCursor(nil, &c))
	f.Add([]byte("AQAAAAA"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var c storage.LogCursor
		if err := e.parseEventsCursor(text, &c); err != nil {
			return
		}
		if again := e.appendEventsCursor(nil, &c); !bytes.Equal(again, text) {
			t.Errorf("%q became %q", text, again)
		}
	})
}
