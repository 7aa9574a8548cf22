package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bench is a journal on a simulated disk whose syncs the test drives.
type bench struct {
	t    *testing.T
	o    Options
	disk *simDisk
	shm  *simShm
	mono int64
	st   State
	j    *Journal
	used answered
}

// answered knows of every counter the newest record that was answered at once: what
// the caller of Put knows of its owners.
type answered map[uint64]uint64

// ask fills in what a record of some counters says of them.
func (u answered) ask(j *Journal, a *Ask, group uint16, counters ...uint64) {
	for i, c := range counters {
		a.Several = a.Several || slices.Contains(counters[:i], c)
		a.Behind = a.Behind || u[c] > j.Durable(group)
	}
}

func (u answered) note(id uint64, counters ...uint64) {
	for _, c := range counters {
		u[c] = id
	}
}

func newBench(t *testing.T) *bench {
	b := &bench{
		t: t, disk: &simDisk{files: map[string][]byte{}, page: 1024}, shm: &simShm{}, used: answered{},
	}
	b.o = Options{
		Disk: b.disk, Shm: b.shm, StoreID: [16]byte{7}, Groups: 2, Slots: 16,
		Mono: func() int64 { return b.mono }, page: 1024, batch: 64,
	}
	return b
}

// start recovers and begins the next epoch.
func (b *bench) start() *Recovery {
	b.t.Helper()
	j, rec, err := Recover(b.o, b.st)
	if err != nil {
		b.t.Fatal(err)
	}
	now := max(rec.Floor, 1000)
	b.st = j.First(b.st.Epoch+1, rec, now)
	if err := j.Start(b.st, now); err != nil {
		b.t.Fatal(err)
	}
	b.j = j
	clear(b.used)
	return rec
}

func (b *bench) put(id uint64, l Lease, counters ...uint64) (uint64, bool) {
	r := Record{Kind: Reserve, Time: 1000 + Msec(b.mono), ID: id, Frame: 1}
	a := Ask{AtOnce: true, Lease: l}
	b.used.ask(b.j, &a, 0, counters...)
	number, atOnce := b.j.Put(&r, &a)
	if atOnce {
		b.used.note(id, counters...)
	}
	return number, atOnce
}

func (b *bench) sync() {
	var x batch
	if b.j.beginSync(&x) {
		b.j.endSync(&x, b.j.write(&x))
	}
}

// lease opens a durable lease for id 1.
func (b *bench) lease() Lease {
	b.t.Helper()
	r := Record{Kind: Reserve, Time: 1000, ID: 1, Frame: 1}
	l, ok := b.j.Renew(Lease{}, &r, 60, 60)
	if !ok {
		b.t.Fatal("no lease")
	}
	if _, at := b.j.Put(&r, &Ask{AtOnce: true, Carries: true}); at {
		b.t.Fatal("the record that carries the lease was answered at once")
	}
	return l
}

// Law A1: what is answered at once, and what waits.
func TestAnswersAtOnce(t *testing.T) {
	b := newBench(t)
	b.start()
	l := b.lease()
	f := func(want bool, id uint64, counters ...uint64) {
		t.Helper()
		if _, got := b.put(id, l, counters...); got != want {
			t.Errorf("grant %d: at once is %v", id, got)
		}
	}
	f(false, 2, 1) // the lease is not durable
	b.sync()
	f(true, 3, 1)
	f(false, 4, 1) // another one of the counter is not durable
	f(true, 5, 2)
	f(false, 6, 3, 3) // two uses of one counter
	f(false, 7, 4, 2)
	b.sync()
	f(true, 8, 1, 2, 3, 4)
	b.mono = 2000
	f(true, 9, 9) // the last high-water: 1000 + 2000
	b.mono = 2001
	f(false, 10, 10) // behind it
	b.mono = 9000
	f(false, 11, 11)
	b.sync()
	f(true, 12, 12)
	b.mono = 30 * 60 * 1000
	b.put(13, Lease{})
	b.sync()
	f(false, 14, 13) // the lease has run out
}

// A process that is killed again and again begins each time at the floor, which is never
// further ahead of the wall clock than the high-water is written ahead; and grants are
// answered at once while time stands there.
func TestKillsDoNotRunAway(t *testing.T) {
	b := newBench(t)
	wall := func() Msec { return 1000 + Msec(b.mono) }
	b.o.Wall = wall
	id := uint64(0)
	for kill := range 100 {
		rec := b.start()
		now := max(rec.Floor, wall())
		if lead := now - wall(); lead > 2000 {
			t.Fatalf("after %d kills time is %d ms ahead of the wall clock", kill, lead)
		}
		l := Lease{}
		for range 10 { // of 30 ms
			id++
			r := Record{Kind: Reserve, Time: max(now, wall()), ID: id, Frame: 1}
			carries := l == Lease{}
			if carries {
				l, _ = b.j.Renew(l, &r, 60, 60)
			}
			ask := Ask{AtOnce: true, Lease: l, Carries: carries}
			if _, atOnce := b.j.Put(&r, &ask); !carries && !atOnce {
				t.Fatalf("kill %d: grant %d waits: %v", kill, id, ask.Why)
			}
			b.mono += 30
			b.sync()
			b.j.stayAhead()
			b.sync()
		}
		if err := b.j.Close(false); err != nil {
			t.Fatal(err)
		}
	}
}

// A ring of a version to come knows nothing that this one could read: the start is an
// incident, as without a ring, and charges whoever may have lost a grant.
func TestNewerRing(t *testing.T) {
	for format, harmless := range map[uint32]bool{ringFormat: true, ringFormat + 1: false} {
		b := newBench(t)
		b.start()
		b.lease()
		b.sync()
		mem := b.shm.mem
		binary.LittleEndian.PutUint32(mem[8:], format)
		binary.LittleEndian.PutUint32(mem[36:], sum(0, mem[:36]))
		if err := b.j.Close(false); err != nil {
			t.Fatal(err)
		}
		if rec := b.start(); rec.Harmless != harmless {
			t.Errorf("format %d: harmless is %v: %s", format, rec.Harmless, rec.Why)
		}
	}
}

// Without shared memory every grant waits, and says why.
func TestNoRing(t *testing.T) {
	b := newBench(t)
	b.shm.fail = errors.New("no space left on device")
	b.start()
	r := Record{Kind: Reserve, ID: 1}
	if _, ok := b.j.Renew(Lease{}, &r, 60, 60); ok {
		t.Error("a lease without a ring")
	}
	if n, at := b.put(1, Lease{}, 1); n != 1 || at {
		t.Errorf("record %d, at once %v", n, at)
	}
	if s := b.j.Stats(); s.Ring || !strings.Contains(s.Fault, "no space left") || s.Waited != 1 {
		t.Errorf("stats %+v", s)
	}
}

// Law J3: a full journal refuses; the watermark makes room.
func TestFull(t *testing.T) {
	b := newBench(t)
	b.start()
	for i := range uint64(16) {
		if n, _ := b.put(i+1, Lease{}); n != i+1 {
			t.Fatalf("record %d has number %d", i+1, n)
		}
	}
	if n, _ := b.put(17, Lease{}); n != 0 {
		t.Fatal("a record was put over another")
	}
	st := b.j.Prospect([]uint64{1, 0})
	if n, _ := b.put(17, Lease{}); n != 0 || st.Water != 16 {
		t.Fatalf("room before the batch was durable, watermark %d", st.Water)
	}
	b.j.Settle(st)
	if n, _ := b.put(17, Lease{}); n != 17 || b.j.Synced() != 16 {
		t.Fatalf("record 17 has number %d, durable up to %d", n, b.j.Synced())
	}
	long := Record{Kind: Reserve, Payload: make([]byte, MaxPayload+1)}
	if n, _ := b.j.Put(&long, &Ask{}); n != 0 {
		t.Error("a record that does not fit was taken")
	}
}

// Law R2, R3: which rings are witnesses. Law R7: which are of a later store.
func TestRings(t *testing.T) {
	f := func(name string, spoil func(b *bench), harmless bool, records int) {
		t.Helper()
		b := newBench(t)
		b.start()
		b.lease()
		b.sync()
		b.put(2, Lease{})
		spoil(b)
		rec := b.start()
		if rec.Harmless != harmless || len(rec.Records) != records {
			t.Errorf("%s: harmless %v (%s), %d records", name, rec.Harmless, rec.Why, len(rec.Records))
		}
	}
	f("kept", func(*bench) {}, true, 2)
	f("missing", func(b *bench) { b.shm.mem = nil }, false, 1)
	f("of another size", func(b *bench) { b.shm.mem = b.shm.mem[:4096] }, false, 1)
	f("foreign", func(b *bench) { b.shm.mem[16]++ }, false, 1)
	f("stale", func(b *bench) {
		b.j.ring.begin(b.o.StoreID, b.o.Slots, 0)
	}, false, 1)
	f("torn header", func(b *bench) { b.shm.mem[36]++ }, false, 1)
	f("its last record is torn", func(b *bench) { b.shm.mem[1024+2*SlotSize+40]++ }, false, 1)
	f("clean, gone", func(b *bench) { b.shm.mem = nil; b.st.Clean = true }, true, 1)

	b := newBench(t)
	b.start()
	b.put(1, Lease{})
	old := b.st
	b.sync()
	b.start()
	b.st = old
	_, _, err := Recover(b.o, b.st)
	if !errors.Is(err, ErrRolledBack) {
		t.Errorf("an older store beside a newer ring: %v", err)
	}
	b.shm.mem = nil
	b.put(2, Lease{})
	b.sync()
	if _, _, err = Recover(b.o, b.st); !errors.Is(err, ErrRolledBack) {
		t.Errorf("an older store beside a newer file: %v", err)
	}
}

// A journal that is missing or cut is refused, unless nothing can be lost.
func TestCutFiles(t *testing.T) {
	f := func(name string, spoil func(b *bench), want error) {
		t.Helper()
		b := newBench(t)
		b.start()
		b.put(1, Lease{})
		b.sync()
		b.shm.mem = nil
		spoil(b)
		if _, _, err := Recover(b.o, b.st); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	one := fileName(1)
	f("whole", func(*bench) {}, nil)
	f("missing", func(b *bench) { delete(b.disk.files, one) }, ErrCorrupt)
	f("empty", func(b *bench) { b.disk.files[one] = nil }, ErrCorrupt)
	f("cut", func(b *bench) { b.disk.files[one] = b.disk.files[one][:2000] }, ErrCorrupt)
	f("cut, clean", func(b *bench) {
		b.disk.files[one] = b.disk.files[one][:2000]
		b.st.Clean = true
	}, nil)
	f("foreign", func(b *bench) { b.disk.files[one][20]++ }, ErrCorrupt)
	f("missing, clean", func(b *bench) { delete(b.disk.files, one); b.st.Clean = true }, nil)
	f("never there", func(b *bench) { delete(b.disk.files, one); b.st = State{} }, nil)
}

// Law X1: after a failed write everything that is not settled goes to a new
// file, wherever the fault strikes; if that fails too, nothing is answered.
func TestWriteErrors(t *testing.T) {
	for fail := 1; fail <= 3; fail++ {
		b := newBench(t)
		b.start()
		l := b.lease()
		b.sync()
		b.put(2, l, 1)
		calls := 0
		b.disk.fail = func(op string) error {
			if calls++; calls <= fail {
				return errIO
			}
			return nil
		}
		b.sync()
		s := b.j.Stats()
		switch {
		case fail == 1 && (s.Dead || s.Files != 1 || b.j.Synced() != 2):
			t.Errorf("one fault: %+v, durable up to %d", s, b.j.Synced())
		case fail > 1 && (!s.Dead || b.j.Synced() != 1):
			t.Errorf("%d faults: %+v, durable up to %d", fail, s, b.j.Synced())
		}
		if fail > 1 {
			if n, at := b.put(3, l, 3); n != 0 || at {
				t.Errorf("a stopped journal took record %d, at once %v", n, at)
			}
			if err := b.j.Wait(2, time.Second); !errors.Is(err, ErrDead) {
				t.Errorf("wait on a stopped journal: %v", err)
			}
		}
		b.disk.fail = nil
		b.shm.mem = nil
		rec := b.start()
		if want := map[bool]int{true: 2, false: 1}[fail == 1]; len(rec.Records) != want {
			t.Errorf("%d faults: %d records after a power cut", fail, len(rec.Records))
		}
	}
}

// A fault at any call of a start refuses it or leaves it whole.
func TestStartErrors(t *testing.T) {
	for fail := 1; ; fail++ {
		b := newBench(t)
		b.start()
		b.put(1, Lease{})
		b.sync()
		calls := 0
		b.disk.fail = func(string) error {
			if calls++; calls == fail {
				return errIO
			}
			return nil
		}
		_, rec, err := Recover(b.o, b.st)
		if calls < fail {
			if fail < 4 {
				t.Errorf("a start makes only %d calls", calls)
			}
			return
		}
		if !errors.Is(err, errIO) && (err != nil || len(rec.Records) != 1) {
			t.Errorf("fault at call %d: %v", fail, err)
		}
	}
}

// Records of a group whose memory is dropped are handed back with their frame.
func TestUnsettled(t *testing.T) {
	b := newBench(t)
	b.start()
	for id := range uint64(4) {
		r := Record{Kind: Reserve, Group: uint16(id % 2), ID: id + 1, Frame: 10 + id, Time: 1000}
		b.j.Put(&r, &Ask{})
	}
	b.j.Settle(b.j.Prospect([]uint64{10, 0}))
	var got []string
	b.j.Unsettled(0, func(r *Record) uint64 {
		got = append(got, fmt.Sprint(r.ID, "@", r.Frame))
		return 20
	})
	if len(got) != 1 || got[0] != "3@12" {
		t.Errorf("unsettled: %v", got)
	}
	if st := b.j.Prospect([]uint64{19, 19}); st.Water != 2 {
		t.Errorf("watermark %d: record 3 lies in frame 20 now", st.Water)
	}
	if st := b.j.Prospect([]uint64{20, 19}); st.Water != 4 {
		t.Errorf("watermark %d", st.Water)
	}
}

// Put and a Wait that finds its record durable allocate nothing.
func TestAllocations(t *testing.T) {
	b := newBench(t)
	b.start()
	l := b.lease()
	b.sync()
	r := Record{Kind: Reserve, Time: 1000, Frame: 1, Payload: make([]byte, 100)}
	a := Ask{AtOnce: true, Lease: l}
	n := testing.AllocsPerRun(1000, func() {
		r.ID++
		number, _ := b.j.Put(&r, &a)
		b.j.Settle(b.j.Prospect([]uint64{1, 1}))
		if err := b.j.Wait(number, time.Second); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A file and a ring of an older format are read, and a new file is written on.
func TestOlderFormat(t *testing.T) {
	f := func(what string, ring bool) {
		t.Helper()
		b := newBench(t)
		b.start()
		for id := range uint64(3) {
			b.put(id+1, Lease{}, id)
		}
		b.sync()
		file := b.disk.files[fileName(1)]
		binary.LittleEndian.PutUint32(file[8:], 1)
		binary.LittleEndian.PutUint32(file[40:], sum(0, file[:40]))
		if ring {
			binary.LittleEndian.PutUint32(b.shm.mem[8:], 1)
			binary.LittleEndian.PutUint32(b.shm.mem[36:], sum(0, b.shm.mem[:36]))
		} else {
			b.shm.mem = nil
		}
		for start := range 2 { // the first one ends before its epoch begins
			j, rec, err := Recover(b.o, b.st)
			if err != nil || len(rec.Records) != 3 || rec.Gapless != 3 || rec.Harmless != ring {
				t.Fatalf("%s: %v, %+v", what, err, rec)
			}
			if start == 1 {
				b.st = j.First(b.st.Epoch+1, rec, rec.Floor)
				err = j.Start(b.st, rec.Floor)
				for name, image := range b.disk.files {
					if format := binary.LittleEndian.Uint32(image[8:]); format != fileFormat {
						t.Errorf("%s: %s has format %d", what, name, format)
					}
				}
			}
			if err := errors.Join(err, j.Abandon()); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	f("with its ring", true)
	f("without", false)
}

func FuzzRecord(f *testing.F) {
	slot, table := make([]byte, SlotSize), crc32.MakeTable(crc32.Castagnoli)
	first := Record{Kind: Reserve, Number: 3, Epoch: 1, Payload: []byte("payload")}
	first.put(slot, 5, table)
	f.Add(slot)
	f.Add(make([]byte, SlotSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != SlotSize {
			return
		}
		r, ok := parse(b, 5, false)
		if !ok {
			return
		}
		back := make([]byte, SlotSize)
		copy(back, b)
		r.put(back, 5, table)
		if string(back) != string(b) {
			t.Errorf("%x was read as %+v", b, r)
		}
	})
}

// shared returns a folder for rings; the test is skipped where there is no tmpfs.
func shared(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tact-test-")
	if err != nil {
		t.Skip("no shared memory here: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // of a test
	return dir
}

// realOptions is a journal in real files.
func realOptions(t testing.TB, ring string) Options {
	o := Options{Disk: Folder(t.TempDir()), StoreID: [16]byte{9}, Groups: 4, Slots: 1024}
	if ring != "" {
		o.Shm = SharedFile(filepath.Join(ring, "ring"))
	}
	return o
}

// The real files: group commit from many goroutines, a restart, a ring.
func TestRealFiles(t *testing.T) {
	o := realOptions(t, shared(t))
	j, rec, err := Recover(o, State{})
	if err != nil || !rec.Harmless {
		t.Fatal(rec, err)
	}
	st := j.First(1, rec, 1000)
	if err := j.Start(st, 1000); err != nil {
		t.Fatal(err)
	}
	go j.Run()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range uint64(20) {
				r := Record{Kind: Reserve, Group: uint16(g), ID: i + 1, Frame: 1, Time: 1000}
				n, _ := j.Put(&r, &Ask{})
				if err := j.Wait(n, time.Minute); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s := j.Stats()
	if j.Synced() != 80 || !s.Ring || s.Waited != 80 {
		t.Errorf("durable up to %d, %+v", j.Synced(), s)
	}
	t.Logf("direct %v, longest sync %v", s.Direct, s.Longest)
	if err := j.Close(false); err != nil {
		t.Fatal(err)
	}
	j, rec, err = Recover(o, st)
	if err != nil || !rec.Harmless || len(rec.Records) != 80 {
		t.Fatalf("%d records, %+v, %v", len(rec.Records), rec, err)
	}
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	if j, rec, err = Recover(o, st); err != nil || rec.Harmless || len(rec.Records) != 80 {
		t.Fatalf("without a ring: %d records, %+v, %v", len(rec.Records), rec, err)
	}
	if err := j.Abandon(); err != nil {
		t.Fatal(err)
	}
}

// A ring that does not lie in a tmpfs is none.
func TestRingOnDisk(t *testing.T) {
	o := realOptions(t, "")
	dir := t.TempDir()
	o.Shm = SharedFile(filepath.Join(dir, "ring"))
	j, _, err := Recover(o, State{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Abandon(); err != nil {
		t.Fatal(err)
	}
	if fault := j.Stats().Fault; fault != "" && !strings.Contains(fault, "tmpfs") &&
		!strings.Contains(fault, "no shared memory") {
		t.Errorf("ring on a disk: %q", fault)
	}
}

// A waiter is told when the disk is too slow, and a kick ends the wait early.
func TestWaitIsBounded(t *testing.T) {
	b := newBench(t)
	b.start()
	n, _ := b.put(1, Lease{})
	if err := b.j.Wait(n, time.Millisecond); !errors.Is(err, ErrLate) {
		t.Errorf("wait without a writer: %v", err)
	}
	select {
	case <-b.j.kick:
	default:
		t.Error("a waiter did not kick")
	}
	done := make(chan error)
	go func() { done <- b.j.Wait(n, time.Minute) }()
	<-b.j.kick
	b.sync()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A full journal that had to refuse a lease answers nothing at once until the frame
// that holds the lease is durable, and does so again then.
func TestFullJournalOpensAgain(t *testing.T) {
	b := newBench(t)
	b.start()
	l := b.lease()
	b.sync()
	for id := uint64(2); id <= 16; id++ {
		b.put(id, Lease{})
	}
	r := Record{Kind: Reserve, Group: 1, Time: 1000, ID: 1, Frame: 7}
	if n, _ := b.j.Put(&r, &Ask{Carries: true}); n != 0 {
		t.Fatalf("a full journal took record %d", n)
	}
	b.sync()
	f := func(want bool, id uint64, durable ...uint64) {
		t.Helper()
		b.j.Settle(b.j.Prospect(durable))
		if s := b.j.Stats(); s.Ring != want || s.Closed != 1 {
			t.Errorf("frames %d are durable: %+v", durable, s)
		}
		if _, at := b.put(id, l, id); at != want {
			t.Errorf("grant %d: at once is %v", id, at)
		}
	}
	f(false, 17, 1, 0)
	f(false, 18, 1, 6)
	f(true, 19, 1, 7)
	if n, _ := b.j.Put(&r, &Ask{Carries: true}); n == 0 {
		t.Error("the journal is open, and takes no lease")
	}
	b.j.Quiesce()
	for id := uint64(20); id <= 40; id++ {
		b.put(id, Lease{})
	}
	b.j.Put(&r, &Ask{Carries: true})
	b.j.Settle(b.j.Prospect([]uint64{9, 9}))
	if b.j.Stats().Ring {
		t.Error("a journal that has ended answers at once")
	}
}
