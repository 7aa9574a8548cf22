package storage

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// A fakeDisk holds what a flush would have written.
type fakeDisk struct {
	rows      map[rowKey][]byte
	keys      map[PersonID][16]byte
	meta      []byte
	claims    map[[16]byte]claim
	dedup     [][]byte
	members   memberships
	watermark uint64
	room      *loadRoom // of all loads
}

type zeroReader struct{ n byte }

func (z *zeroReader) Read(b []byte) (int, error) {
	for i := range b {
		z.n++
		b[i] = z.n
	}
	return len(b), nil
}

// flush writes up to max dirty rows and the meta, as of the end of frame.
func (d *fakeDisk) flush(t *testing.T, s *state, frame uint64, max int) {
	t.Helper()
	all := s.dirtyCount() <= max
	d.write(t, s, testSealer(), max)
	d.meta = s.appendMeta(nil, frame)
	for _, c := range s.takeClaims() {
		d.claims[c.hash] = c
	}
	for _, b := range s.takeDedup() {
		d.dedup = append(d.dedup, b.value)
	}
	d.members = copyMembers(&s.members)
	if all {
		d.watermark = frame
	}
}

// write writes up to max dirty rows.
func (d *fakeDisk) write(t testing.TB, s *state, seal *sealer, max int) {
	t.Helper()
	for _, o := range s.takeDirty(nil, max) {
		r := s.rows.at(o)
		d.keys[r.Person] = r.Key
		for kind := range rowKinds {
			at := rowKey{r.Slot, r.Workspace, r.Person, kind}
			value, part, err := s.appendRow(nil, o, kind, seal)
			switch {
			case err != nil:
				t.Fatal(err)
			case part == rowPartGone:
				delete(d.rows, at)
			case part == rowPartStored:
				d.rows[at] = value
			}
		}
	}
}

func (d *fakeDisk) load(t *testing.T) *state {
	t.Helper()
	s := newState(3, stateOptions{})
	if d.meta != nil {
		if err := s.loadMeta(d.meta); err != nil {
			t.Fatal(err)
		}
	}
	s.beginRows(&d.room.rows)
	byKey := func(a, b rowKey) int {
		return bytes.Compare(AppendKey(nil, a.slot, a.ws, a.person, a.kind),
			AppendKey(nil, b.slot, b.ws, b.person, b.kind))
	}
	for _, at := range slices.SortedFunc(maps.Keys(d.rows), byKey) {
		if err := s.loadRow(at, d.rows[at], d.keys[at.person]); err != nil {
			t.Fatal(err)
		}
	}
	s.endRows()
	var claims []claim
	for hash, c := range d.claims {
		c, err := parseIdentity(c.slot, c.ws, hash, appendIdentityRow(nil, c.target))
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, c)
	}
	s.identities.enter(claims)
	dedup := &d.room.dedup
	dedup.begin(s)
	for _, b := range d.dedup {
		if err := dedup.add(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := dedup.finish(); err != nil {
		t.Fatal(err)
	}
	s.members = copyMembers(&d.members)
	return s
}

// copyMembers copies what is resident of the memberships.
func copyMembers(m *memberships) memberships {
	out := newMemberships()
	out.last, out.members = m.last, m.members
	for n, set := range m.sets {
		out.sets[n] = &memberSet{
			bitmap: set.bitmap.Clone(), phase: set.phase, digest: set.digest,
			dirty: map[uint16]struct{}{},
		}
	}
	return out
}

func sumOf(t *testing.T, s *state) uint64 {
	t.Helper()
	sum, err := s.checksum()
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// openAll opens every sealed part.
func openAll(t *testing.T, s *state) {
	t.Helper()
	for o := range Ord(s.len()) {
		s.profile(o)
		s.tail(o)
		s.activity(o)
		if r := s.row(o); r != nil && r.Flags&(RowSealed|rowTailSealed|rowActivitySealed) != 0 {
			t.Fatalf("ordinal %d is still sealed: %v", o, s.damaged())
		}
	}
}

// What is written out and loaded has the same checksum: sealed, then open.
func TestLoadKeepsChecksum(t *testing.T) {
	g, s := newGenerator(11), newState(3, stateOptions{})
	d := newFakeDisk()
	for i := range 5000 {
		if err := s.apply(uint64(i/5+1), g.next()); err != nil {
			t.Fatal(err)
		}
	}
	want := sumOf(t, s)
	d.flush(t, s, 1000, 1<<20)
	l := d.load(t)
	if got := sumOf(t, l); got != want {
		t.Fatalf("sealed: checksum %x, want %x", got, want)
	}
	if err := l.check(); err != nil {
		t.Fatal(err)
	}
	openAll(t, l)
	if got := sumOf(t, l); got != want {
		t.Fatalf("open: checksum %x, want %x", got, want)
	}
	compareAll(t, g, l)
	// Rows that were never opened are written as they were loaded.
	l = d.load(t)
	l.markAllDirty()
	again := newFakeDisk()
	again.flush(t, l, 1000, 1<<20)
	again.claims, again.dedup, again.members = d.claims, d.dedup, d.members
	if got := sumOf(t, again.load(t)); got != want {
		t.Fatalf("written unopened: checksum %x, want %x", got, want)
	}
}

func newFakeDisk() *fakeDisk {
	return &fakeDisk{
		rows: map[rowKey][]byte{}, keys: map[PersonID][16]byte{}, claims: map[[16]byte]claim{},
		room: new(loadRoom),
	}
}

// Replay over what partial flushes left on disk gives the state before the
// crash, wherever it comes, and the ledger of totals with it. What a load uses beside
// the state has served other states before.
func TestReplayOverPartialFlush(t *testing.T) {
	room := new(loadRoom)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		g, s, d := newGenerator(seed), newState(3, stateOptions{}), newFakeDisk()
		d.room = room
		ledger := NewTotals()
		s.attachTotals(ledger)
		var frames [][]*Effect
		var rest int // rows of the cycle still to be flushed
		var cycle uint64
		for range 40 + r.IntN(80) {
			frame := uint64(len(frames) + 1)
			var effects []*Effect
			if r.IntN(12) == 0 {
				e := &Effect{Kind: EffectTime, Ord: NoOrd, Time: g.now, Floor: secondOf(g.now)}
				g.m.apply(e)
				effects = append(effects, e)
			}
			for range 1 + r.IntN(12) {
				effects = append(effects, g.next())
			}
			for _, e := range effects {
				takeTotals(ledger, e, s)
				if err := s.apply(frame, e); err != nil {
					t.Fatal(err)
				}
			}
			frames = append(frames, effects)
			if r.IntN(3) == 0 {
				if rest == 0 {
					cycle, rest = frame, s.dirtyCount()
				}
				n := min(rest, 1+r.IntN(10))
				old := d.watermark
				d.flush(t, s, frame, n)
				rest -= n
				d.watermark = old
				if rest == 0 {
					d.watermark = cycle
				}
			}
		}
		l := d.load(t)
		for i, effects := range frames {
			for _, e := range effects {
				if uint64(i+1) > d.watermark {
					if err := l.apply(uint64(i+1), e); err != nil {
						t.Fatalf("seed %d, frame %d, kind %d: %v", seed, i+1, e.Kind, err)
					}
				}
			}
		}
		if got, want := sumOf(t, l), sumOf(t, s); got != want {
			t.Fatalf("seed %d: checksum %x, want %x", seed, got, want)
		}
		if err := l.check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		compareAll(t, g, l)
		compareLedgers(t, seed, ledger, l)
	}
}

// takeTotals does what the engine does before it appends.
func takeTotals(ledger *Totals, e *Effect, s *state) {
	if s.row(e.Ord) == nil {
		return
	}
	keys := e.Reserve.Keys
	if e.Kind == EffectUse {
		keys = e.Use.Keys
	}
	for i := range keys {
		if k := &keys[i]; k.Total {
			ledger.Force(k)
		}
	}
}

func compareLedgers(t *testing.T, seed uint64, live *Totals, l *state) {
	t.Helper()
	rebuilt := NewTotals()
	l.attachTotals(rebuilt)
	n := 0
	rebuilt.Each(func(k TotalKey, used int64) {
		n++
		if have := live.Used(k.CounterKey, k.Window); have != used {
			t.Fatalf("seed %d: ledger of %v is %d, rebuilt %d", seed, k, have, used)
		}
	})
	live.Each(func(TotalKey, int64) { n-- })
	if n != 0 {
		t.Fatalf("seed %d: %d counters too many", seed, n)
	}
	l.detachTotals()
	rebuilt.Each(func(k TotalKey, used int64) { t.Fatalf("%v keeps %d", k, used) })
}

func TestRowIsThreeCacheLines(t *testing.T) {
	if n := unsafe.Sizeof(Row{}); n != 192 {
		t.Fatalf("a row has %d bytes, want 192", n)
	}
	if at := unsafe.Offsetof(Row{}.Page.Rev); at != 64 {
		t.Fatalf("line 2 begins at %d", at)
	}
	if at := unsafe.Offsetof(Row{}.Changed); at != 128 {
		t.Fatalf("line 3 begins at %d", at)
	}
	if n := unsafe.Sizeof(BitPage{}); n != pageBytes {
		t.Fatalf("a page has %d bytes, want %d", n, pageBytes)
	}
	if n := unsafe.Sizeof(indexBucket{}); n != 64 {
		t.Fatalf("a bucket has %d bytes", n)
	}
	if n := unsafe.Sizeof(identityEntry{}); n != identityBytes {
		t.Fatalf("an identity has %d bytes, want %d", n, identityBytes)
	}
	if n := unsafe.Sizeof(totalsShard{}); n != 64 {
		t.Fatalf("a shard of totals has %d bytes, want 64", n)
	}
}

// A refused effect leaves the state as it was.
func TestApplyIsAllOrNothing(t *testing.T) {
	g, s := newGenerator(5), newState(3, stateOptions{})
	for range 300 {
		if err := s.apply(1, g.next()); err != nil {
			t.Fatal(err)
		}
	}
	var o Ord
	for s.row(o) == nil {
		o++
	}
	many := make([]AttrValue, MaxAttrs+1)
	for i := range many {
		many[i] = AttrValue{ID: Name(i + 100), Value: Value{Kind: KindInt}}
	}
	long := AttrValue{ID: 9, Value: Value{Kind: KindString, Bytes: make([]byte, maxProfile)}}
	want := sumOf(t, s)
	f := func(e *Effect) {
		t.Helper()
		if err := s.apply(2, e); err == nil {
			t.Fatalf("kind %d was taken", e.Kind)
		}
		if sumOf(t, s) != want {
			t.Fatalf("kind %d left a trace", e.Kind)
		}
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
	}
	f(&Effect{Kind: EffectPatch, Ord: o})
	f(&Effect{Kind: EffectPatch, Ord: o, Patch: &Patch{Attrs: many}})
	f(&Effect{Kind: EffectPatch, Ord: o, Patch: &Patch{Attrs: []AttrValue{long}}})
	f(&Effect{Kind: EffectPatch, Ord: o, Patch: &Patch{Attrs: []AttrValue{{ID: 1 << 24}}}})
	f(&Effect{Kind: EffectPatch, Ord: o, Patch: &Patch{
		Consents: []Consent{{Purpose: 1, Channel: 16}},
	}})
	f(&Effect{Kind: EffectPatch, Ord: o, Patch: &Patch{Addresses: []Address{{Channel: 16}}}})
	f(&Effect{Kind: EffectPatch, Ord: Ord(s.len()), Patch: &Patch{}})
	f(&Effect{Kind: EffectEvent, Ord: o, Time: g.now, Event: EventEffect{Occurred: g.now * 2}})
	f(&Effect{Kind: EffectEvent, Ord: o, Time: g.now, Event: EventEffect{Indexed: []AttrValue{long}}})
	f(&Effect{Kind: EffectReserve, Ord: o})
	f(&Effect{Kind: EffectReserve, Ord: o, Reserve: ReserveEffect{
		ID: ReservationID{1, 9e6}, Granted: 9, Expires: 8,
	}})
	f(&Effect{Kind: EffectReserve, Ord: o, Reserve: ReserveEffect{
		ID: ReservationID{1, 9e6}, Granted: 9, Expires: 9, Keys: make([]HeldKey, 256),
	}})
	f(&Effect{Kind: EffectUse, Ord: o})
	f(&Effect{Kind: EffectConfirm, Ord: o})
	f(&Effect{Kind: EffectCreate, Ord: o, Create: CreateEffect{Person: 1, ID: []byte("x")}})
	f(&Effect{Kind: EffectCreate, Ord: Ord(s.len()), Create: CreateEffect{Person: 1}})
	f(&Effect{
		Kind: EffectCreate, Ord: Ord(s.len()) + 1,
		Create: CreateEffect{Person: 1, ID: []byte("x")},
	})
	f(&Effect{Kind: EffectClaim, Ord: NoOrd, Claim: ClaimEffect{Slot: Slots}})
	f(&Effect{Kind: 0, Ord: o})
	f(&Effect{Kind: effectLast + 1, Ord: o})
}

// onePerson returns a state with the person 0.
func onePerson(t testing.TB) *state {
	t.Helper()
	s := newState(3, stateOptions{})
	err := s.apply(1, &Effect{Kind: EffectCreate, Time: 1_000_000, Create: CreateEffect{
		Workspace: 1, Person: 1, ID: []byte("ann"), IDHash: 77, Key: [16]byte{1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The hot path allocates nothing once the buffers have grown.
func TestHotPathAllocates(t *testing.T) {
	s := onePerson(t)
	apply := func(e *Effect) {
		if err := s.apply(2, e); err != nil {
			t.Error(err)
		}
	}
	zone := Name(3)
	apply(&Effect{Kind: EffectPatch, Time: 2_000_000, Patch: &Patch{
		Zone:    &zone,
		Attrs:   []AttrValue{{ID: 4, Value: Value{Kind: KindString, Bytes: []byte("gold")}}},
		TagsAdd: []TagValue{{ID: 5}},
	}})
	keys := []HeldKey{
		{Key: CounterKey{1, 2}, CountOn: 1, Limit: 3}, {Key: CounterKey{2, 0}, CountOn: 2},
	}
	e := &Effect{}
	now := UnixMsec(3_000_000)
	number := uint64(0)
	round := func() {
		now += 1000
		number++
		at := secondOf(now)
		*e = Effect{Kind: EffectReserve, Time: now, Reserve: ReserveEffect{
			ID: ReservationID{1, number}, Granted: at, Expires: at + 600, Grace: 60, Keys: keys,
		}}
		apply(e)
		*e = Effect{Kind: EffectDecision, Time: now, Decision: DecisionEffect{
			Request: number, Until: at + 120,
		}}
		apply(e)
		*e = Effect{Kind: EffectConfirm, Time: now, Resolve: ResolveEffect{
			ID: ReservationID{1, number}, CountOn: 1, At: at,
		}}
		apply(e)
		*e = Effect{Kind: EffectRelease, Time: now, Resolve: ResolveEffect{ID: ReservationID{1, number}}}
		apply(e)
		*e = Effect{Kind: EffectUse, Time: now, Use: UseEffect{At: at, Keys: keys[:1]}}
		apply(e)
		*e = Effect{Kind: EffectOutcome, Time: now, Outcome: OutcomeEffect{
			Outcome: 1, Offer: 2, Event: 3, Occurred: now,
		}}
		apply(e)
	}
	for range 200 {
		round()
	}
	f := func(name string, call func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	f("apply", round)
	id := []byte("ann")
	f("find", func() {
		if _, ok := s.find(1, 77, id); !ok {
			t.Error("not found")
		}
	})
	f("attr", func() { s.profile(0).Attr(4) })
	f("tag", func() { s.profile(0).Tag(5) })
	f("consent", func() { s.profile(0).Consent(5, 1) })
	f("count", func() { s.contact(0).Count(CounterKey{1, 2}, 5, Instant{Now: secondOf(now)}) })
	f("kth", func() { s.contact(0).KthLatest(CounterKey{1, 2}, 2, Instant{Now: secondOf(now)}) })
	f("reservation", func() { s.contact(0).Reservation(ReservationID{1, number}) })
	f("request", func() { s.contact(0).Request(number, secondOf(now)) })
	f("tail", func() {
		n := 0
		s.tail(0).Each(func(e TailEvent) bool { n += int(e.Item); return true })
	})
	f("identity", func() { s.findIdentity([16]byte{4}) })
	f("dedup", func() { s.seenDedup(9) })
}

// A patch makes the derived bits stale; one that changes nothing does not.
func TestPatchMakesBitsStale(t *testing.T) {
	s := onePerson(t)
	r := s.row(0)
	f := func(p Patch, want uint32) {
		t.Helper()
		r.Changed = 0
		if err := s.apply(2, &Effect{Kind: EffectPatch, Patch: &p}); err != nil {
			t.Fatal(err)
		}
		if r.Changed != want {
			t.Fatalf("changed pages %x, want %x", r.Changed, want)
		}
	}
	zone, withdrawn := Name(7), Consent{Purpose: 1, At: 5}
	f(Patch{TagsAdd: []TagValue{{ID: 1}}}, everyPage)
	f(Patch{TagsAdd: []TagValue{{ID: 1}}}, 0)
	f(Patch{Zone: &zone}, everyPage)
	if r.Zone != 7 {
		t.Fatalf("zone %d", r.Zone)
	}
	f(Patch{Consents: []Consent{withdrawn}}, everyPage)
	if r.Flags&RowWithdrawn == 0 {
		t.Fatal("the withdrawal is not in the row")
	}
	f(Patch{Consents: []Consent{{Purpose: 1, At: 6, Granted: true}}}, everyPage)
	if r.Flags&RowWithdrawn != 0 {
		t.Fatal("the withdrawal is still in the row")
	}
}

// A visitor goes with a forget, unless an event or a patch has come.
func TestForgetTakesVisitorsOnly(t *testing.T) {
	f := func(between *Effect, gone bool) {
		t.Helper()
		s := newState(3, stateOptions{})
		_, _ = s.nextPerson()
		apply := func(e *Effect) {
			t.Helper()
			if err := s.apply(1, e); err != nil {
				t.Fatal(err)
			}
		}
		apply(&Effect{Kind: EffectCreate, Create: CreateEffect{
			Workspace: 1, Person: 1, ID: []byte("v"), IDHash: 5, Visitor: true,
		}})
		if between != nil {
			apply(between)
		}
		apply(&Effect{Kind: EffectForget})
		if _, found := s.find(1, 5, []byte("v")); found == gone || (s.row(0) == nil) != gone {
			t.Fatalf("found %t", found)
		}
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		people, visitors := s.population()
		if (people == 0) != gone || visitors != 0 {
			t.Fatalf("%d people, %d visitors", people, visitors)
		}
		if person, o := s.nextPerson(); person != 2 || o != 1 {
			t.Fatalf("next person %d at %d", person, o)
		}
	}
	f(nil, true)
	f(&Effect{Kind: EffectUse, Use: UseEffect{At: 5, Keys: []HeldKey{{}}}}, true)
	f(&Effect{Kind: EffectEvent, Event: EventEffect{Event: 1}}, false)
	f(&Effect{Kind: EffectPatch, Patch: &Patch{}}, false)
}

// A part that does not open is reported, and its person is not made twice.
func TestDamagedPartIsReported(t *testing.T) {
	s, d := onePerson(t), newFakeDisk()
	d.flush(t, s, 1, 9)
	d.keys[1] = [16]byte{2} // the wrong key
	l := d.load(t)
	if o, ok := l.find(1, 77, []byte("ann")); !ok || o != 0 {
		t.Fatal("the person is lost")
	}
	if l.damaged() == nil || l.check() == nil {
		t.Fatal("the damage is not reported")
	}
	if err := l.apply(2, &Effect{Kind: EffectPatch, Patch: &Patch{}}); err == nil {
		t.Fatal("a patch of a damaged profile was taken")
	}
	if _, err := l.checksum(); err == nil {
		t.Fatal("a damaged profile has a checksum")
	}
}

// markAllDirty marks every part of every person, as after a change of format.
func (s *state) markAllDirty() {
	s.rows.each(func(o Ord, r *Row) bool {
		s.mark(r, o, rowDirty)
		return true
	})
}
