package storage

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A unit held by a person who never comes back returns to the ledger.
func TestExpireHoldsGivesBack(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(fs))
	defer mustClose(t, s)
	g, o, _ := addPerson(t, s, "ann")
	key := HeldKey{Key: CounterKey{Cap: 4}, CountOn: 1, Total: true, Window: 6}
	if !s.Totals().Take(&key, key.Window, 1) || s.Totals().Take(&key, key.Window, 1) {
		t.Fatal("the limit is not 1")
	}
	if !s.Totals().Take(&key, key.Window, 2) { // somebody else's: it stays
		t.Fatal("the limit is not 2")
	}
	holdAndExpire(t, s, g, o, key)
	s.Totals().Give(&key)
	mustCheck(t, s)
}

// holdAndExpire reserves key, of which two are taken, and lets the reservation run
// out: it gives one back, once.
func holdAndExpire(t *testing.T, s *Store, g *Group, o Ord, key HeldKey) {
	t.Helper()
	g.Lock()
	defer g.Unlock() // also when the test fails: the store is closed then
	now := g.Floor() + 100
	e := Effect{
		Kind: EffectReserve, Ord: o, Time: UnixMsec(now) * 1000,
		Reserve: ReserveEffect{
			ID:      ReservationID{s.Epoch(), g.NextReservation().Number},
			Granted: now, Expires: now + 60, Grace: 10, Keys: []HeldKey{key},
		},
	}
	if _, err := g.Append(&e); err != nil {
		t.Fatal(err)
	}
	f := func(at UnixSec, released int, used int64) {
		t.Helper()
		n, err := g.ExpireHolds(at, 10)
		if err != nil || n != released || s.Totals().Used(key.Key, key.Window) != used {
			t.Fatalf("%d released, %d used: %v", n, s.Totals().Used(key.Key, key.Window), err)
		}
	}
	f(now+69, 0, 2)
	f(now+70, 1, 1)
	f(now+99, 0, 1)
}
