package audience

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

const (
	minute = 60_000
	hour   = 60 * minute
)

// village is the people of one group whose membership is kept as the conductor
// keeps it: by what the group says was touched, and by the calendar.
type village struct {
	*rand.Rand
	t        testing.TB
	set      *Set
	store    *storage.Store
	group    *storage.Group
	calendar Calendar
	members  []map[storage.Ord]bool // by segment
	now      storage.UnixMsec
	people   int
	judged   int
}

// villageRules ask for everything that a segment can look at, the request apart.
func villageRules() []string {
	return []string{
		`{"attribute":"age","gte":18}`,
		`{"all":[{"tag":"vip"},{"not":{"segment":"list"}}]}`,
		`{"event":"order","count":{"gte":2},"within":"6h"}`,
		`{"event":"*","count":{"gte":3},"within":"1d"}`,
		`{"outcome":"click","within":"2h"}`,
		`{"not_seen_for":"3h"}`,
		`{"tag":"renamed"}`,
		`{"tier":"value","gte":"high"}`,
		`{"event":"order","window":{"calendar":"day","zone":"user"}}`,
		`{"event":"order","count":{"gte":70},"within":"3d"}`,
		`{"sequence":[{"event":"order"},{"outcome":"click"}],"within":"90m"}`,
		`{"percent":["0%","50%"],"salt":"s"}`,
	}
}

func newVillage(t testing.TB, seed uint64) *village {
	t.Helper()
	v := &village{Rand: rand.New(rand.NewPCG(seed, 9)), t: t, people: 8}
	v.now = storage.UnixMsec(time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC).UnixMilli())
	n := names()
	var docs []*definition.Segment
	for i, text := range villageRules() {
		docs = append(docs, dynamic(t, n, fmt.Sprintf("s%02d", i), text))
		v.members = append(v.members, map[storage.Ord]bool{})
	}
	var faults []definition.Fault
	if v.set, faults = Compile(docs, n, "UTC", mint); len(faults) > 0 {
		t.Fatal(faults)
	}
	s, err := storage.Open("store", storage.Options{
		Groups: 1, FS: vfs.NewMem(), CommitMax: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	v.store, v.group = s, s.Group(0)
	s.Follow(func(_ *storage.Group, touched []storage.Touch) {
		for _, touch := range touched {
			v.judge(touch.Ord, touch.Set)
		}
	})
	v.do(func() { v.group.SetWatch(v.set.Watch) })
	for o := range storage.Ord(v.people) {
		v.arrive(o)
		v.do(func() { v.judge(o, v.set.All) })
	}
	return v
}

// do runs f with the group locked; what it touches is heard of at the end.
func (v *village) do(f func()) {
	v.group.Lock()
	defer v.group.Unlock()
	f()
}

func (v *village) add(e *storage.Effect) {
	v.t.Helper()
	e.Time = v.now
	v.do(func() {
		if _, err := v.group.Append(e); err != nil {
			v.t.Fatal(err)
		}
	})
}

func (v *village) arrive(o storage.Ord) {
	id := fmt.Appendf(nil, "u%d", o)
	var e storage.Effect
	v.do(func() {
		person, ord := v.group.NextPerson()
		e = storage.Effect{Kind: storage.EffectCreate, Ord: ord, Create: storage.CreateEffect{
			Workspace: 1, Slot: v.store.SlotOf(1, id), Person: person, ID: id,
			IDHash: v.store.IndexHash(1, id), Key: v.group.NewKey(),
		}}
	})
	v.add(&e)
}

func (v *village) who(o storage.Ord, at storage.UnixMsec) *rule.Who {
	zone := time.UTC
	if o%2 == 1 { // where 03:00 on 8 March 2026 does not exist
		zone, _ = time.LoadLocation("America/New_York")
	}
	return &rule.Who{
		ID: v.group.ID(o), Profile: v.group.Profile(o), Zone: zone, Home: time.UTC, Now: at,
		Tail: v.group.Tail(o), Activity: v.group.Activity(o),
	}
}

// judge keeps what some segments say of a person, with the group locked.
func (v *village) judge(o storage.Ord, ask storage.WatchSet) {
	holds, next := v.set.Judge(v.who(o, v.now), &ask)
	for i := range ask.Each {
		v.members[i][o] = holds.Has(i)
		v.judged++
	}
	if left := v.set.Timed.Without(&ask); left.Empty() {
		v.calendar.Set(o, next)
	} else {
		v.calendar.Lower(o, next)
	}
}

// pass lets time go by, and judges who is due.
func (v *village) pass(d storage.UnixMsec) {
	v.now += d
	v.do(func() {
		for _, due := range v.calendar.Due(seconds(v.now), 1000, nil) {
			v.judge(due.Ord, v.set.Timed)
		}
	})
}

func seconds(at storage.UnixMsec) storage.UnixSec { return storage.UnixSec(at / 1000) }

// change does something to a person.
func (v *village) change() {
	o := storage.Ord(v.IntN(v.people))
	p := &storage.Patch{}
	switch v.IntN(8) {
	case 0:
		age := storage.Value{Kind: storage.KindInt, Num: uint64(16 + v.IntN(4))}
		p.Attrs = []storage.AttrValue{{ID: storage.Name(1 + v.IntN(2)), Value: age}}
	case 1:
		tag := storage.TagValue{ID: []storage.Name{2, 10, 11}[v.IntN(3)]}
		if v.IntN(2) == 0 {
			tag.Expires = seconds(v.now) + storage.UnixSec(v.IntN(7200))
		}
		p.TagsAdd, p.TagsReplace = []storage.TagValue{tag}, v.IntN(3) == 0
	case 2:
		p.TagsAdd = []storage.TagValue{{ID: 12, Value: storage.Name(1 + v.IntN(2))}}
	case 3:
		if p.SegmentsAdd = []storage.Name{3}; v.IntN(2) == 0 {
			p.SegmentsAdd, p.SegmentsRemove = nil, p.SegmentsAdd
		}
	default:
		v.event(o)
		return
	}
	v.add(&storage.Effect{Kind: storage.EffectPatch, Ord: o, Patch: p})
}

func (v *village) event(o storage.Ord) {
	at := v.now - storage.UnixMsec(v.IntN(2)*v.IntN(8*hour))
	if v.IntN(4) == 0 {
		v.add(&storage.Effect{Kind: storage.EffectOutcome, Ord: o, Outcome: storage.OutcomeEffect{
			Event: 5, Occurred: at,
		}})
		return
	}
	for range 1 + 40*(v.IntN(12)/11) { // now and then more than a tail holds
		v.add(&storage.Effect{Kind: storage.EffectEvent, Ord: o, Event: storage.EventEffect{
			Event: 4, Occurred: at,
		}})
	}
}

// verify judges everybody by everything.
func (v *village) verify() string {
	fault := ""
	v.do(func() {
		for o := range storage.Ord(v.people) {
			holds, _ := v.set.Judge(v.who(o, v.now), &v.set.All)
			for i := range v.set.Segments {
				if v.members[i][o] != holds.Has(i) {
					fault = fmt.Sprintf("%s of person %d at %s: %v", villageRules()[i], o,
						time.UnixMilli(int64(v.now)).UTC(), v.members[i][o])
				}
			}
		}
	})
	return fault
}

// Law 1: what is kept by judging what a change touches, and who is due, is what
// judging everybody by everything says, in every second; and it judges less.
func TestIncrementalIsFull(t *testing.T) {
	for seed := range uint64(12) {
		v := newVillage(t, seed)
		whole := 0
		for range 250 {
			if v.IntN(3) > 0 {
				v.change()
			} else { // whole seconds: within one the calendar is not yet due
				v.now -= v.now % 1000
				v.pass(storage.UnixMsec(1+v.IntN([]int{3, 600, 30_000}[v.IntN(3)])) * 1000)
			}
			whole += v.people * len(v.members)
			if fault := v.verify(); fault != "" {
				t.Fatalf("seed %d: %s", seed, fault)
			}
		}
		if v.judged > whole/4 {
			t.Errorf("seed %d: %d of %d judged: not much less than all", seed, v.judged, whole)
		}
	}
}

// Law 2: until the second that Judge names no tracked segment changes for the
// person with time alone.
func TestNeverLate(t *testing.T) {
	flips := 0
	for seed := range uint64(6) {
		v := newVillage(t, 100+seed)
		for range 80 {
			v.change()
			v.now += storage.UnixMsec(v.IntN(hour))
		}
		for o := range storage.Ord(v.people) {
			at := v.now
			holds, next := v.set.Judge(v.who(o, at), &v.set.All)
			for range 40 {
				if next == Never {
					break
				}
				until := storage.UnixMsec(next) * 1000
				for _, then := range []storage.UnixMsec{(at + until) / 2, until - 1} {
					if then <= at {
						continue
					}
					if still, _ := v.set.Judge(v.who(o, then), &v.set.All); still != holds {
						t.Fatalf("seed %d, person %d: changed at %d, before %d", seed, o, then, until)
					}
				}
				before := holds
				at = max(at, until+999)
				if holds, next = v.set.Judge(v.who(o, at), &v.set.All); holds != before {
					flips++
				}
				if next <= seconds(at) {
					at, next = at+1, seconds(at)+1
				}
			}
		}
	}
	if flips < 50 {
		t.Fatalf("only %d changes", flips)
	}
}
