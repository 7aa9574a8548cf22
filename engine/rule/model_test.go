package rule

import (
	"fmt"
	"strings"
	"testing"

	"tact/storage"
)

// world is random rules and people at one time.
type world struct {
	draw
	profiles []storage.Profile
	lives    []life
}

func newWorld(t testing.TB, seed uint64, count int) world {
	d := newDraw(seed)
	patches := make([]*storage.Patch, count)
	for i := range patches {
		patches[i] = d.patch()
	}
	patches[0] = &storage.Patch{}
	w := world{draw: d, profiles: people(t, patches...)}
	for range count {
		w.lives = append(w.lives, d.life(t))
	}
	w.lives[0] = life{}
	return w
}

func (w *world) who(t testing.TB) *Who {
	who := &Who{
		ID: fmt.Appendf(nil, "u%d", w.IntN(1000)), Profile: w.profiles[w.IntN(len(w.profiles))],
		Zone: zone(t, w.one(zones()...)), Now: w.now,
	}
	l := w.lives[w.IntN(len(w.lives))]
	who.Tail, who.Activity, who.Home = l.tail, l.activity, l.home
	if w.IntN(10) == 0 {
		who.ID = nil
	}
	if w.IntN(2) == 0 {
		who.Scratch = &Scratch{}
	}
	return who
}

// Law 3: bits and Naive agree, also for what De Morgan, order and And make of
// two rules.
func TestOneMeaning(t *testing.T) {
	r := newRun(t, 1e7)
	held, pairs := 0, 0
	for seed := uint64(0); r.more(); seed++ {
		w := newWorld(t, seed, 20)
		for range 30 {
			a, b := w.rule(3), w.rule(2)
			trees := []*Tree{
				mustParse(t, a), mustParse(t, b),
				mustParse(t, `{"not":{"all":[`+a+`,`+b+`]}}`),
				mustParse(t, `{"any":[{"not":`+a+`},{"not":`+b+`}]}`),
				mustParse(t, `{"all":[`+a+`,`+b+`]}`), mustParse(t, `{"all":[`+b+`,`+a+`]}`),
				mustParse(t, `{"any":[`+a+`,`+b+`]}`), mustParse(t, `{"any":[`+b+`,`+a+`]}`),
			}
			if !narrow(t, trees...) {
				continue
			}
			safe := strings.Contains(a+b, "safety") || strings.Contains(a+b, "illness")
			s := build(t, nil, trees...)
			for range 8 {
				who, ctx := w.who(t), w.context()
				user, request := s.fresh(who, ctx)
				got := make([]bool, len(trees))
				for i, tree := range trees {
					got[i] = s.conds[i].Holds(rowOf(user, request))
					if want := tree.Naive(who, ctx); got[i] != want {
						t.Fatalf("seed %d: %s\nbits say %v, naive says %v at %d in %s",
							seed, tree.Explain(nil, nil, ""), got[i], want, who.Now, who.Zone)
					}
					r.done++
				}
				laws := got[4] == got[5] && got[6] == got[7]
				if !laws || !safe && (got[2] != got[3] || got[4] != (got[0] && got[1])) {
					t.Fatalf("seed %d: %v of\n%s\n%s", seed, got, a, b)
				}
				pairs++
				if got[0] {
					held++
				}
			}
		}
	}
	if share := float64(held) / float64(pairs); share < 0.2 || share > 0.8 {
		t.Fatalf("a share of %.2f of the rules holds: the cases are too alike", share)
	}
}

// A rule too wide for bits of its own gives the same answers as one atom.
func TestDerivedMeaning(t *testing.T) {
	judged := 0
	for seed := range uint64(30 * effort()) {
		w := newWorld(t, seed, 20)
		var factors []string
		for range 8 {
			factors = append(factors, `{"any":[`+w.rule(1)+`,`+w.rule(1)+`,`+w.timed()+`]}`)
		}
		a := mustParse(t, `{"all":[`+strings.Join(factors, ",")+`]}`)
		b := mustParse(t,
			`{"any":[{"context":"page","is":"Ann"},{"not":{"all":[`+strings.Join(factors, ",")+
				`]}}]}`)
		builder := NewBuilder(nil)
		var s system
		for _, tree := range []*Tree{a, b} {
			c, err := builder.Cond(tree)
			if err != nil {
				s.conds = nil // its request conditions alone are too many
				break
			}
			s.conds = append(s.conds, c)
		}
		if s.conds == nil {
			continue
		}
		s.program = builder.Program()
		judged++
		for range 50 {
			who, ctx := w.who(t), w.context()
			user, request := s.fresh(who, ctx)
			for i, tree := range []*Tree{a, b} {
				if got, want := s.conds[i].Holds(rowOf(user, request)), tree.Naive(who,
					ctx); got != want {
					t.Fatalf("seed %d tree %d: bits say %v, naive says %v", seed, i, got, want)
				}
			}
		}
	}
	if judged < 5 {
		t.Fatalf("only %d worlds are narrow enough", judged)
	}
}

// Law 5, and partial evaluation: a row that is judged again only when its
// next change has come is always the row that is judged anew.
func TestNeverLate(t *testing.T) {
	steps, changes := 0, 0
	for seed := range uint64(9 * effort()) {
		w := newWorld(t, seed, 12)
		var trees []*Tree
		for range 25 {
			trees = append(trees, mustParse(t, w.timed()), mustParse(t, `{"tag":"churn"}`),
				mustParse(t, w.event()),
				mustParse(t, w.rule(2)))
		}
		wide := &node{kind: nodeAny}
		for _, tree := range trees {
			wide.subs = append(wide.subs, tree.whole())
		}
		s := build(t, nil, trees...)
		s.program = newProgram(1, append(s.program.UserAtoms, Atom{
			Key: "wide", Since: 1, test: compileDerived(personalPart(wide)).test,
		}), nil)
		for range 6 {
			who := w.who(t)
			if w.IntN(3) == 0 {
				who.Now -= storage.UnixMsec(w.IntN(100)) * dayOfMs / 2
			}
			var row, anew [PageWords]uint64
			next := s.program.EvalUser(who, 0, row[:])
			for range 30 {
				if next == math32 {
					break
				}
				before := row
				for _, at := range around(w, who.Now, next) {
					if at <= who.Now {
						continue
					}
					who.Now = at
					if seconds(at) >= next {
						next = s.program.EvalUser(who, s.program.Rev, row[:])
						if next < seconds(at) {
							t.Fatalf("seed %d: next %d lies before %d", seed, next, at)
						}
					}
					anew = [PageWords]uint64{}
					s.program.EvalUser(who, 0, anew[:])
					if row != anew {
						t.Fatalf("seed %d: a bit changed before %d, at %d in %s: %x %x",
							seed, next, at, who.Zone, row, anew)
					}
					steps++
				}
				if before != row {
					changes++
				}
			}
		}
	}
	if changes < 100 {
		t.Fatalf("only %d changes in %d steps", changes, steps)
	}
}

const math32 = storage.UnixSec(0xFFFFFFFF)

// around gives instants from now to a few seconds after next, rising.
func around(w world, now storage.UnixMsec, next storage.UnixSec) []storage.UnixMsec {
	flip := storage.UnixMsec(next) * 1000
	all := []storage.UnixMsec{now + 1}
	if flip > now+10_000 {
		all = append(all, now+storage.UnixMsec(w.Int64N(int64(flip-now-5000))))
	}
	for ms := storage.UnixMsec(-3000); ms <= 3000; ms += 500 {
		all = append(all, flip+ms-1, flip+ms)
	}
	return all
}

// personalPart is a tree without its conditions on the request.
func personalPart(n *node) *node {
	if n.kind == nodeLeaf {
		return n
	}
	part := &node{kind: n.kind}
	for _, sub := range n.subs {
		if sub.kind == nodeLeaf && sub.leaf.subject == subjectContext {
			sub = &node{kind: nodeAll}
		}
		part.subs = append(part.subs, personalPart(sub))
	}
	return part
}
