package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/storage"
)

const (
	// fillTogether is up to how many changes one fill makes in one batch; a larger
	// one is written down first, and then made in steps.
	fillTogether = 4096
	fillStep     = 256  // changes under one lock: about 0.3 ms
	fillCommit   = 1024 // changes of a larger fill between two waits for the disk
	fillFormat   = 1
	fillPrefix   = "fill/"
)

// FillMode says what becomes of the members of a static segment. The number is
// stored; it never changes.
type FillMode uint8

// Modes of a fill.
const (
	FillReplace FillMode = iota + 1 // exactly those given are members
	FillAdd
	FillRemove
)

// A Fill gathers people and then makes them the members of a static segment,
// adds them, or takes them out. It holds a bitmap of them (at most an eighth of a
// byte a person of the store), however long the list is. One goroutine uses it.
type Fill struct {
	e       *Engine
	segment storage.Name
	sets    []*roaring.Bitmap // by group
}

// FillResult says what a fill has changed.
type FillResult struct {
	Added, Removed, Members uint64
}

// fills is one change by hand at a time: two that replace the same members would
// leave a mixture. Each begins by ending what was written down before, which would
// otherwise undo it later.
type fills struct {
	mu sync.Mutex
	// pending: some fill was written down, perhaps, and has not ended.
	pending bool
	// doubt: a document of a fill may become stored or struck out yet.
	doubt bool
}

// BeginFill starts to gather people for a static segment.
func (e *Engine) BeginFill(segment string) (*Fill, error) {
	id, err := e.snap.Load().staticSegment(segment)
	if err != nil {
		return nil, err
	}
	f := &Fill{e: e, segment: id, sets: make([]*roaring.Bitmap, e.store.Groups())}
	for i := range f.sets {
		f.sets[i] = roaring.New()
	}
	return f, nil
}

// Add gathers one person; a ProblemMissing names an id that nobody has. A
// visitor, who is gone after a day, is nobody here.
// Cost: one look-up.
func (f *Fill) Add(id []byte) error {
	if err := checkUserID(id, "user_id"); err != nil {
		return err
	}
	s := f.e.store
	g := s.GroupOf(s.SlotOf(workspaceID, id))
	g.Lock()
	ord, ok := g.Find(workspaceID, s.IndexHash(workspaceID, id), id)
	if ok {
		ok = isPerson(g, ord)
	}
	g.Unlock()
	if !ok {
		return &Problem{
			Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
			Detail: fmt.Sprintf("no user %q", id),
		}
	}
	f.sets[g.GroupID()].Add(uint32(ord))
	return nil
}

// AddPeople gathers people that a query or a bitmap has named; visitors and who is
// gone are passed over. Cost: a look at each.
func (f *Fill) AddPeople(p *People) {
	var ords [fillStep]uint32
	for i := range p.Groups {
		g, set := f.e.store.Group(p.Groups[i].Group), f.sets[p.Groups[i].Group]
		it := p.Groups[i].Ords.ManyIterator()
		for n := it.NextMany(ords[:]); n > 0; n = it.NextMany(ords[:]) {
			set.AddMany(f.e.introduced(g, ords[:n]))
		}
	}
}

// introduced keeps those of ords who are people: there, and not visitors.
func (e *Engine) introduced(g *storage.Group, ords []uint32) []uint32 {
	g.Lock()
	defer g.Unlock()
	kept := ords[:0]
	for _, o := range ords {
		if isPerson(g, storage.Ord(o)) {
			kept = append(kept, o)
		}
	}
	return kept
}

// isPerson tells whether somebody is at o who is not a visitor. The group is
// locked.
func isPerson(g *storage.Group, o storage.Ord) bool {
	row := g.Row(o)
	return row != nil && row.Flags&(storage.RowGone|storage.RowVisitor) == 0
}

// Count returns how many people were gathered.
func (f *Fill) Count() (n uint64) {
	for _, set := range f.sets {
		n += set.GetCardinality()
	}
	return n
}

// Commit changes the members and returns when that is durable. Up to 4,096
// changes become durable together. More are written down first, as one document:
// from then on they come about whole, also after a crash, though a reader may see
// some before the others. An error of kind ProblemBusy means in doubt: the same
// call again ends in the same members.
func (f *Fill) Commit(mode FillMode, timeout time.Duration) (FillResult, error) {
	e := f.e
	e.fills.mu.Lock()
	defer e.fills.mu.Unlock()
	if err := e.endFills(context.Background()); err != nil {
		return FillResult{}, err
	}
	var out FillResult
	for i, set := range f.sets {
		add, remove := e.fillDiff(storage.GroupID(i), f.segment, set, mode)
		out.Added += add.GetCardinality()
		out.Removed += remove.GetCardinality()
	}
	job := &fillJob{segment: f.segment, mode: mode, sets: f.sets}
	var err error
	if out.Added+out.Removed <= fillTogether {
		b := e.Begin()
		e.store.Together(func() { err = b.fillAll(context.Background(), job, 0) })
		if err == nil {
			err = b.Commit(timeout)
		}
	} else {
		err = e.runFill(job)
	}
	if err != nil {
		return FillResult{}, err
	}
	out.Members = e.staticCount(f.segment)
	return out, nil
}

// fillJob is a fill with its people.
type fillJob struct {
	segment storage.Name
	mode    FillMode
	sets    []*roaring.Bitmap
}

// fillDiff returns who of a group has to be put in and taken out.
func (e *Engine) fillDiff(
	id storage.GroupID, segment storage.Name, set *roaring.Bitmap, mode FillMode,
) (add, remove *roaring.Bitmap) {
	g := e.store.Group(id)
	g.Lock()
	defer g.Unlock()
	members := g.SegmentBitmap(segment)
	if members == nil {
		members = roaring.New()
	}
	add, remove = roaring.New(), roaring.New()
	if mode != FillRemove {
		add = roaring.AndNot(set, members)
	}
	switch mode {
	case FillRemove:
		remove = roaring.And(set, members)
	case FillReplace:
		remove = roaring.AndNot(members, set)
	}
	return add, remove
}

// fillAll makes the changes of a job, group by group. With wait > 0 it commits
// every 1,024, so that what waits for the disk stays bounded, and ends with ctx;
// the last changes are the caller's to commit.
func (b *Batch) fillAll(ctx context.Context, job *fillJob, wait time.Duration) error {
	open := 0
	for i, set := range job.sets {
		add, remove := b.e.fillDiff(storage.GroupID(i), job.segment, set, job.mode)
		for _, part := range [...]struct {
			ords *roaring.Bitmap
			in   bool
		}{{remove, false}, {add, true}} {
			it := part.ords.ManyIterator()
			var ords [fillStep]uint32
			for n := it.NextMany(ords[:]); n > 0; n = it.NextMany(ords[:]) {
				if err := b.fillSome(storage.GroupID(i), job.segment, ords[:n], part.in); err != nil {
					return err
				}
				if open += n; wait == 0 || open < fillCommit {
					continue
				}
				if err := errors.Join(ctx.Err(), b.Commit(wait)); err != nil {
					return err
				}
				open = 0
			}
		}
	}
	return nil
}

// fillSome moves a few people of a group. Visitors and who has gone since are
// passed over.
func (b *Batch) fillSome(
	id storage.GroupID, segment storage.Name, ords []uint32, in bool,
) error {
	g := b.e.store.Group(id)
	names := [1]storage.Name{segment}
	g.Lock()
	defer g.Unlock()
	for _, o := range ords {
		if !isPerson(g, storage.Ord(o)) {
			continue
		}
		b.patch = storage.Patch{}
		if in {
			b.patch.SegmentsAdd = names[:]
		} else {
			b.patch.SegmentsRemove = names[:]
		}
		b.stamp(storage.EffectPatch, storage.Ord(o))
		b.effect.Patch = &b.patch
		if err := b.append(g); err != nil {
			return err
		}
	}
	return nil
}

// runFill writes a job down, makes it come about, and strikes it out.
func (e *Engine) runFill(job *fillJob) error {
	value, err := job.append(nil)
	if err != nil {
		return err
	}
	// From here on it may come about, whatever is heard of it.
	e.fills.pending = true
	if err := e.putFill(storage.Doc{Key: fillKey(job.segment), Value: value}); err != nil {
		return err
	}
	return e.endFills(context.Background())
}

// putFill stores the document of a fill, or strikes it out.
func (e *Engine) putFill(doc storage.Doc) error {
	err := e.store.PutDoc(doc)
	if errors.Is(err, storage.ErrUnknown) {
		e.fills.doubt = true
	}
	return storeProblem(err)
}

func fillKey(segment storage.Name) string { return fmt.Sprintf("%s%d", fillPrefix, segment) }

// endFills ends the fills that were written down. fills.mu is held. While it is
// open whether one was written down, that is a ProblemBusy: a change made now
// could be undone by it.
func (e *Engine) endFills(ctx context.Context) error {
	if !e.fills.pending {
		return nil
	}
	if e.fills.doubt && !e.store.DocsSettled() {
		return &Problem{
			Class: ProblemBusy, Code: "unavailable",
			Detail: "the disk has not said yet what became of an earlier fill",
		}
	}
	e.fills.doubt = false
	jobs := map[string]*fillJob{}
	var fault error
	err := e.store.ScanDocs(fillPrefix, func(key string, value []byte) bool {
		if len(value) == 0 {
			return true // struck out
		}
		job, err := decodeFill(value, e.store.Groups())
		if err != nil {
			fault = fmt.Errorf("document %q: %w", key, err)
			return false
		}
		jobs[key] = job
		return true
	})
	if err := errors.Join(fault, err); err != nil {
		return err
	}
	for key, job := range jobs {
		b := e.Begin()
		if err := b.fillAll(ctx, job, startWait); err != nil {
			return err
		}
		if err := b.Commit(startWait); err != nil {
			return err
		}
		if err := e.putFill(storage.Doc{Key: key}); err != nil {
			return err
		}
	}
	e.fills.pending = false
	return nil
}

// fillLoop ends what a crash or a late disk has left of fills, until ctx ends. It
// runs by itself: a fill may take long, and the calendar does not wait for it.
func (e *Engine) fillLoop(ctx context.Context) {
	every(ctx, trackEvery, func() { e.resumeFills(ctx) })
}

// resumeFills ends fills as soon as the store takes it.
func (e *Engine) resumeFills(ctx context.Context) {
	e.fills.mu.Lock()
	defer e.fills.mu.Unlock()
	if err := e.endFills(ctx); err != nil && ctx.Err() == nil {
		e.log.Warn("a fill of a segment has not ended yet", "err", err)
	}
}

// append writes a job:
//
//	format u8 | mode u8 | segment u32 | list of (bytes of a portable bitmap), by group
func (j *fillJob) append(dst []byte) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint32(append(dst, fillFormat, byte(j.mode)), uint32(j.segment))
	dst = binary.AppendUvarint(dst, uint64(len(j.sets)))
	for _, set := range j.sets {
		set.RunOptimize()
		b, err := set.ToBytes()
		if err != nil {
			return nil, fmt.Errorf("write down a fill: %w", err)
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(b))), b...)
	}
	return dst, nil
}

func decodeFill(b []byte, groups int) (*fillJob, error) {
	if len(b) > 0 && b[0] > fillFormat {
		return nil, storage.ErrNewerFormat
	}
	if len(b) < 6 || b[0] != fillFormat || b[1] < byte(FillReplace) || b[1] > byte(FillRemove) {
		return nil, storage.ErrCorrupt
	}
	j := &fillJob{
		mode: FillMode(b[1]), segment: storage.Name(binary.LittleEndian.Uint32(b[2:])),
	}
	b = b[6:]
	n, size := binary.Uvarint(b)
	if size <= 0 || n != uint64(groups) {
		return nil, storage.ErrCorrupt
	}
	b = b[size:]
	for range groups {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, storage.ErrCorrupt
		}
		set := roaring.New()
		part := b[size : size+int(n)]
		if read, err := set.FromBuffer(part); err != nil || read != int64(n) || set.Validate() != nil {
			return nil, storage.ErrCorrupt
		}
		j.sets = append(j.sets, set)
		b = b[size+int(n):]
	}
	if len(b) > 0 {
		return nil, storage.ErrCorrupt
	}
	return j, nil
}

// staticCount returns how many people are in a static segment.
func (e *Engine) staticCount(segment storage.Name) (n uint64) {
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		n += uint64(g.SegmentSize(segment))
		g.Unlock()
	}
	return n
}
