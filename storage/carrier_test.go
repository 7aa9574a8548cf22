package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/journal"
	"tact/storage/lossy"
)

// carried is a store in memory with one person and a ring.
func carried(t *testing.T, fs *lossy.FS, ring journal.Shm) (*Store, *Group, Ord) {
	t.Helper()
	o := simOptions()
	o.Groups, o.FS, o.JournalSlots, o.BoundedMax = 1, fs, 64, time.Hour
	o.hooks.shm = ring
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	g, ord := ann(t, s)
	return s, g, ord
}

// ann finds the one person of a store, whose id puts her into its first group, or
// makes her.
func ann(t *testing.T, s *Store) (*Group, Ord) {
	t.Helper()
	g, id := s.groups[0], []byte("ann")
	for s.GroupOf(s.SlotOf(0, id)) != g {
		id = append(id, 'n')
	}
	var err error
	g.Lock()
	ord, ok := g.Find(0, s.IndexHash(0, id), id)
	if !ok {
		var person PersonID
		person, ord = g.NextPerson()
		_, err = g.Append(&Effect{Kind: EffectCreate, Ord: ord, Time: s.HighWater(), Create: CreateEffect{
			Slot: s.SlotOf(0, id), Person: person, ID: id, IDHash: s.IndexHash(0, id), Key: g.NewKey(),
		}})
	}
	frame := g.LastFrame()
	g.Unlock()
	if err := errors.Join(err, s.Wait(0, frame, 0)); err != nil {
		t.Fatal(err)
	}
	return g, ord
}

// hold reserves a use of n counters.
func hold(t *testing.T, s *Store, g *Group, ord Ord, keys ...HeldKey) Ticket {
	t.Helper()
	_, ticket := holdIn(t, s, g, ord, keys...)
	return ticket
}

// holdIn is hold, and says in which frame the reservation lies.
func holdIn(
	t *testing.T, s *Store, g *Group, ord Ord, keys ...HeldKey,
) (frame uint64, ticket Ticket) {
	t.Helper()
	g.Lock()
	defer g.Unlock()
	now := secondOf(s.HighWater())
	e := Effect{Kind: EffectReserve, Ord: ord, Time: s.HighWater(), Reserve: ReserveEffect{
		ID: g.NextReservation(), Granted: now, Expires: now + 600, Grace: 300, Keys: keys,
	}}
	frame, ticket, err := g.Reserve(&e, WaitNone)
	if err != nil {
		t.Fatal(err)
	}
	return frame, ticket
}

func personKey(c Name) HeldKey { return HeldKey{Key: CounterKey{c, 0}, CountOn: 1, Limit: 4} }

// What a reservation waits for: its record, nothing, or its frame.
func TestTickets(t *testing.T) {
	s, g, ord := carried(t, lossy.New(), &ringMemory{})
	first := hold(t, s, g, ord, personKey(1))
	if first.Record == 0 || first.Frame != 0 {
		t.Fatalf("the first of a session waits for %+v", first)
	}
	if err := s.WaitTicket(0, first, time.Minute); err != nil || !s.Settled(0, first) {
		t.Fatal(err)
	}
	f := func(what string, want string, keys ...HeldKey) {
		t.Helper()
		ticket := hold(t, s, g, ord, keys...)
		got := map[bool]string{true: "frame", false: "record"}[ticket.Frame != 0]
		if !ticket.Waits() {
			got = "nothing"
		}
		if got != want {
			t.Errorf("%s waits for %s, want %s", what, got, want)
		}
		if err := s.WaitTicket(0, ticket, time.Minute); err != nil {
			t.Error(err)
		}
	}
	f("a later one", "nothing", personKey(2), personKey(3))
	f("two uses of a counter", "record", personKey(4), personKey(4))
	total := personKey(5)
	total.Total = true
	f("a total without a block", "record", total)
	var many []HeldKey
	for i := range Name(40) {
		many = append(many, personKey(100+i))
	}
	f("forty counters", "frame", many...)
	// A person made by the same decision: the row is not durable.
	g.Lock()
	person, young := g.NextPerson()
	_, err := g.Append(&Effect{Kind: EffectCreate, Ord: young, Time: s.HighWater(), Create: CreateEffect{
		Person: person, ID: []byte("bob"), IDHash: s.IndexHash(0, []byte("bob")), Key: g.NewKey(),
	}})
	g.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if ticket := hold(t, s, g, young, personKey(1)); ticket.Frame == 0 {
		t.Error("a person made just now does not wait for the frame")
	}
	if st := s.Stats().Journal; st.AtOnce != 1 || !st.Ring || st.Dead {
		t.Errorf("stats %+v", st)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// A store written before there was a journal opens, and has one then.
func TestOpensWithoutJournal(t *testing.T) {
	fs := lossy.New()
	s, _, _ := carried(t, fs, nil)
	if err := s.db.db.Delete([]byte{prefixNode, nodeJournal}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	old := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := old.RemoveAll("store/journal-00000001"); err != nil {
		t.Fatal(err)
	}
	s, g, ord := carried(t, old, &ringMemory{})
	if st := s.Stats().Journal; st.Incident || !st.Ring {
		t.Errorf("stats %+v", st)
	}
	if ticket := hold(t, s, g, ord, personKey(1)); ticket.Record == 0 {
		t.Errorf("ticket %+v", ticket)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// A store without its journal is refused, and so is an older copy beside a newer
// ring; a clean end needs neither.
func TestRefusals(t *testing.T) {
	fs, ring := lossy.New(), &ringMemory{}
	s, g, ord := carried(t, fs, ring)
	if err := s.WaitTicket(0, hold(t, s, g, ord, personKey(1)), time.Minute); err != nil {
		t.Fatal(err)
	}
	crashed := func() *lossy.FS { return fs.CrashClone(vfs.CrashCloneCfg{}) }
	old, lost := crashed(), crashed()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := lost.RemoveAll("store/journal-00000001"); err != nil {
		t.Fatal(err)
	}
	o := simOptions()
	o.Groups, o.JournalSlots, o.FS = 1, 64, lost
	if _, err := Open("store", o); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without its journal: %v", err)
	}
	s, _, _ = carried(t, fs, ring)
	o.FS, o.hooks.shm = old, ring
	if _, err := Open("store", o); !errors.Is(err, ErrRolledBack) {
		t.Errorf("an older copy: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A refused batch drops memory; what the journal holds of it is held again. The
// next batch of frames is refused from before the reservation on: the committer
// may take its frame at any moment, also by a kick that came too late for the
// frame it was meant for.
func TestReloadKeepsReservations(t *testing.T) {
	fs := lossy.New()
	var refuse atomic.Bool
	o := simOptions()
	o.Groups, o.FS, o.JournalSlots, o.BoundedMax = 1, fs, 64, time.Hour
	o.hooks.shm = &ringMemory{}
	o.hooks.commit = func(frames int) error {
		if frames > 0 && refuse.CompareAndSwap(true, false) {
			return errors.New("refused")
		}
		return nil
	}
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	g, ord := ann(t, s)
	refuse.Store(true)
	frame, ticket := holdIn(t, s, g, ord, personKey(1))
	if err := s.WaitTicket(0, ticket, time.Minute); err != nil {
		t.Fatal(err)
	}
	mustDrop(t, s, g, frame)
	eventually(t, "reloaded", func() bool { return s.com.reloads.Load() > 0 && g.takes() })
	g.Lock()
	u := g.Contact(ord).Count(personKey(1).Key, 0, g.Instant(secondOf(s.HighWater())))
	frame = g.LastFrame()
	g.Unlock()
	if u.N != 1 || u.Pending != 1 {
		t.Fatalf("after the reload: %+v", u)
	}
	if err := errors.Join(s.Wait(0, frame, time.Minute), s.Check(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// A reservation that is not held again after its frame was refused is not taken for
// durable: its group takes no more, its record stays in the journal whatever other
// groups commit, and the next start holds it.
func TestReloadThatFailsForgetsNothing(t *testing.T) {
	fs, ring := lossy.New(), &ringMemory{}
	var refuse, failing atomic.Bool
	o := simOptions()
	o.Groups, o.FS, o.JournalSlots, o.BoundedMax = 2, fs, 64, time.Hour
	o.hooks.shm = ring
	o.hooks.commit = func(frames int) error {
		if frames > 0 && refuse.CompareAndSwap(true, false) {
			return errors.New("refused")
		}
		return nil
	}
	o.hooks.recarry = func(*journal.Record) error {
		if failing.Load() {
			return ErrStateFull
		}
		return nil
	}
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	g, ord := ann(t, s)
	refuse.Store(true)
	failing.Store(true)
	frame, ticket := holdIn(t, s, g, ord, personKey(1))
	if err := s.WaitTicket(g.id, ticket, time.Minute); err != nil {
		t.Fatal(err)
	}
	mustDrop(t, s, g, frame)
	eventually(t, "reloaded", func() bool { return s.com.reloads.Load() > 0 })
	other := s.groups[1-g.id]
	for i := range 5 { // batches of the other group take the watermark along
		other.Lock()
		_, err := other.Append(&Effect{Kind: EffectTime, Ord: NoOrd, Time: s.HighWater() + UnixMsec(i)})
		last := other.LastFrame()
		other.Unlock()
		if err == nil {
			err = s.Wait(other.id, last, time.Minute)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.Stats().Journal.Backlog == 0 {
		t.Error("the watermark has passed a record that no frame holds")
	}
	g.Lock()
	_, err = g.Append(&Effect{Kind: EffectTime, Ord: NoOrd, Time: s.HighWater()})
	g.Unlock()
	if !errors.Is(err, ErrFenced) {
		t.Errorf("the group takes more: %v", err)
	}
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	_ = s.Close() // the group is fenced, and says so
	failing.Store(false)
	o.FS, o.hooks.shm = cut, &ringMemory{}
	if s, err = Open("store", o); err != nil {
		t.Fatal(err)
	}
	g = s.groups[g.id]
	g.Lock()
	u := g.Contact(ord).Count(personKey(1).Key, 0, g.Instant(secondOf(s.HighWater())))
	g.Unlock()
	if u.N == 0 {
		t.Errorf("after the next start: %+v", u)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// Faults of the journal's disk: a grant waits for its frame then, and is safe.
func TestJournalFaults(t *testing.T) {
	disk := &faultyDisk{}
	o := simOptions()
	o.Groups, o.FS, o.JournalSlots = 1, lossy.New(), 64
	o.hooks.shm = &ringMemory{}
	o.hooks.disk = func(d journal.Disk) journal.Disk { disk.Disk = d; return disk }
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	g, ord := ann(t, s)
	disk.broken.Store(true)
	// A frame may make the lease durable before the journal's writer meets the fault:
	// until it has, ring and lease vouch for an answer as ever.
	for i, dead := Name(1), 0; dead < 3; i++ {
		stopped := s.Stats().Journal.Dead
		ticket := hold(t, s, g, ord, personKey(i))
		if (i == 1 || stopped) && !ticket.Waits() {
			t.Error("answered at once on a broken disk")
		}
		if err := s.WaitTicket(0, ticket, time.Minute); err != nil {
			t.Fatalf("grant %d: %v", i, err)
		}
		if stopped {
			dead++
			continue
		}
		if i == 50 {
			t.Fatalf("stats %+v", s.Stats().Journal)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if st := s.Stats().Journal; !st.Dead || st.Ring {
		t.Errorf("stats %+v", st)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// faultyDisk fails every write and every new file once it is broken.
type faultyDisk struct {
	journal.Disk
	broken atomic.Bool
}

func (d *faultyDisk) Create(name string, header []byte, size int64) (journal.File, error) {
	if d.broken.Load() {
		return nil, errors.New("no space left on device")
	}
	f, err := d.Disk.Create(name, header, size)
	return &faultyFile{f, d}, err
}

type faultyFile struct {
	journal.File
	d *faultyDisk
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if f.d.broken.Load() {
		return 0, errors.New("input/output error")
	}
	return f.File.WriteAt(p, off)
}

// The ring on the real disk: its folder holds one file while the store is open,
// none after a clean end.
func TestRingFolder(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "tact-test-")
	if err != nil {
		t.Skip("no shared memory here: ", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // of a test
	s, err := Open(filepath.Join(t.TempDir(), "store"), Options{
		Groups: 1, RingDir: dir, MinFree: 1, Ballast: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 || names[0].Name() != fmt.Sprintf("tact-%x", s.StoreID()) {
		t.Errorf("%v, %v", names, err)
	}
	if st := s.Stats().Journal; !st.Ring || strings.Contains(st.Fault, "ring") {
		t.Errorf("stats %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err = os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("after the end: %v, %v", names, err)
	}
}

func FuzzJournalState(f *testing.F) {
	f.Add(appendJournalState(nil, journal.State{Epoch: 1, Water: 2, Clean: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := parseJournalState(b)
		if err == nil && string(appendJournalState(nil, st)) != string(b) {
			t.Errorf("%x was read as %+v", b, st)
		}
	})
}
