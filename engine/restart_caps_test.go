package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A reservation that had run out before a start, and that nothing of its person has swept
// since, is held once more for its life and grace, since nobody has written down that it
// was given back: it counts at its own time, so never longer than the window that its end
// lies in, and nothing is granted beyond the limit. One that was swept stays given back.
func TestRunOutBeforeAStart(t *testing.T) {
	f := func(window string, swept bool, pass time.Duration, want int64) {
		t.Helper()
		b := newBed(t, capWorld+"scope: person\nper: offer\ncount_on: impression\nwindow: "+window+
			"\nlimit: 1\n")
		b.want(b.decideReq("ann", "spot"), "a") // held for 10 minutes, and 5 of grace
		b.m.pass(pass)
		b.e.tick()
		if n := b.used("ann", "a", "c"); n != 0 {
			t.Fatalf("%s: %d used of what has run out", window, n)
		}
		if swept {
			b.want(b.decideReq("ann", "spot"), "a")
			if r := b.outcome(b.out.Items[0].Token, "impression", "1"); r.Err != nil {
				t.Fatal(r.Err)
			}
			want = 1
		}
		b.reopen()
		if n := b.used("ann", "a", "c"); n != want {
			t.Fatalf("%s: %d used after the start, want %d", window, n, want)
		}
		if swept || want == 0 {
			return
		}
		b.want(b.decideReq("ann", "spot"), "none: capped_user")
		b.m.pass(15*time.Minute - time.Second)
		b.want(b.decideReq("ann", "spot"), "none: capped_user")
		b.m.pass(2 * time.Second)
		b.want(b.decideReq("ann", "spot"), "a")
		if err := b.e.CheckStore(); err != nil {
			t.Fatal(err)
		}
	}
	f("{rolling: 1d}", false, 16*time.Minute, 1)
	f("{rolling: 1d}", true, 16*time.Minute, 1)
	f("{rolling: 20m}", false, 31*time.Minute, 0) // its end has left the window
}

// The ring that a kill leaves is the one that the next start of its store uses, and a
// clean end removes it. What lies beside it in the folder belongs to others and stays.
func TestOrphanRing(t *testing.T) {
	l := newLoss(3)
	l.withRing(t, func() {
		if l.ring == "" {
			t.Skip("no shared memory here")
		}
		foreign := l.ring + "/tact-00112233445566778899aabbccddeeff"
		rings := func() (names []string) {
			entries, err := os.ReadDir(l.ring)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				names = append(names, e.Name())
			}
			return names
		}
		var err error
		if l.e, err = l.open(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.publish(), l.decide()); err != nil {
			t.Fatal(err)
		}
		own := rings()
		l.losses++
		if err := l.lose(true); err != nil { // a kill leaves the ring and what the disk was told
			t.Fatal(err)
		}
		cut := l.clone(100)
		if err := l.e.Close(); err != nil {
			t.Fatal(err)
		}
		l.fs = cut
		foreign = l.ring + foreign[len(foreign)-len("/tact-00112233445566778899aabbccddeeff"):]
		if err := os.WriteFile(foreign, []byte("of another store"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := rings(); len(own) != 1 || len(got) != 2 {
			t.Fatalf("rings %v, then %v", own, got)
		}
		if l.e, err = l.open(); err != nil {
			t.Fatal(err)
		}
		if s := l.e.StoreStats().Journal; s.Incident || !s.Ring || len(rings()) != 2 {
			t.Errorf("its own ring is not used again: %+v, %v", s, rings())
		}
		if err := l.e.Close(); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(rings()); got != "[tact-00112233445566778899aabbccddeeff]" {
			t.Errorf("after a clean end: %s", got)
		}
	})
}

// A reload that a power cut makes the store forget is decided anew under its request_id:
// it is given the same reservation, and no second use.
func TestForgottenReloadTakesNoSecondUse(t *testing.T) {
	l := newLoss(3)
	l.withRing(t, func() {
		if l.ring == "" {
			t.Skip("no shared memory here")
		}
		var err error
		if l.e, err = l.open(); err != nil {
			t.Fatal(err)
		}
		b := &bed{t: t, fs: l.fs, m: l.m, e: l.e}
		b.publish(strings.Replace(stickyWorld, "limit: 1}", "limit: 2}", 1)) // one for the stand-in
		b.user(UserDoc{UserID: []byte("ann")})
		first := b.reload(b.decideReq("ann", "spot"), "a")
		if _, err := l.line(func(x *Batch) LineResult { // the reservation is durable
			return x.User(&UserDoc{UserID: []byte("ann")})
		}); err != nil {
			t.Fatal(err)
		}
		cut := l.clone(0)
		again := b.decideReq("ann", "spot")
		again.RequestID = []byte("r1")
		second := b.reload(again, "a")
		if second.held != first.held {
			t.Fatalf("%+v, then %+v", first, second)
		}
		l.losses++
		if err := errors.Join(l.lose(false), l.e.Close()); err != nil {
			t.Fatal(err)
		}
		l.fs = cut
		if b.e, err = l.open(); err != nil {
			t.Fatal(err)
		}
		third := b.reload(again, "a")
		if third.held != first.held || b.out.Replayed {
			t.Errorf("%+v, then %+v", first, third)
		}
		// What the lost reload was answered with confirms the same one use.
		for i, token := range [][]byte{second.token, first.token, third.token} {
			r := b.outcome(bytes.Clone(token), "impression", fmt.Sprint(i))
			if r.Err != nil || r.Flags != []LineFlags{0, FlagRepeat, FlagRepeat}[i] {
				t.Errorf("outcome %d: %+v", i, r)
			}
		}
		if n := b.used("ann", "a", "c"); n > 2 { // itself and the stand-in of the session
			t.Errorf("%d used", n)
		}
		if err := errors.Join(b.e.CheckStore(), b.e.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// Server time is a little ahead of the wall clock after a kill, since it begins at a
// high-water that was written ahead. It stands there until the wall has caught up: a
// hundred kills in a row leave it no further ahead than one.
func TestKillsLeaveTimeWithTheWallClock(t *testing.T) {
	l := newLoss(1)
	l.withRing(t, func() {
		if l.ring == "" {
			t.Skip("no shared memory here")
		}
		var err error
		if l.e, err = l.open(); err != nil {
			t.Fatal(err)
		}
		if err := l.publish(); err != nil {
			t.Fatal(err)
		}
		const ahead = 2000 // ms, of journal.Options.Ahead
		stood, last := 0, l.e.Now()
		for kill := range 100 {
			l.m.pass(time.Duration(100+l.rng.IntN(900)) * time.Millisecond)
			if err := l.decide(); err != nil {
				t.Fatal(err)
			}
			l.losses++
			if err := l.lose(true); err != nil {
				t.Fatal(err)
			}
			cut := l.clone(100)
			if err := l.e.Close(); err != nil {
				t.Fatal(err)
			}
			l.fs = cut
			if l.e, err = l.open(); err != nil {
				t.Fatal(err)
			}
			now := l.e.Now()
			wall, _ := l.m.read()
			if lead := int64(now) - wall; lead > ahead || now < last {
				t.Fatalf("after %d kills time is %d ms ahead of the wall clock, %d ms after the start "+
					"before", kill+1, lead, now-last)
			} else if lead > 0 {
				stood++
			}
			last = now
		}
		if stood < 50 {
			t.Errorf("time was ahead after %d of 100 kills", stood)
		}
		if err := errors.Join(l.e.CheckStore(), l.e.Close()); err != nil {
			t.Fatal(err)
		}
	})
}
