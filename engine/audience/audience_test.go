package audience

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// A calendar is a map of times: who is due is whose time has come, once.
func TestCalendarEqualsMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var c Calendar
	want := map[storage.Ord]storage.UnixSec{}
	now := storage.UnixSec(1000)
	for range 20_000 {
		o := storage.Ord(r.IntN(2000))
		at := now + storage.UnixSec(r.IntN(500))
		old, ok := want[o]
		if !ok {
			old = Never
		}
		switch r.IntN(12) {
		case 0:
			now += storage.UnixSec(r.IntN(40))
			due := c.Due(now, 1<<20, nil)
			var ords []storage.Ord
			for o, at := range want {
				if at <= now {
					ords = append(ords, o)
				}
			}
			slices.Sort(ords)
			if len(due) != len(ords) {
				t.Fatalf("%d due, want %d", len(due), len(ords))
			}
			for i, d := range due {
				if d.Ord != ords[i] || d.At != want[d.Ord] {
					t.Fatalf("due %+v, want %d at %d", d, ords[i], want[ords[i]])
				}
				delete(want, d.Ord)
			}
		case 1:
			c.Set(o, Never)
			delete(want, o)
		case 2, 3:
			c.Lower(o, at)
			want[o] = min(old, at)
		default:
			c.Set(o, at)
			want[o] = at
		}
		if got := c.At(o); got != cmpOr(want, o) {
			t.Fatalf("time %d, want %d", got, cmpOr(want, o))
		}
	}
	if c.Bytes() > 20_000 {
		t.Fatalf("%d bytes for 2,000 people", c.Bytes())
	}
}

func cmpOr(m map[storage.Ord]storage.UnixSec, o storage.Ord) storage.UnixSec {
	if at, ok := m[o]; ok {
		return at
	}
	return Never
}

// A look for who is due stops when it has enough, and loses nobody.
func TestCalendarInParts(t *testing.T) {
	var c Calendar
	for o := range storage.Ord(5000) {
		c.Set(o, 7)
	}
	n := 0
	for {
		due := c.Due(7, 100, nil)
		if len(due) == 0 {
			break
		}
		if len(due) > 100+calendarBlock {
			t.Fatalf("%d at once", len(due))
		}
		n += len(due)
	}
	if n != 5000 {
		t.Fatalf("%d were due, want 5000", n)
	}
}

func names() *rule.Names {
	return &rule.Names{
		Attributes: map[string]rule.Attribute{"age": {ID: 1, Type: definition.TypeInt}},
		Tags: map[string]rule.Tag{
			"vip": {ID: 2}, "renamed": {ID: 10, Former: []storage.Name{11}},
		},
		Tiers: map[string]rule.Tier{"value": {ID: 12, Levels: []rule.Level{
			{Name: "low", ID: 1}, {Name: "high", ID: 2},
		}}},
		Segments: map[string]storage.Name{"list": 3},
		Rules:    map[string]*rule.Tree{},
		Events:   map[string]rule.Event{"order": {ID: 4}},
		Outcomes: map[string]storage.Name{"click": 5},
		Context:  map[string]rule.ContextKey{"page": {ID: 6, Type: definition.TypeString}},
	}
}

func dynamic(t testing.TB, n *rule.Names, id, text string) *definition.Segment {
	t.Helper()
	node, err := definition.NodeFromJSON([]byte(text), "test.json")
	if err != nil {
		t.Fatal(err)
	}
	tree, faults := rule.Parse(node, n, "rule")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	n.Rules[id] = tree
	return &definition.Segment{
		Meta: definition.Meta{Kind: "segment", ID: id}, Rule: node, Track: true,
	}
}

func mint(_ storage.DictKind, id string) (storage.Name, error) {
	return storage.Name(len(id)), nil
}

// Law 3: each segment hears of what its rule reads, and of nothing else.
func TestWatchHearsWhatConcerns(t *testing.T) {
	n := names()
	docs := []*definition.Segment{
		dynamic(t, n, "a", `{"attribute":"age","gte":18}`),
		dynamic(t, n, "b", `{"all":[{"tag":"vip"},{"not":{"segment":"list"}}]}`),
		dynamic(t, n, "c", `{"event":"order","within":"7d"}`),
		dynamic(t, n, "d", `{"event":"*","count":{"gte":3}}`),
		dynamic(t, n, "e", `{"outcome":"click"}`),
		dynamic(t, n, "f", `{"tier":"value","gte":"high"}`),
		dynamic(t, n, "g", `{"tag":"renamed"}`),
		{Meta: definition.Meta{Kind: "segment", ID: "list"}, Static: true, Track: true},
	}
	s, faults := Compile(docs, n, "UTC", mint)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	f := func(set storage.WatchSet, want string) {
		t.Helper()
		var ids []string
		for i := range set.Each {
			ids = append(ids, s.Segments[i].ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	w := s.Watch
	f(w.Attributes[1], "a")
	f(w.Attributes[9], "")
	f(w.Tags[2], "b")
	f(w.AnyTag, "b f g")
	f(w.Tags[12], "f")
	f(w.Tags[10], "g")
	f(w.Tags[11], "g")
	f(w.Any, "")
	f(w.Segments[3], "b list")
	f(w.Events[4], "c")
	f(w.Events[5], "e")
	f(w.AnyEvent, "d")
	f(w.Tail, "c d e")
	f(w.Consents, "")
	f(s.Timed, "b c d e f g")
	f(w.All, "a b c d e f g list")
}

// What cannot be tracked is a fault at its place; another rule, or another zone
// of the workspace, is another digest.
func TestCompileFaults(t *testing.T) {
	n := names()
	_, faults := Compile([]*definition.Segment{
		dynamic(t, n, "a", `{"context":"page","is":"home"}`),
	}, n, "UTC", mint)
	if len(faults) != 1 || faults[0].Doc != "segment/a" || faults[0].Field != "track" {
		t.Fatal(faults)
	}
	var many []*definition.Segment
	for i := range MaxTracked + 1 {
		many = append(many, dynamic(t, n, fmt.Sprintf("s%03d", i), `{"tag":"vip"}`))
	}
	if _, faults = Compile(many, n, "UTC", mint); len(faults) != 1 ||
		faults[0].Message != "257 segments are tracked: at most 256 can be" {
		t.Fatal(faults)
	}
	digest := func(text, zone string) uint64 {
		s, faults := Compile([]*definition.Segment{dynamic(t, n, "a", text)}, n, zone, mint)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return s.Segments[0].Digest
	}
	one := digest(`{"all":[{"tag":"vip"},{"attribute":"age","gte":18}]}`, "UTC")
	if digest(`{"all":[{"attribute":"age","gte":18},{"tag":"vip"}]}`, "UTC") != one ||
		digest(`{"all":[{"tag":"vip"},{"attribute":"age","gte":19}]}`, "UTC") == one ||
		digest(`{"all":[{"tag":"vip"},{"attribute":"age","gte":18}]}`, "Asia/Shanghai") == one {
		t.Fatal("the digest is not that of the meaning")
	}
}

// Judging allocates nothing.
func TestJudgeAllocates(t *testing.T) {
	n := names()
	s, faults := Compile([]*definition.Segment{
		dynamic(t, n, "a", `{"all":[{"not":{"tag":"vip"}},{"percent":["0%","50%"],"salt":"s"}]}`),
		dynamic(t, n, "b", `{"event":"order","within":"7d"}`),
	}, n, "UTC", mint)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	who := rule.Who{ID: []byte("u1"), Now: 1_790_000_000_000}
	if n := testing.AllocsPerRun(100, func() { s.Judge(&who, &s.All) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
