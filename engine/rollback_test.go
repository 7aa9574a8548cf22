package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/storage"
	"tact/storage/lossy"
	"tact/storage/seeds"
)

// A rolledBack is a seed whose store is put back as it was earlier, while its clients
// go on.
type rolledBack struct {
	*loss
	copied *lossy.FS
	given  int // items, long after
	why    string
	tb     testing.TB
}

// disaster ends the engine and puts the copy back, as told by a mark or by the ring.
func (r *rolledBack) disaster(policy storage.CapsPolicy) error {
	now, epoch := int64(r.e.Now()), r.e.store.Epoch()
	r.losses++
	if err := r.lose(true); err != nil {
		return err
	}
	if err := r.e.Close(); err != nil {
		return err
	}
	r.fs = r.copied
	// What can still be shown in time, and reported within its grace, counts; what was
	// given back before is not there.
	r.shown = slices.DeleteFunc(r.shown, func(it *impression) bool {
		it.unknown = true
		return it.done || it.accepts > 0 || it.expires+300_000 <= now
	})
	r.asked, r.doubt = nil, nil
	known := r.ring != "" && epoch > 1
	if !known || r.seed%4 == 0 {
		err := storage.MarkOlderCopy("store", storage.OlderCopy{Newest: storage.UnixMsec(now)},
			storage.Options{FS: r.fs})
		if err != nil {
			return err
		}
	}
	if _, err := r.open(); !errors.Is(err, storage.ErrRolledBack) {
		return fmt.Errorf("an older copy opens without a word: %w", err)
	}
	r.caps = policy
	e, err := r.open()
	if err != nil {
		return err
	}
	if e.store.Epoch() <= epoch {
		return fmt.Errorf("epoch %d after %d", e.store.Epoch(), epoch)
	}
	r.e, r.caps = e, storage.CapsRefuse
	return nil
}

// after lives on in the copy, over a further end.
func (r *rolledBack) after() error {
	steps := []func() error{
		r.decide, r.decide, r.decide, r.see, r.see, r.see, r.see, r.turn, r.publish,
	}
	for i := range 120 {
		f := steps[r.rng.IntN(len(steps))]
		if err := f(); err != nil {
			return err
		}
		if i == 60 {
			if err := r.e.Close(); err != nil {
				return err
			}
			var err error
			if r.e, err = r.open(); err != nil {
				return err
			}
		}
	}
	return nil
}

// later asks once more when every window but a lifetime has passed.
func (r *rolledBack) later() error {
	r.m.pass(80 * time.Hour)
	r.e.tick()
	req := DecideRequest{UserID: []byte("ann"), Timeout: time.Second, Placements: []PlacementAsk{
		{Key: []byte("k"), PlacementID: []byte("page"), Count: 2},
		{Key: []byte("l"), PlacementID: []byte("spot"), Count: 2},
	}}
	if err := r.e.Decide(&req, &r.out); err != nil {
		return err
	}
	if r.given = len(r.out.Items); r.given == 0 {
		r.why = fmt.Sprintf("%+v %+v blind %d now %d", r.out.Slots, r.out.Capped, r.e.store.Blind(), r.e.Now())
	}
	return nil
}

func (r *rolledBack) run(policy storage.CapsPolicy) (over, err error) {
	if r.e, err = r.loss.open(); err != nil {
		return nil, err
	}
	err = r.publish()
	for i := range r.users {
		u := &r.users[i]
		res, err2 := r.line(func(b *Batch) LineResult { return b.User(r.userDoc(u, 0)) })
		err = errors.Join(err, err2, res.Err)
	}
	if err == nil {
		err = r.live(r.rng.IntN(40))
	}
	if err != nil {
		return nil, err
	}
	r.copied = r.clone(0)
	for range r.rng.IntN(3) { // further starts, which only the ring knows of
		if err := errors.Join(r.live(10), r.crash(), r.reopen()); err != nil {
			return nil, err
		}
	}
	for _, f := range []func() error{
		func() error { return r.live(20 + r.rng.IntN(40)) },
		func() error { return r.disaster(policy) },
		r.after,
		r.later,
		r.after, // of what was used before only what a lifetime holds counts now
		func() error { over = r.oracle.exceeded(r.loss); return nil },
	} {
		if err := f(); err != nil {
			return nil, err
		}
	}
	return over, r.e.Close()
}

// TestOlderCopy puts the store back as it was earlier. Under protect no cap is exceeded
// by the uses of both times together, and offers are given again once no window that
// began before is left; under trust caps are exceeded, which shows that the law is not
// empty. TACT_EFFORT=1 plays 2,000 seeds.
func TestOlderCopy(t *testing.T) {
	play := func(seed uint64, policy storage.CapsPolicy) (given int, over error) {
		r := &rolledBack{loss: newLoss(seed)}
		var err error
		if run := func() { over, err = r.run(policy) }; seed%3 > 0 {
			r.withRing(t, run)
		} else {
			run()
		}
		if err != nil {
			t.Fatalf("seed %d, %s: %v", seed, policy, err)
		}
		if r.given == 0 {
			t.Log(seed, policy, r.why)
		}
		return r.given, over
	}
	var again, exceeded, tried int
	run := seeds.Run{
		Name: "older copy", Full: 2000, Few: 24,
		Counts: func() string {
			return fmt.Sprintf("%d gave offers again later; trust exceeded a cap in %d of %d",
				again, exceeded, tried)
		},
	}
	got := run.Play(t, func(seed uint64) (uint64, error) {
		given, over := play(seed, storage.CapsProtect)
		if over != nil {
			return 1, fmt.Errorf("protect: %w", over)
		}
		if given > 0 {
			again++
		}
		if seed%4 == 0 {
			tried++
			if _, over = play(seed, storage.CapsTrust); over != nil {
				exceeded++
			}
		}
		return 1, nil
	})
	if uint64(again) != got.Seeds || got.Seeds >= 20 && exceeded == 0 {
		t.Errorf("too little happened to show anything")
	}
}

// A protection is told, and contact-state says until when.
func TestOlderCopyIsTold(t *testing.T) {
	l := newLoss(1)
	r := &rolledBack{loss: l}
	if _, err := r.run(storage.CapsProtect); err != nil {
		t.Fatal(err)
	}
	e, err := l.open()
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(e.Notes(), "\n"); !strings.Contains(notes, "caps: protected") {
		t.Errorf("notes %q", notes)
	}
	v, err := e.ContactState([]byte("ann"), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, c := range v.Caps {
		told[c.CapID] = c.Reason
		if c.CapID == "stock" && c.Until != 0 {
			t.Errorf("the stock is free again at %d", c.Until)
		}
	}
	if told["stock"] != "capped_total" || told["day"] != "none" && told["day"] != "" {
		t.Errorf("contact state %v", told)
	}
	if n := len(v.Protected); n == 0 || n != e.ProtectedCaps() {
		t.Errorf("protected %+v, %d caps by the metric", v.Protected, e.ProtectedCaps())
	}
	l.caps = storage.CapsLift
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = l.open(); err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(e.Notes(), "\n"); strings.Contains(notes, "caps: protected") {
		t.Errorf("lifted, notes %q", notes)
	}
	if n := e.ProtectedCaps(); n != 0 {
		t.Errorf("lifted, %d caps are protected", n)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
