package storage

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// A refused commit tells all who wait ErrUnknown, drops what memory is ahead,
// and leaves a store that works.
func TestRefusedCommitIsDropped(t *testing.T) {
	var refuse atomic.Bool
	o := testOptions(nil)
	o.hooks.commit = func(frames int) error {
		if refuse.Load() && frames > 0 {
			return errors.New("planted")
		}
		return nil
	}
	fs := lossy.New()
	s := mustOpen(t, fs, o)
	g, kept, frame := addPerson(t, s, "kept")
	mustWait(t, s, g, frame)
	refuse.Store(true)
	_, _, lost := addPerson(t, s, "lost-or-not")
	group := s.GroupOf(s.SlotOf(1, []byte("lost-or-not")))
	mustDrop(t, s, group, lost)
	refuse.Store(false)
	deadline := time.Now().Add(10 * time.Second)
	for {
		group.Lock()
		_, err := group.Append(&Effect{Kind: EffectTime, Ord: NoOrd, Time: testDay})
		group.Unlock()
		if err == nil {
			break
		}
		if !errors.Is(err, ErrFenced) || time.Now().After(deadline) {
			t.Fatalf("append after a refused commit: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
	if err := s.Wait(group.GroupID(), lost, 0); !errors.Is(err, ErrUnknown) {
		t.Fatalf("a dropped frame: %v", err)
	}
	_, _, again := addPerson(t, s, "lost-or-not")
	if again == 0 || again == lost {
		t.Fatalf("the dropped person is still there, frame %d after %d", again, lost)
	}
	mustWait(t, s, group, again)
	g.Lock()
	if g.Row(kept) == nil || string(g.ID(kept)) != "kept" {
		t.Error("a durable person is gone")
	}
	g.Unlock()
	mustCheck(t, s)
	if st := s.Stats(); st.Reloads == 0 || st.People != 2 {
		t.Errorf("stats: %d reloads, %d people", st.Reloads, st.People)
	}
	mustClose(t, s)
	s = mustOpen(t, fs, testOptions(nil))
	mustCheck(t, s)
	mustClose(t, s)
}

// Rows that wait to be written when their group is reloaded are not written then: the
// group knows of no part of events that lies behind what it has read.
func TestReloadBeforeRowsAreWritten(t *testing.T) {
	var refuse, armed atomic.Bool
	held, meanwhile := make(chan struct{}), make(chan struct{})
	o := simOptions()
	o.Groups = 1
	o.hooks.commit = func(frames int) error {
		if frames > 0 && refuse.CompareAndSwap(true, false) {
			return errors.New("planted")
		}
		return nil
	}
	o.hooks.rows = func(*Group) {
		if armed.CompareAndSwap(true, false) {
			close(held)
			<-meanwhile
		}
	}
	fs := lossy.New()
	s := mustOpen(t, fs, o)
	g, ord := ann(t, s)
	event := func() uint64 {
		return mustAppend(t, g, &Effect{Kind: EffectEvent, Ord: ord, Time: s.HighWater(), Event: EventEffect{
			Event: 1, Occurred: s.HighWater(), Indexed: []AttrValue{
				{ID: 1, Value: Value{Kind: KindString, Bytes: []byte("forty bytes make a history of some size.")}},
			},
		}})
	}
	written := func(frame uint64) {
		t.Helper()
		eventually(t, "written", func() bool { return g.written.Load() >= frame })
	}
	for range 20 {
		frame := event()
		mustWait(t, s, g, frame)
		written(frame)
	}
	armed.Store(true)
	mustWait(t, s, g, event())
	<-held
	refuse.Store(true)
	mustDrop(t, s, g, event())
	eventually(t, "reloaded", func() bool { return s.com.reloads.Load() > 0 && g.takes() })
	for range 20 { // more than a part of events holds: what they add to is written whole next
		mustWait(t, s, g, event())
	}
	close(meanwhile)
	for range 20 {
		frame := event()
		mustWait(t, s, g, frame)
		written(frame)
		mustCheck(t, s)
	}
	mustClose(t, s)
	s = mustOpen(t, fs, o)
	mustCheck(t, s)
	mustClose(t, s)
}

// A late commit fences all groups with a clear error and opens them when it ends
// well: nothing is lost.
func TestLateCommitFences(t *testing.T) {
	var slow atomic.Pointer[chan struct{}]
	o := testOptions(nil)
	o.CommitMax = 20 * time.Millisecond
	o.FS = slowFS{lossy.New(), &slow}
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	slow.Store(&gate)
	g, person, frame := addPerson(t, s, "ann")
	if err := s.Wait(g.GroupID(), frame, 10*time.Second); !errors.Is(err, ErrUnknown) {
		t.Fatalf("wait: %v", err)
	}
	g.Lock()
	_, err = g.Append(&Effect{Kind: EffectTime, Ord: NoOrd, Time: testDay})
	g.Unlock()
	if !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "longer than") {
		t.Fatalf("append to a fenced group: %v", err)
	}
	if err := s.Wait(g.GroupID(), frame, time.Second); !errors.Is(err, ErrFenced) {
		t.Fatalf("wait in a fenced group: %v", err)
	}
	slow.Store(nil)
	close(gate)
	for s.Durable(g.GroupID()) < frame {
		time.Sleep(time.Millisecond)
	}
	mustWait(t, s, g, frame)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		g.Lock()
		frame, err = g.Append(&Effect{
			Kind: EffectPatch, Ord: person, Time: testDay,
			Patch: &Patch{TagsAdd: []TagValue{{ID: 1}}},
		})
		g.Unlock()
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatalf("append after the late commit: %v", err)
	}
	mustWait(t, s, g, frame)
	mustCheck(t, s)
	mustClose(t, s)
}

// slowFS holds the syncs of logs while a gate is set.
type slowFS struct {
	vfs.FS
	gate *atomic.Pointer[chan struct{}]
}

type slowFile struct {
	vfs.File
	gate *atomic.Pointer[chan struct{}]
}

func (f slowFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return file, err
	}
	return slowFile{file, f.gate}, nil
}

func (f slowFile) hold() {
	if gate := f.gate.Load(); gate != nil {
		<-*gate
	}
}

func (f slowFile) Sync() error     { f.hold(); return f.File.Sync() }
func (f slowFile) SyncData() error { f.hold(); return f.File.SyncData() }

// A flipped bit in the MANIFEST, a cut or missing last log, a lost sidecar and a
// missing folder are refused, and nothing is deleted.
func TestCorruptionIsRefused(t *testing.T) {
	f := func(name string, damage func(fs *lossy.FS)) {
		t.Helper()
		fs := lossy.New()
		o := testOptions(nil)
		o.hooks.memTable = 64 << 10
		s := mustOpen(t, fs, o)
		for i := range 50 {
			g, _, frame := addPerson(t, s, fmt.Sprint("user-", i))
			mustWait(t, s, g, frame)
		}
		mustClose(t, s)
		damage(fs)
		before := names(t, fs)
		o.FS = fs
		if s, err := Open("store", o); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				mustClose(t, s)
			}
		}
		for file := range before {
			if !names(t, fs)[file] {
				t.Errorf("%s: %s was deleted", name, file)
			}
		}
	}
	last := func(fs *lossy.FS, prefix, suffix string) string {
		var found string
		for name := range names(t, fs) {
			if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
				found = max(found, name)
			}
		}
		return "store/db/" + found
	}
	f("manifest", func(fs *lossy.FS) {
		flip(t, fs, last(fs, "MANIFEST-", ""), 200)
	})
	f("cut log", func(fs *lossy.FS) {
		name := last(fs, "0", ".log")
		b, err := readFile(fs, name)
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, fs, name, b[:len(b)/2])
	})
	f("lost log", func(fs *lossy.FS) {
		rewrite(t, fs, last(fs, "0", ".log"), nil)
	})
	f("both sidecars", func(fs *lossy.FS) {
		flip(t, fs, "store/sidecar-a", 40)
		flip(t, fs, "store/sidecar-b", 40)
	})
	f("missing folder", func(fs *lossy.FS) {
		if err := fs.Rename("store/db", "store/elsewhere"); err != nil {
			t.Fatal(err)
		}
	})
}

func names(t *testing.T, fs *lossy.FS) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	list, err := fs.List("store/db")
	if err != nil {
		return all
	}
	for _, name := range list {
		all[name] = true
	}
	return all
}

func flip(t *testing.T, fs *lossy.FS, name string, at int) {
	t.Helper()
	b, err := readFile(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	b[min(at, len(b)/2)] ^= 4
	rewrite(t, fs, name, b)
}

func rewrite(t *testing.T, fs *lossy.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Below the kept space appends are refused at once; they resume when it is back.
func TestDiskGuard(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 40)
	o := testOptions(nil)
	o.MinFree = 1 << 30
	o.hooks.freeSpace = func() (uint64, uint64) { return free.Load(), 1 << 41 }
	s := mustOpen(t, lossy.New(), o)
	g, _, _ := addPerson(t, s, "ann")
	until := func(full bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); s.DiskFull() != full; {
			if time.Now().After(deadline) {
				t.Fatalf("disk full is not %v", full)
			}
			time.Sleep(time.Millisecond)
		}
		g.Lock()
		_, err := g.Append(&Effect{Kind: EffectTime, Ord: NoOrd, Time: testDay})
		g.Unlock()
		if errors.Is(err, ErrDiskFull) != full {
			t.Fatalf("full %v: append: %v", full, err)
		}
		if err := s.PutDoc(Doc{"k", nil}); errors.Is(err, ErrDiskFull) != full {
			t.Fatalf("full %v: document: %v", full, err)
		}
	}
	until(false)
	free.Store(1 << 29)
	until(true)
	free.Store(1 << 31)
	until(false)
	mustCheck(t, s)
	mustClose(t, s)
}

// 64 concurrent waits need far fewer syncs than 64.
func TestGroupCommit(t *testing.T) {
	const writers, each = 64, 20
	var syncs atomic.Int64
	o := testOptions(nil)
	o.BoundedMax = time.Second
	o.FlushEvery = time.Hour
	o.hooks.synced = func() { syncs.Add(1) }
	o.hooks.commit = func(int) error { time.Sleep(200 * time.Microsecond); return nil } // a disk
	s := mustOpen(t, lossy.New(), o)
	syncs.Store(0)
	var wg sync.WaitGroup
	for w := range writers {
		g := s.Group(GroupID(w % s.Groups()))
		wg.Go(func() {
			for range each {
				frame := mustAppend(t, g, &Effect{Kind: EffectTime, Ord: NoOrd, Time: testDay})
				mustWait(t, s, g, frame)
			}
		})
	}
	wg.Wait()
	if n := syncs.Load(); n > writers*each/8 {
		t.Errorf("%d waits took %d syncs", writers*each, n)
	}
	mustClose(t, s)
}

// The memory cap refuses new people and nothing else.
func TestMemoryCap(t *testing.T) {
	o := testOptions(nil)
	o.MemoryCap = 1
	s := mustOpen(t, lossy.New(), o)
	g := s.Group(0)
	g.Lock()
	person, ord := g.NextPerson()
	create := Effect{Kind: EffectCreate, Ord: ord, Time: testDay, Create: CreateEffect{
		Workspace: 1, Person: person, ID: []byte("ann"), Key: g.NewKey(),
	}}
	g.bytes.Store(1) // as if somebody were there
	if _, err := g.Append(&create); !errors.Is(err, ErrMemoryCap) {
		t.Errorf("create: %v", err)
	}
	if _, err := g.Append(&Effect{Kind: EffectTime, Ord: NoOrd, Time: testDay}); err != nil {
		t.Errorf("time: %v", err)
	}
	g.Unlock()
	mustClose(t, s)
}

// A random source that fails fences the group instead of sealing with a weak key.
func TestRandomSourceFails(t *testing.T) {
	o := testOptions(nil)
	var left atomic.Int64
	left.Store(1 << 20)
	o.Rand = limitedReader{&left}
	s := mustOpen(t, lossy.New(), o)
	left.Store(0)
	g := s.Group(0)
	g.Lock()
	if key := g.NewKey(); key != ([16]byte{}) {
		t.Errorf("key %x", key)
	}
	if _, err := g.Append(&Effect{Kind: EffectTime, Ord: NoOrd}); !errors.Is(err, ErrFenced) {
		t.Errorf("append: %v", err)
	}
	g.Unlock()
	mustClose(t, s)
}

type limitedReader struct{ left *atomic.Int64 }

func (r limitedReader) Read(p []byte) (int, error) {
	if r.left.Add(-int64(len(p))) < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	for i := range p {
		p[i] = byte(i) | 1
	}
	return len(p), nil
}
