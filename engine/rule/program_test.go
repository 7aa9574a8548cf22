package rule

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tact/storage"
)

// Conditions that mean the same have one bit, whatever words say them.
func TestOneBitPerMeaning(t *testing.T) {
	f := func(want int, rules ...string) {
		t.Helper()
		var trees []*Tree
		for _, r := range rules {
			trees = append(trees, mustParse(t, r))
		}
		s := build(t, nil, trees...)
		if got := len(s.program.UserAtoms) + len(s.program.requestAtoms); got != want {
			t.Errorf("%d atoms, want %d: %s", got, want, rules)
		}
	}
	f(1, `{"attribute":"age","gt":17}`, `{"attribute":"age","gte":18}`,
		`{"not":{"attribute":"age","gte":18}}`)
	f(1, `{"attribute":"city","in":["b","a","b"]}`, `{"attribute":"city","not_in":["a","b"]}`)
	f(1, `{"attribute":"city","in":["a"]}`, `{"attribute":"city","is":"a"}`,
		`{"attribute":"city","is_not":"a"}`)
	f(1, `{"attribute":"city","is":"A","fold":true}`,
		`{"attribute":"city","in":["a","A"],"fold":true}`)
	f(2, `{"attribute":"city","is":"A","fold":true}`, `{"attribute":"city","is":"A"}`)
	f(1, `{"attribute":"price","is":0}`, `{"attribute":"price","in":[-0.0,0]}`)
	f(1, `{"attribute":"age","is":3}`, `{"attribute":"age","between":[3,3]}`,
		`{"attribute":"age","in":[3,3]}`)
	f(1, `{"attribute":"birthday","before":"2026-11-22"}`,
		`{"attribute":"birthday","lte":"2026-11-21"}`)
	f(1, `{"attribute":"birthday","years_since":{"gte":2}}`,
		`{"attribute":"birthday","months_since":{"gt":23}}`)
	f(2, `{"attribute":"price","is":3}`, `{"context":"total","is":3}`)
	f(1, `{"tag":"city_tier"}`, `{"tag":"city_tier","is_set":true}`)
	f(0, `{"attribute":"age","gt":9223372036854775807}`)
	f(2, `{"percent":["0%","10%"],"salt":"a"}`, `{"percent":["0%","10.0%"],"salt":"b"}`)
}

// Contradictions drop their conjunction, tautologies hold always, and the
// terms of one word are one term.
func TestConditionShapes(t *testing.T) {
	f := func(rule string, conjunctions, terms int, always, never bool) {
		t.Helper()
		s := build(t, nil, mustParse(t, rule))
		c := &s.conds[0]
		if len(c.Conjunctions()) != conjunctions || len(c.terms) != terms ||
			c.Always() != always || c.Never() != never {
			t.Errorf("%s: %+v", rule, c.Conjunctions())
		}
	}
	churn, complaint := `{"tag":"churn"}`, `{"tag":"complaint"}`
	page := `{"context":"page","is":"home"}`
	f(`{"all":[]}`, 1, 0, true, false)
	f(`{"not":{"all":[]}}`, 0, 0, false, true)
	f(`{"all":[`+churn+`,{"not":`+churn+`}]}`, 0, 0, false, true)
	f(`{"any":[`+churn+`,{"not":`+churn+`}]}`, 1, 0, true, false)
	f(`{"all":[`+churn+`,{"not":`+complaint+`}]}`, 1, 1, false, false)
	f(`{"any":[`+churn+`,{"all":[`+churn+`,`+page+`]}]}`, 1, 1, false, false)
	f(`{"any":[{"all":[`+churn+`,`+page+`]},{"all":[`+churn+`,{"not":`+page+`}]}]}`, 1, 1, false,
		false)
	f(`{"all":[`+churn+`,`+page+`,`+complaint+`,{"not":{"context":"fast","is":true}}]}`, 1, 2,
		false, false)
	f(`{"any":[`+churn+`,`+page+`]}`, 2, 2, false, false)
	f(`{"not":{"attribute":"age","gt":9223372036854775807}}`, 1, 0, true, false)
}

// A condition wider than MaxConjunctions becomes one atom where it is about the
// person, and is refused where it is about the request.
func TestTooWide(t *testing.T) {
	pairs := func(n int, subject string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"any":[{%s,"is":%d},{%s,"is":%d}]}`, subject, i,
				subject, i+1000))
		}
		return `{"all":[` + strings.Join(all, ",") + `]}`
	}
	age, hour := `"attribute":"age"`, `"context":"hour"`
	f := func(rule string, atoms, conjunctions int) {
		t.Helper()
		s := build(t, nil, mustParse(t, rule))
		if len(s.program.UserAtoms) != atoms || len(s.conds[0].ends) != conjunctions {
			t.Errorf("%d atoms, %d conjunctions", len(s.program.UserAtoms), len(s.conds[0].ends))
		}
	}
	f(pairs(6, age), 12, 64)
	f(pairs(7, age), 1, 1)
	f(`{"all":[`+pairs(7, age)+`,`+pairs(2, hour)+`]}`, 1, 4)
	f(`{"any":[{"tag":"churn"},{"all":[`+pairs(7, age)+`,`+pairs(2, hour)+`]}]}`, 2, 5)
	b := NewBuilder(nil)
	if _, err := b.Cond(mustParse(t, pairs(7, hour))); !errors.Is(err, ErrTooWide) {
		t.Errorf("error %v", err)
	}
	if b.Err() != nil || b.Program() == nil {
		t.Error("one wide rule spoils the others")
	}
	var list []string
	for i := range MaxNodes - 1 {
		list = append(list, fmt.Sprintf(`{"attribute":"age","is":%d}`, i))
	}
	f(`{"any":[`+strings.Join(list, ",")+`]}`, 1, 1)
}

// The limits on atoms: an error, and NewLayout makes room after a change of all.
func TestTooManyAtoms(t *testing.T) {
	fill := func(b *Builder, subject string, from, n int) error {
		for i := from; i < from+n; i++ {
			if _, err := b.Cond(mustParse(t, fmt.Sprintf(`{%s,"is":%d}`, subject, i))); err != nil {
				return err
			}
		}
		return nil
	}
	b := NewBuilder(nil)
	if err := fill(b, `"attribute":"age"`, 0, MaxUserAtoms); err != nil {
		t.Fatal(err)
	}
	p := b.Program()
	b = NewBuilder(p)
	if err := fill(b, `"attribute":"age"`, 1, MaxUserAtoms); !errors.Is(err, ErrTooManyAtoms) ||
		!errors.Is(b.Err(), ErrTooManyAtoms) || b.Program() != nil {
		t.Errorf("error %v", err)
	}
	b = NewLayout(p)
	if err := fill(b, `"attribute":"age"`, 1, MaxUserAtoms); err != nil ||
		b.Program().Rev != p.Rev+1 {
		t.Errorf("error %v", err)
	}
	b = NewBuilder(nil)
	if err := fill(b, `"context":"hour"`, 0, MaxRequestAtoms); err != nil ||
		b.Program().RequestWords != 8 {
		t.Errorf("error %v", err)
	}
	if err := fill(b, `"context":"hour"`, 1000, 1); !errors.Is(err, ErrTooManyAtoms) {
		t.Errorf("error %v", err)
	}
}

// Law 4: over many publishes atoms keep their bits, one Rev has one layout, and
// a row brought up to date from whatever Program judged it last, older or newer,
// equals a row judged anew.
func TestBitsAreStable(t *testing.T) {
	for seed := range uint64(30 * effort()) {
		w := newWorld(t, seed, 8)
		pool := make([]string, 40)
		for i := range pool {
			pool[i] = w.rule(1)
		}
		var chain []*Program
		layouts := map[uint32]string{}
		type state struct {
			bits [PageWords]uint64
			rev  uint32
		}
		who := w.who(t)
		var row state
		for range 12 {
			var previous *Program
			if len(chain) > 0 {
				previous = chain[len(chain)-1]
			}
			var trees []*Tree
			for range 1 + w.IntN(6) {
				trees = append(trees, mustParse(t, pool[w.IntN(len(pool))]))
			}
			s := build(t, previous, trees...)
			chain = append(chain, s.program)
			var layout []string
			for i, a := range s.program.UserAtoms {
				layout = append(layout, a.Key)
				if previous != nil && i < len(previous.UserAtoms) && a.Since <= previous.Rev &&
					a.Key != "" &&
					a.Key != previous.UserAtoms[i].Key {
					t.Fatalf("seed %d: bit %d changed its atom without a new Since", seed, i)
				}
			}
			key := strings.Join(layout, "\n")
			if old, ok := layouts[s.program.Rev]; ok && old != key {
				t.Fatalf("seed %d: two layouts of revision %d", seed, s.program.Rev)
			}
			layouts[s.program.Rev] = key
			for range 5 { // decisions, some of them still on an older snapshot
				p := chain[max(0, len(chain)-1-w.IntN(3))]
				if row.rev != p.Rev {
					p.EvalUser(who, row.rev, row.bits[:])
					row.rev = p.Rev
				}
				var anew [PageWords]uint64
				p.EvalUser(who, 0, anew[:])
				for i, a := range p.UserAtoms {
					if a.Key != "" && row.bits[i/64]>>(i%64)&1 != anew[i/64]>>(i%64)&1 {
						t.Fatalf("seed %d: bit %d of revision %d is stale", seed, i, p.Rev)
					}
				}
			}
		}
	}
	a := mustParse(t, `{"tag":"churn"}`)
	first := build(t, nil, a, mustParse(t, `{"tag":"complaint"}`))
	if again := build(t, first.program, a); first.program.Rev != 1 || again.program.Rev != 1 {
		t.Error("the revision rose though no atom was added")
	}
	if more := build(t, first.program, mustParse(t,
		`{"segment":"uploaded"}`)); more.program.Rev != 2 {
		t.Error("the revision did not rise with a new atom")
	}
}

// The atoms that policies ask for.
func TestContactAtoms(t *testing.T) {
	blocked := uint16(1 << 5)
	who := person(t, &storage.Patch{
		Consents: []storage.Consent{
			{Purpose: 1, Channel: 4, Granted: true, At: 1},
			{Purpose: 1, Channel: 3, Granted: true, At: 1},
			{Purpose: 1, Channel: 3, Granted: false, At: 2},
		},
		Blacklist: &blocked,
		Addresses: []storage.Address{{Channel: 4, Values: [][]byte{[]byte("+86")}}},
	})
	f := func(want bool, lit func(*Builder) Lit) {
		t.Helper()
		b := NewBuilder(nil)
		b.Reachable(15) // something before it
		l := lit(b)
		if l != lit(b) {
			t.Error("two bits for one atom")
		}
		var bits [PageWords]uint64
		b.Program().EvalUser(who, 0, bits[:])
		term := l.Term(true)
		if got := bits[l.Word]>>l.Bit&1 == 1; got != want ||
			(bits[term.Word]&term.Mask == term.Want) != want {
			t.Errorf("%v", got)
		}
	}
	f(true, func(b *Builder) Lit { return b.Consent(1, 4) })
	f(false, func(b *Builder) Lit { return b.Consent(1, 3) })
	f(false, func(b *Builder) Lit { return b.Consent(2, 4) })
	f(false, func(b *Builder) Lit { return b.Withdrawn(1, 4) })
	f(true, func(b *Builder) Lit { return b.Withdrawn(1, 3) })
	f(false, func(b *Builder) Lit { return b.Withdrawn(2, 4) })
	f(true, func(b *Builder) Lit { return b.Blacklisted(5) })
	f(false, func(b *Builder) Lit { return b.Blacklisted(4) })
	f(true, func(b *Builder) Lit { return b.Reachable(4) })
	f(false, func(b *Builder) Lit { return b.Reachable(5) })
}

// The draw of percent keeps its share, and one salt draws the same people.
func TestPercent(t *testing.T) {
	tree := mustParse(t, `{"percent":["10%","35.5%"],"salt":"autumn"}`)
	s := build(t, nil, tree)
	n := 0
	for i := range 20_000 {
		who := &Who{ID: fmt.Appendf(nil, "user-%d", i)}
		user, _ := s.fresh(who, nil)
		if s.conds[0].Holds(rowOf(user, nil)) {
			n++
		}
	}
	if n < 4900 || n > 5300 { // 5,100 expected, standard deviation 62
		t.Errorf("%d of 20,000 in 25.5 %%", n)
	}
}

// Slices that lie side by side share nobody out: everybody is in exactly one, those
// whose bucket is a border too.
func TestPercentSharesOut(t *testing.T) {
	var trees []*Tree
	for i := range 20 {
		trees = append(trees, mustParse(t, fmt.Sprintf(
			`{"percent":["%d%%","%d%%"],"salt":"autumn"}`, 5*i, 5*i+5)))
	}
	s := build(t, nil, trees...)
	for i := range 20_000 {
		who := &Who{ID: fmt.Appendf(nil, "user-%d", i)}
		user, _ := s.fresh(who, nil)
		in := 0
		for k := range s.conds {
			holds, _ := trees[k].Standing().Judge(who)
			if s.conds[k].Holds(rowOf(user, nil)) != holds {
				t.Fatalf("%s in slice %d: standing says %v, bits the other", who.ID, k, holds)
			}
			if holds {
				in++
			}
		}
		if in != 1 {
			t.Fatalf("%s is in %d slices", who.ID, in)
		}
	}
}

// EvalUser, EvalRequest and Holds do not allocate, whatever the atoms.
func TestAllocations(t *testing.T) {
	d := newDraw(3)
	builder := NewBuilder(nil)
	var conds []Cond
	for len(conds) < 120 {
		text := d.event()
		if len(conds) < 60 {
			text = d.rule(2)
		}
		c, err := builder.Cond(mustParse(t, text))
		if err != nil {
			t.Fatal(err)
		}
		conds = append(conds, c)
	}
	for _, rule := range append(positives(), `{"attribute":"city","in":["a","b"],"fold":true}`) {
		c, err := builder.Cond(mustParse(t, rule))
		if err != nil {
			t.Fatal(err)
		}
		conds = append(conds, c)
	}
	builder.place(compileDerived(personalPart(mustParse(t, d.rule(4)).whole())))
	p := builder.Program()
	who := &Who{ID: []byte("u1"), Profile: people(t, full(d))[0], Zone: zone(t,
		"America/New_York"), Now: d.now}
	l := d.busy(t, 3000)
	who.Tail, who.Activity, who.Home = l.tail, l.activity, l.home
	ctx := d.context()
	var user [PageWords]uint64
	request := make([]uint64, p.RequestWords)
	f := func(name string, run func()) {
		t.Helper()
		if n := testing.AllocsPerRun(200, run); n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	who.Scratch = &Scratch{}
	f("EvalUser", func() { p.EvalUser(who, 0, user[:]) })
	f("EvalUser after time", func() { p.EvalUser(who, p.Rev, user[:]) })
	f("EvalRequest", func() { p.EvalRequest(ctx, request) })
	row := rowOf(user, request)
	f("Holds", func() {
		for i := range conds {
			conds[i].Holds(row)
		}
	})
}

// full draws a person with many values.
func full(d draw) *storage.Patch {
	best := d.patch()
	for range 50 {
		if p := d.patch(); len(p.Attrs)+len(p.TagsAdd) > len(best.Attrs)+len(best.TagsAdd) {
			best = p
		}
	}
	return best
}

// A short request, a nil zone and broken values are no reason to panic.
func TestHostileInput(t *testing.T) {
	s := build(t, nil, mustParse(t, `{"not":{"context":"page","is":"home"}}`),
		mustParse(t, `{"attribute":"birthday","years_since":{"gte":-10000,"lte":10000}}`))
	var user [PageWords]uint64
	s.program.EvalRequest([]ContextValue{{1, text(storage.KindString, "home")}}, nil)
	if !s.conds[0].Holds(rowOf(user, nil)) {
		t.Error("a missing word is not 0")
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		noise := bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(40))
		v := storage.Value{
			Kind: storage.ValueKind(r.IntN(12)), Num: r.Uint64() >> r.IntN(64),
			Bytes: noise,
		}
		for i := range s.program.UserAtoms {
			s.program.UserAtoms[i].test.static(v)
			e := evaluation{who: &Who{}, clock: newClock(storage.UnixMsec(r.Int64()>>r.IntN(64)),
				nil), flip: never}
			if a := &s.program.UserAtoms[i].test; a.dynamic() {
				e.moving(a, v)
			}
		}
	}
}
