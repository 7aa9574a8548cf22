package engine

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// lateFS is a disk whose syncs wait while held, and fail while broken.
type lateFS struct {
	vfs.FS
	held, broken atomic.Bool
}

type lateFile struct {
	vfs.File
	fs *lateFS
}

func (fs *lateFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &lateFile{f, fs}, nil
}

func (fs *lateFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(fs.FS.Create(name, c))
}

func (fs *lateFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(fs.FS.ReuseForWrite(old, name, c))
}

func (fs *lateFS) late() error {
	for fs.held.Load() {
		time.Sleep(time.Millisecond)
	}
	if fs.broken.Load() {
		return errors.New("the disk is broken")
	}
	return nil
}

func (f *lateFile) Sync() error {
	return errors.Join(f.fs.late(), f.File.Sync())
}

func (f *lateFile) SyncData() error {
	return errors.Join(f.fs.late(), f.File.SyncData())
}

func (f *lateFile) SyncTo(n int64) (bool, error) {
	if err := f.fs.late(); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}

// newLateBed is a bed on a disk that can be late. A commit is in doubt after 50 ms.
func newLateBed(t *testing.T, yaml string) (*bed, *lateFS) {
	fs := &lateFS{FS: vfs.NewMem()}
	b := &bed{t: t, dir: "store", fs: fs, m: &machine{wall: 1_790_000_000_000, mono: 1}}
	e, err := Open(b.dir, Options{Read: b.m.read, Storage: storage.Options{
		Groups: 4, FS: fs, CommitMax: 50 * time.Millisecond,
	}})
	if err != nil {
		t.Fatal(err)
	}
	b.e = e
	t.Cleanup(func() {
		fs.held.Store(false)
		_ = b.e.Close()
	})
	b.publish(yaml)
	return b, fs
}

// job makes a fill of the people named, as it is written down.
func (b *bed) job(mode FillMode, ids ...string) *fillJob {
	b.t.Helper()
	f, err := b.e.BeginFill("target")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, id := range ids {
		if err := f.Add([]byte(id)); err != nil {
			b.t.Fatal(err)
		}
	}
	return &fillJob{segment: f.segment, mode: mode, sets: f.sets}
}

func (b *bed) addMember(id string) error {
	batch := b.e.Begin()
	if r := batch.SegmentMembers([]byte("target"), [][]byte{[]byte(id)}, nil); r.Err != nil {
		return r.Err
	}
	return batch.Commit(5 * time.Second)
}

// A fill whose document is stored later than was waited for comes about before
// the next change by hand, which is refused until that is known.
func TestFillInDoubtComesFirst(t *testing.T) {
	b, fs := newLateBed(t, fillDefinitions)
	b.ages(10)
	b.settle()
	job := b.job(FillReplace, "u1", "u2")
	fs.held.Store(true)
	b.e.fills.mu.Lock()
	err := b.e.runFill(job)
	b.e.fills.mu.Unlock()
	var p *Problem
	if !errors.As(err, &p) || p.Class != ProblemBusy {
		t.Fatalf("a late document: %v", err)
	}
	if err := b.addMember("u9"); !errors.As(err, &p) || p.Class != ProblemBusy {
		t.Fatalf("a change while a fill is in doubt: %v", err)
	}
	fs.held.Store(false)
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err = b.addMember("u9"); err == nil || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	b.reopen()
	b.settle()
	if got := b.members("target"); got != "u1 u2 u9" {
		t.Fatal(got)
	}
}

// A change by hand first ends the fill that a crash has left.
func TestMembersEndAFillFirst(t *testing.T) {
	b := newBed(t, fillDefinitions)
	b.ages(10)
	b.settle()
	job := b.job(FillReplace, "u1", "u2")
	value, err := job.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.e.fills.mu.Lock()
	b.e.fills.pending = true
	err = b.e.store.PutDoc(storage.Doc{Key: fillKey(job.segment), Value: value})
	b.e.fills.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.addMember("u9"); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if got := b.members("target"); got != "u1 u2 u9" {
		t.Fatal(got)
	}
}

// A fill commits as it goes: one that is stopped has made no more than a step of
// its changes.
func TestLargeFillCommitsAsItGoes(t *testing.T) {
	b := newBed(t, fillDefinitions)
	b.ages(2 * fillCommit)
	p := b.people(PeopleQuery{})
	f, err := b.e.BeginFill("target")
	if err != nil {
		t.Fatal(err)
	}
	f.AddPeople(p)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	job := &fillJob{segment: f.segment, mode: FillReplace, sets: f.sets}
	if err := b.e.Begin().fillAll(ctx, job, 5*time.Second); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := b.e.staticCount(f.segment); n < fillCommit || n >= fillCommit+fillStep {
		t.Fatalf("%d people were moved", n)
	}
}

// A visitor stays one, and is nobody, whichever way members are named.
func TestBulkPassesVisitorsOver(t *testing.T) {
	b := newBed(t, testDefinitions+"---\n{kind: segment, id: target, members: static}\n")
	b.fill(3)
	b.want(b.decideReq("stranger", "hero"), "coupon")
	f := func(what string, err error) {
		t.Helper()
		var p *Problem
		if !errors.As(err, &p) || p.Code != "user_not_found" {
			t.Errorf("%s: %v", what, err)
		}
		if v, err := b.e.User([]byte("stranger")); err != nil || !v.Visitor {
			t.Fatalf("%s: %+v, %v", what, v, err)
		}
	}
	id := [][]byte{[]byte("stranger")}
	for _, lists := range [][2][][]byte{{id, nil}, {nil, id}} {
		f("members", b.apply(func(x *Batch) LineResult {
			return x.SegmentMembers([]byte("target"), lists[0], lists[1])
		}).Err)
	}
	all := &People{}
	for i := range b.e.store.Groups() {
		g := b.e.store.Group(storage.GroupID(i))
		g.Lock()
		ords := roaring.New()
		ords.AddRange(0, uint64(g.Len()))
		g.Unlock()
		all.Groups = append(all.Groups, GroupPeople{Group: g.GroupID(), Ords: ords})
	}
	for _, clear := range []bool{false, true} {
		x := b.e.Begin()
		c, err := x.TagChange(&TagDoc{Name: []byte("complaint_open")}, clear)
		if err != nil {
			t.Fatal(err)
		}
		f("a tag", x.Tag(c, &TagLine{UserID: id[0], Clear: clear}).Err)
		tally, err := x.TagPeople(c, all, &TagLine{Clear: clear}, 5*time.Second)
		if err != nil || tally.Applied != 3 || tally.Gone != 1 {
			t.Fatalf("%+v, %v", tally, err)
		}
	}
	fill, err := b.e.BeginFill("target")
	if err != nil {
		t.Fatal(err)
	}
	f("a fill", fill.Add(id[0]))
	fill.AddPeople(all)
	if out, err := fill.Commit(FillReplace, 5*time.Second); err != nil || out.Added != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	if got := b.members("target"); got != "u0 u1 u2" {
		t.Fatal(got)
	}
	if v, err := b.e.User(id[0]); err != nil || !v.Visitor || b.e.visitors.Load() != 1 {
		t.Fatalf("%+v, %d visitors, %v", v, b.e.visitors.Load(), err)
	}
}

// A pass ends when a group does not take what a sweep found, and another looks
// again later.
func TestSweepEndsOnABrokenDisk(t *testing.T) {
	b, fs := newLateBed(t, strings.Replace(fillDefinitions, ", track: true", "", 1))
	b.e.track.pause.Lock()
	b.publish(fillDefinitions)
	fs.broken.Store(true)
	_ = b.e.store.PutDoc(storage.Doc{Key: "x"}) // the store dies of it
	g := b.e.store.Group(0)
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		g.Lock()
		_, err := g.Append(&storage.Effect{
			Kind: storage.EffectTime, Ord: storage.NoOrd, Time: b.e.clock.Now(),
		})
		g.Unlock()
		if err != nil {
			break
		}
		if time.Now().After(until) {
			b.e.track.pause.Unlock()
			t.Fatal("the store takes effects")
		}
	}
	b.e.track.pause.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b.e.trackPass(ctx)
	if ctx.Err() != nil {
		t.Fatal("the pass did not end by itself")
	}
}

// A disk that is late with a sample of the counts keeps nobody in a segment: who
// is due is judged meanwhile.
func TestLateSampleKeepsNobody(t *testing.T) {
	b, fs := newLateBed(t, testDefinitions+"---\n"+
		"{kind: segment, id: fresh, track: true, rule: {event: order_completed, within: 1h}}\n")
	b.fill(1)
	b.event("u0", "order_completed", "e1")
	b.settle()
	if got := b.members("fresh"); got != "u0" {
		t.Fatal(got)
	}
	fs.held.Store(true)
	b.m.pass(2 * time.Hour)
	b.e.track.growth.mu.Lock() // as sampleGrowth does while it waits
	defer b.e.track.growth.mu.Unlock()
	b.e.trackPass(context.Background())
	if got := b.members("fresh"); got != "" {
		t.Fatalf("%s, after an hour", got)
	}
	fs.held.Store(false)
}
