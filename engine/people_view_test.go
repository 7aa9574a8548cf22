package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/engine/rule"
	"tact/storage"
)

// logged is an effect and the frame it went into.
type logged struct {
	frame  uint64
	effect storage.Effect
}

// writer changes people of a store and keeps a log of it, by group.
type writer struct {
	*rand.Rand
	e     *Engine
	now   storage.UnixMsec
	names struct{ age, tag, order storage.Name }
	logs  [][]logged
	n     int
}

func newWriter(e *Engine, seed uint64) *writer {
	snap := e.snap.Load()
	w := &writer{
		Rand: rand.New(rand.NewPCG(seed, 1)), e: e, now: e.Now(),
		logs: make([][]logged, e.store.Groups()),
	}
	w.names.age = snap.attributes["age"].id
	w.names.tag = snap.tags["complaint_open"].id
	w.names.order = snap.events["order_completed"].id
	return w
}

// add appends an effect, whose slices must not be used again.
func (w *writer) add(g *storage.Group, e storage.Effect) {
	frame, err := g.Append(&e)
	if err != nil {
		panic(err)
	}
	w.logs[g.GroupID()] = append(w.logs[g.GroupID()], logged{frame, e})
}

// create makes a person.
func (w *writer) create() {
	s := w.e.store
	id := fmt.Appendf(nil, "p%d", w.n)
	w.n++
	g := s.GroupOf(s.SlotOf(workspaceID, id))
	g.Lock()
	defer g.Unlock()
	person, ord := g.NextPerson()
	w.add(g, storage.Effect{Kind: storage.EffectCreate, Ord: ord, Create: storage.CreateEffect{
		Workspace: workspaceID, Slot: s.SlotOf(workspaceID, id), Person: person, ID: id,
		IDHash: s.IndexHash(workspaceID, id), Key: g.NewKey(), Visitor: w.IntN(20) == 0,
	}})
	w.changeLocked(g, ord)
}

// change changes somebody.
func (w *writer) change() {
	g := w.e.store.Group(storage.GroupID(w.IntN(w.e.store.Groups())))
	g.Lock()
	defer g.Unlock()
	if g.Len() > 0 {
		w.changeLocked(g, storage.Ord(w.IntN(g.Len())))
	}
}

func (w *writer) changeLocked(g *storage.Group, o storage.Ord) {
	e := storage.Effect{Ord: o, Time: w.now}
	switch w.IntN(5) {
	case 0:
		e.Kind = storage.EffectForget
	case 1:
		e.Kind = storage.EffectEvent
		e.Event = storage.EventEffect{
			Event: w.names.order, Occurred: w.now - storage.UnixMsec(w.IntN(40*86_400_000)),
		}
	default:
		e.Kind = storage.EffectPatch
		e.Patch = &storage.Patch{Attrs: []storage.AttrValue{{
			ID: w.names.age, Value: storage.Value{Kind: storage.KindInt, Num: w.Uint64N(60)},
		}}}
		if w.IntN(2) == 0 {
			e.Patch.TagsAdd = []storage.TagValue{{ID: w.names.tag}}
		} else {
			e.Patch.TagsRemove = []storage.Name{w.names.tag}
		}
	}
	w.add(g, e)
}

// While people are changed without a pause, every answer is that of each group
// exactly at its position: what a second store says that was given the effects up
// to there, and no more.
func TestPeopleAtAPosition(t *testing.T) {
	b := newBed(t, testDefinitions)
	w := newWriter(b.e, 5)
	for range 3000 {
		w.create()
	}
	queries := []PeopleQuery{
		{Rule: ruleNode(t, `{"any":[{"event":"order_completed","count":{"gte":1},"within":"20d"},
			{"all":[{"attribute":"age","gte":30},{"not":{"tag":"complaint_open"}}]}]}`)},
		{Rule: ruleNode(t, `{"percent":["0%","40%"],"salt":"x"}`)},
		{Rule: ruleNode(t, `{"not":{"event":"order_completed"}}`)},
		{Rule: ruleNode(t, `{"all":[{"tag":"complaint_open"},{"attribute":"age","lt":20},
			{"not_seen_for":"10d"}]}`)},
		{},
	}
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if i%50 == 0 {
				w.create()
			}
			w.change()
		}
	})
	var answers []*People
	for i := range 25 {
		answers = append(answers, b.people(queries[i%len(queries)]))
	}
	close(stop)
	writing.Wait()
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
	r := newReplica(t, b.e)
	defer r.close()
	for i, p := range answers {
		ask, err := b.e.snap.Load().peopleQuery(&queries[i%len(queries)])
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range p.Groups {
			r.catchUp(w.logs[of.Group], of)
			r.compare(ask.tree, of, p.At, fmt.Sprintf("answer %d", i))
		}
	}
}

// replica is a second store that is given the effects of the first.
type replica struct {
	t    *testing.T
	e    *Engine
	s    *storage.Store
	upTo []int // of each group's log
}

func newReplica(t *testing.T, e *Engine) *replica {
	s, err := storage.Open("replica", storage.Options{Groups: e.store.Groups(), FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	return &replica{t: t, e: e, s: s, upTo: make([]int, e.store.Groups())}
}

func (r *replica) close() {
	if err := r.s.Close(); err != nil {
		r.t.Error(err)
	}
}

// catchUp applies the effects of the frames up to a position.
func (r *replica) catchUp(log []logged, of GroupPeople) {
	r.t.Helper()
	g := r.s.Group(of.Group)
	g.Lock()
	defer g.Unlock()
	for ; r.upTo[of.Group] < len(log); r.upTo[of.Group]++ {
		l := &log[r.upTo[of.Group]]
		if l.frame > of.Position {
			return
		}
		e := l.effect
		if e.Kind == storage.EffectCreate { // the replica hashes otherwise
			e.Create.IDHash = r.s.IndexHash(workspaceID, e.Create.ID)
			e.Create.Slot = firstSlot(r.s, of.Group)
		}
		if _, err := g.Append(&e); err != nil {
			r.t.Fatal(err)
		}
	}
}

// firstSlot is a slot of a group: the replica's hash need not lead to it.
func firstSlot(s *storage.Store, g storage.GroupID) storage.Slot {
	return storage.Slot(int(g) * storage.Slots / s.Groups())
}

func (r *replica) compare(tree *rule.Tree, of GroupPeople, at storage.UnixMsec, what string) {
	r.t.Helper()
	g := r.s.Group(of.Group)
	g.Lock()
	defer g.Unlock()
	zone := r.e.snap.Load().Plan.Workspace.Zone
	for o := range storage.Ord(g.Len()) {
		row, want := g.Row(o), false
		if row != nil && row.Flags&storage.RowVisitor == 0 {
			want = tree.Naive(&rule.Who{
				ID: g.ID(o), Profile: g.Profile(o), Zone: zone, Home: zone, Now: at,
				Tail: g.Tail(o), Activity: g.Activity(o),
			}, nil)
		}
		if of.Ords.Contains(uint32(o)) != want {
			r.t.Fatalf("%s, group %d at frame %d, ordinal %d: want %v", what, of.Group,
				of.Position, o, want)
		}
	}
	if m := of.Ords; !m.IsEmpty() && int(m.Maximum()) >= g.Len() {
		r.t.Fatalf("%s, group %d: ordinal %d came after frame %d", what, of.Group, m.Maximum(),
			of.Position)
	}
}

// A group judged in one go, its lock held, gives the same people.
func TestPeopleAtOnce(t *testing.T) {
	b := newBed(t, testDefinitions)
	w := newWriter(b.e, 6)
	for range 500 {
		w.create()
	}
	for i := range 50 { // visitors, who are in no answer
		b.ask(b.decideReq(fmt.Sprint("stranger", i), "hero"))
	}
	q := PeopleQuery{Rule: ruleNode(t, `{"any":[{"event":"order_completed","within":"20d"},
		{"attribute":"age","gte":30},{"not":{"event":"order_completed"}}]}`)}
	ask, err := b.e.snap.Load().peopleQuery(&q)
	if err != nil {
		t.Fatal(err)
	}
	p := b.people(q)
	c := census{
		e: b.e, at: p.At, home: b.e.snap.Load().Plan.Workspace.Zone, holds: ask.tree.Population(nil),
	}
	for _, of := range p.Groups {
		if got := c.atOnce(b.e.store.Group(of.Group)); !got.Ords.Equals(of.Ords) ||
			got.Position < of.Position {
			t.Fatalf("group %d: %v at once, %v in blocks", of.Group, got.Ords, of.Ords)
		}
	}
}

// The answer is the same after a restart, when no index is there any more and
// personal parts are still sealed; later instants are answered as they will be.
func TestPeopleAfterARestart(t *testing.T) {
	b := newBed(t, testDefinitions)
	w := newWriter(b.e, 7)
	for range 500 {
		w.create()
	}
	queries := []PeopleQuery{
		{Rule: ruleNode(t, `{"event":"order_completed","within":"20d"}`), Now: b.e.Now()},
		{Rule: ruleNode(t, `{"event":"order_completed","within":"20d"}`), Now: b.e.Now() + 15*86_400_000},
		{Rule: ruleNode(t, `{"all":[{"attribute":"age","gte":30},{"not":{"tag":"complaint_open"}}]}`)},
		{},
	}
	var before []*People
	for _, q := range queries {
		before = append(before, b.people(q))
	}
	b.reopen()
	for i, q := range queries {
		after := b.people(q)
		for k := range after.Groups {
			if x, y := before[i].Groups[k].Ords, after.Groups[k].Ords; !x.Equals(y) {
				t.Fatalf("query %d, group %d: %v before, %v after", i, k, x, y)
			}
		}
	}
	if early, late := before[0].Count(), before[1].Count(); late >= early || late == 0 {
		t.Fatalf("%d now, %d later: a window leaves on time", early, late)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.e.People(ctx, &queries[0]); err == nil {
		t.Fatal("an ended context is no answer")
	}
}
