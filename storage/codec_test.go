package storage

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// every returns one effect of each kind with all fields set.
func every() []*Effect {
	zone, locale, blacklist := Name(3), Name(4), uint16(9)
	list := []*Effect{
		{Kind: EffectCreate, Ord: 1, Create: CreateEffect{
			Workspace: 1, Slot: 77, Person: 2, ID: []byte("ann"), IDHash: 8, Visitor: true,
		}},
		{Kind: EffectPatch, Ord: 1, Patch: &Patch{
			Identities: []Identity{{1, []byte("a@b.c")}},
			Attrs: []AttrValue{
				{ID: 1, Remove: true},
				{ID: 2, Value: Value{Kind: KindInt, Num: 5}},
				{ID: 3, Value: Value{Kind: KindString, Bytes: []byte("小雨")}},
			},
			TagsReplace: true, TagsRemove: []Name{9}, TagsAdd: []TagValue{{1, 2, 3, SourceModel}},
			TagSource: SourceRule, TagsMerged: true, TagsExpire: true,
			SegmentsAdd: []Name{4}, SegmentsRemove: []Name{5},
			Consents: []Consent{{1, 2, true, 3, 4, 5}, {6, 3, false, 9, 0, 0}}, Blacklist: &blacklist,
			Addresses: []Address{{2, [][]byte{[]byte("x"), []byte("y")}}, {3, nil}},
			Zone:      &zone, Locale: &locale,
		}},
		{Kind: EffectPatch, Ord: 1, Patch: &Patch{TagsAdd: []TagValue{{ID: 1}}}},
		{Kind: EffectEvent, Ord: 1, Event: EventEffect{
			Event: 3, Occurred: testDay, Clamped: true, EventID: []byte("e1"),
			Indexed: []AttrValue{{ID: 1, Value: Value{Kind: KindFloat, Num: 7}}},
			Raw:     []byte(`{"a":1}`),
		}},
		{Kind: EffectEvent, Ord: 1, Event: EventEffect{Event: 3, Occurred: testDay, Shift: 28800}},
		{Kind: EffectOutcome, Ord: 1, Outcome: OutcomeEffect{Event: 2, Occurred: testDay}},
		{Kind: EffectReserve, Ord: 1, Reserve: ReserveEffect{
			ID: ReservationID{1, 2}, Offer: 3, Treatment: 4, Placement: 5, Channel: 6,
			Granted: 7, Expires: 8, Grace: 9,
			Keys: []HeldKey{
				{CounterKey{1, 2}, 3, 4, true, 5, CoarseNone, 0},
				{CounterKey{1, 3}, 3, 4, true, 5, CoarseRolling, 1_000_000},
				{Key: CounterKey{6, 7}, CountOn: 8, Limit: 9},
				{CounterKey{6, 7}, 8, 9, false, 3600, CoarseRolling, 0},
				{CounterKey{6, 7}, 8, 9, false, 1 << 31, CoarseCalendar, 0},
			},
		}},
		{Kind: EffectReserve, Ord: 1, Reserve: ReserveEffect{ID: ReservationID{1, 2}, Drawn: true}},
		{Kind: EffectRefund, Ord: NoOrd, Refund: []BlockEffect{{TotalKey{CounterKey{1, 2}, 3}, 9}}},
		{Kind: EffectRollback, Ord: NoOrd, Rollback: RollbackEffect{7, 8}},
		{Kind: EffectBlock, Ord: NoOrd, Block: BlockEffect{TotalKey{CounterKey{1, 2}, 3}, -4}},
		{Kind: EffectBurn, Ord: NoOrd, Burn: BurnEffect{true, []BlockEffect{
			{TotalKey{CounterKey{1, 2}, 3}, 1 << 40}, {TotalKey{CounterKey{1, 2}, 4}, -1},
		}}},
		{Kind: EffectConfirm, Ord: 1, Resolve: ResolveEffect{ReservationID{1, 2}, 3, 4, nil, UseMark{}}},
		{Kind: EffectConfirm, Ord: 1, Resolve: ResolveEffect{ReservationID{1, 2}, 3, 4, []TotalKey{
			{CounterKey{5, 6}, 7}, {CounterKey{8, 0}, 0},
		}, UseMark{DecisionID{1, 2}, 7}}},
		{Kind: EffectConfirm, Ord: 1, Resolve: ResolveEffect{
			ReservationID{1, 2}, 3, 4, nil, UseMark{DecisionID{15: 1}, 0},
		}},
		{Kind: EffectUse, Ord: 1, Use: UseEffect{At: 9, Mark: UseMark{DecisionID{3}, 300}}},
		{Kind: EffectUse, Ord: 1, Use: UseEffect{
			At: 9, Lost: ReservationID{1, 2}, Mark: UseMark{DecisionID{3}, 300},
		}},
		{Kind: EffectRelease, Ord: 1, Resolve: ResolveEffect{ReservationID{1, 2}, 3, 4, nil, UseMark{}}},
		{Kind: EffectUse, Ord: 1, Use: UseEffect{
			At: 9, Keys: []HeldKey{{Key: CounterKey{1, 2}, CountOn: 3, Limit: 4}},
		}},
		{Kind: EffectUse, Ord: 1, Use: UseEffect{
			At: 9, Keys: []HeldKey{{Key: CounterKey{1, 2}, CountOn: 3, Limit: 4}},
			Lost: ReservationID{4, 5},
		}},
		{Kind: EffectOutcome, Ord: 1, Outcome: OutcomeEffect{
			1, 2, 3, 4, 5, 6,
			[]Name{7},
			testDay, math.Inf(1), OutcomeLate,
			-3600,
		}},
		{Kind: EffectDecision, Ord: 1, Decision: DecisionEffect{
			ID: DecisionID{1}, Record: []byte("record"), Personal: []byte("text"), Request: 4,
			Body: 5, Until: 6, Counts: []StatsCount{{StatsKey{1, 2, 3, 4}, 5, 6}},
		}},
		{Kind: EffectDecision, Ord: NoOrd, Decision: DecisionEffect{ID: DecisionID{2}}},
		{Kind: EffectClaim, Ord: NoOrd, Claim: ClaimEffect{
			1, 2, [16]byte{3}, PersonRef{4, 5, 6},
		}},
		{Kind: EffectForget, Ord: 1},
		{Kind: EffectTime, Ord: NoOrd, Floor: 12},
		{Kind: EffectMember, Ord: NoOrd, Member: MemberEffect{
			Segment: 3, Entered: true, Cause: CauseBackfill, At: testDay, Ords: []Ord{0, 7, 900_000},
		}},
		{Kind: EffectTrack, Ord: NoOrd, Track: TrackEffect{3, TrackWhole, 1 << 60}},
		{Kind: EffectCede, Ord: 1},
		{Kind: EffectCede, Ord: 1, Cede: CedeEffect{[]Origin{7, 1 << 48}}},
		{Kind: EffectErase, Ord: 1, Erase: EraseEffect{
			Workspace: 1, Slot: 77, Person: 9, Hash: [16]byte{15: 3},
			Held:  Holdings{HeldTags: 300, HeldRequests: 4},
			Names: []NameRef{{DictSource, 3}, {DictConsentText, 300}},
		}},
		{Kind: EffectAbsorb, Ord: 1, Absorb: AbsorbEffect{7, 60, []byte("part")}},
	}
	for i, e := range list {
		e.Time = testDay + UnixMsec(i*1000)
		e.Config = uint32(i / 3)
		if i%2 == 0 {
			e.DedupKey, e.DedupBody = uint64(i+1), 9
		}
	}
	return list
}

// A frame with a flipped bit, wherever it lies, is no frame: most bytes of it are
// numbers, which would be others.
func TestDamagedFrame(t *testing.T) {
	f := newFrame(9)
	for _, e := range every() {
		if err := f.append(e, &[16]byte{1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	head := frameHead{3, 4, 9, 5, f.time, f.config, uint32(f.count), 77}
	value, err := appendFrame(nil, &head, f, testSealer(), func(*record) {})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(value) {
		bad := bytes.Clone(value)
		bad[i/8] ^= 1 << (i % 8)
		if _, _, err := parseFrame(bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i/8, err)
		}
	}
}

// decode(encode(e)) == e for every kind, through a sealed frame.
func TestFrameRoundTrip(t *testing.T) {
	key := [16]byte{1, 2, 3}
	f := newFrame(9)
	want := every()
	for _, e := range want {
		if err := f.append(e, &key, nil); err != nil {
			t.Fatal(err)
		}
	}
	head := frameHead{3, 4, 9, 5, f.time, f.config, uint32(f.count), 77}
	var created []CreateEffect
	value, err := appendFrame(nil, &head, f, testSealer(), func(r *record) {
		if r.kind == EffectCreate {
			created = append(created, createOf(r))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(created) != 1 || created[0].Key != key || created[0].Slot != 77 {
		t.Fatalf("created %+v", created)
	}
	for _, secret := range []string{"ann", "a@b.c", "小雨", "e1", "text"} {
		if bytes.Contains(value, []byte(secret)) {
			t.Errorf("%q lies open in the frame", secret)
		}
	}
	h, records, err := parseFrame(value)
	if err != nil || h != head {
		t.Fatalf("head %+v, %v", h, err)
	}
	var d effectDecoder
	for i, w := range want {
		var r record
		if r, records, err = h.next(records); err != nil {
			t.Fatal(err)
		}
		var e Effect
		r.begin(&e)
		if err := d.decodeClear(&e, r.clear); err != nil {
			t.Fatal(err)
		}
		if r.personal != nil {
			bind := frameBind(&h, i, r.kind)
			plain, err := appendOpened(nil, &key, r.personal, bind[:])
			if err != nil {
				t.Fatal(err)
			}
			if err := d.decodePersonal(&e, plain); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(&e, w) {
			t.Errorf("effect %d is\n%+v, want\n%+v", i, e, *w)
		}
	}
	for bit := range len(value) * 8 {
		value[bit/8] ^= 1 << (bit % 8)
		if _, _, err := parseFrame(value); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		value[bit/8] ^= 1 << (bit % 8)
	}
}

// Corrupt bytes are an error; what decodes encodes to bytes that decode to it.
func FuzzEffect(f *testing.F) {
	for _, e := range every() {
		f.Add(byte(e.Kind), appendClear(nil, e), appendPersonal(nil, e))
		f.Add(byte(e.Kind), appendClear(nil, e), []byte(nil))
	}
	f.Fuzz(func(t *testing.T, kind byte, open, personal []byte) {
		var d, again effectDecoder
		e := Effect{Kind: EffectKind(kind)}
		if err := d.decodeClear(&e, open); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if hasPersonal(&e) || len(personal) > 0 {
			if err := d.decodePersonal(&e, personal); err != nil {
				return
			}
		}
		first, second := appendClear(nil, &e), appendPersonal(nil, &e)
		e2 := Effect{Kind: EffectKind(kind)}
		if err := again.decodeClear(&e2, first); err != nil {
			t.Fatal(err)
		}
		if len(second) > 0 {
			if err := again.decodePersonal(&e2, second); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(appendClear(nil, &e2), first) ||
			!bytes.Equal(appendPersonal(nil, &e2), second) {
			t.Fatalf("kind %d: %x %x", kind, first, second)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	key := [16]byte{1}
	open := newFrame(1)
	for _, e := range every() {
		if err := open.append(e, &key, nil); err != nil {
			f.Fatal(err)
		}
	}
	h := frameHead{number: 1, count: uint32(open.count)}
	value, err := appendFrame(nil, &h, open, testSealer(), func(*record) {})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4 { // give the parser behind the checksum something to do
			b = append(bytes.Clone(b[:len(b)-4]), 0, 0, 0, 0)
			sum := checkSum(b[:len(b)-4])
			b[len(b)-4], b[len(b)-3] = byte(sum), byte(sum>>8)
			b[len(b)-2], b[len(b)-1] = byte(sum>>16), byte(sum>>24)
		}
		h, records, err := parseFrame(b)
		for i := uint32(0); err == nil && i < h.count; i++ {
			var r record
			r, records, err = h.next(records)
			var d effectDecoder
			e := Effect{Kind: r.kind}
			if err == nil {
				_ = d.decodeClear(&e, r.clear) // must only not panic
			}
		}
	})
}

func FuzzSidecar(f *testing.F) {
	r := sidecarRecord{seq: 1, durable: []uint64{1, 2}, marks: [2]manifestMark{{"MANIFEST-1", 2, 3}}}
	f.Add(r.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseSidecar(b)
		if err == nil && b[8] == sidecarFormat && !bytes.HasPrefix(b, r.append(nil)) {
			t.Fatalf("%x is not canonical", b)
		}
	})
}

// Appending a reservation and its decision, and waiting, allocate nothing.
func TestHotPathDoesNotAllocate(t *testing.T) {
	o := testOptions(nil)
	o.BoundedMax = time.Hour
	o.FlushEvery = time.Hour
	s := mustOpen(t, vfs.NewMem(), o)
	defer mustClose(t, s)
	g, ord, frame := addPerson(t, s, "ann")
	mustWait(t, s, g, frame)
	record := make([]byte, 160)
	counts := []StatsCount{{Key: StatsKey{1, 1, 0, 1}, N: 1}}
	keys := []HeldKey{{Key: CounterKey{Cap: 1}, CountOn: 1, Limit: 3}}
	e := Effect{Ord: ord, Time: testDay}
	now := UnixSec(testDay / 1000)
	step := func() {
		g.Lock()
		id := g.NextReservation()
		e.Kind = EffectReserve
		e.Reserve = ReserveEffect{ID: id, Granted: now, Expires: now + 600, Keys: keys}
		if _, err := g.Append(&e); err != nil {
			t.Fatal(err)
		}
		e.Kind = EffectDecision
		e.Decision = DecisionEffect{
			ID: g.NextDecision(testDay), Record: record, Request: id.Number, Body: 1,
			Until: now + 600, Counts: counts,
		}
		if _, err := g.Append(&e); err != nil {
			t.Fatal(err)
		}
		e.Kind = EffectRelease
		e.Resolve = ResolveEffect{ID: id, CountOn: 1, At: now}
		if _, err := g.Append(&e); err != nil {
			t.Fatal(err)
		}
		g.Unlock()
	}
	for range 300 {
		step()
	}
	if n := testing.AllocsPerRun(200, step); n != 0 {
		t.Errorf("append: %v allocations", n)
	}
	durable := s.Durable(g.GroupID())
	wait := func() {
		if err := s.Wait(g.GroupID(), durable, 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, wait); n != 0 && !raceEnabled {
		t.Errorf("wait: %v allocations", n)
	}
	lookup := func() {
		s.LookupBytes(DictTag, record[:3])
		s.IdentityHash(1, 2, record)
		s.SlotOf(1, record)
	}
	if n := testing.AllocsPerRun(100, lookup); n != 0 {
		t.Errorf("look-ups: %v allocations", n)
	}
}

// A decision id names its frame; the record comes back, its text opened.
func TestReadDecision(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs, testOptions(nil))
	g, ord, _ := addPerson(t, s, "ann")
	var ids []DecisionID
	g.Lock()
	for i := range 3 {
		e := Effect{Kind: EffectDecision, Ord: ord, Time: testDay, Decision: DecisionEffect{
			ID: g.NextDecision(testDay), Record: []byte{byte(i)}, Personal: []byte{'p', byte(i)},
		}}
		if _, err := g.Append(&e); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.Decision.ID)
	}
	g.Unlock()
	read := func() {
		t.Helper()
		for i, id := range ids {
			d, o, err := s.ReadDecision(id)
			if err != nil || o != ord || d.Record[0] != byte(i) || d.Personal[1] != byte(i) {
				t.Fatalf("decision %d: %+v of %d, %v", i, d, o, err)
			}
			if id.Time() != testDay || id.Group() != g.GroupID() {
				t.Fatalf("id %x: time %d group %d", id, id.Time(), id.Group())
			}
		}
	}
	read()
	mustClose(t, s)
	s = mustOpen(t, fs, testOptions(nil))
	g = s.Group(g.GroupID())
	read()
	other := makeDecisionID(testDay, g.GroupID(), 9, ids[0].Frame(), 0)
	if _, _, err := s.ReadDecision(other); !errors.Is(err, ErrNotFound) {
		t.Errorf("another epoch: %v", err)
	}
	mustClose(t, s)
}
