package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// samples returns a state with a few full people, and the stored parts.
func samples(t testing.TB) (*state, *fakeDisk) {
	t.Helper()
	g, s := newGenerator(21), newState(3, stateOptions{})
	d := newFakeDisk()
	seal := testSealer()
	for i := range 1500 {
		if err := s.apply(uint64(i/5+1), g.next()); err != nil {
			t.Fatal(err)
		}
		if i%100 == 50 { // of some, events lie beside the whole parts
			d.write(t, s, seal, 1<<20)
		}
	}
	d.meta = s.appendMeta(nil, 300)
	for _, b := range s.takeDedup() {
		d.dedup = append(d.dedup, b.value)
	}
	return s, d
}

// A decoder takes bytes or refuses them as corrupt; what it takes is read in
// full.
type decoder func(b []byte) error

func decodeProfile(b []byte) error {
	err := checkProfile(b)
	if err == nil {
		readProfile(Profile{b})
	}
	return err
}

func decodeTail(b []byte) error {
	err := checkTail(b)
	if err == nil {
		n := 0
		t := Tail{b}
		t.Floor()
		t.Each(func(e TailEvent) bool {
			e.EachProp(func(Name, Value) bool { return true })
			e.Prop(4)
			n++
			return true
		})
		if n != t.Len() {
			panic("a tail that was taken cannot be read")
		}
		var d tailDraft
		err = d.add(t, &tailEdit{5, 6, 7, []byte{0, 1}})
		if err == nil && (checkTail(d.b) != nil || d.left+int(d.b[8]) != n+1) {
			panic("a tail that was taken cannot be changed")
		}
		for c := new(wholeActivity).view(nil, t).Cursor(); c.Next(); {
			if c.Count == 0 || c.Count > uint64(n) {
				panic("a tail that was taken cannot be summed up")
			}
		}
	}
	return err
}

func decodeActivity(b []byte) error {
	err := checkActivity(b)
	if err != nil {
		return err
	}
	a, n := Activity{b: b}, 0
	a.From()
	for c := a.Cursor(); c.Next(); n++ {
		if _, entry, _ := a.split(c.key()); entry == nil || entryKey(entry) != c.key() {
			panic("an entry that was taken cannot be found")
		}
		c.Sums(4)
		days := 0
		for d := c.Days(4); d.Next(); {
			days++
		}
		if days != c.nDays {
			panic("an activity that was taken cannot be read")
		}
	}
	if a.Empty() {
		return nil
	}
	if n != int(le16(b[8:])) {
		panic("an activity that was taken cannot be read")
	}
	var d activityDraft
	in := &activityEdit{
		key: activityKey{event: 3}, occurred: 5, now: 6,
		props: []AttrValue{{ID: 4, Value: Value{Kind: KindInt, Num: 7}}},
	}
	b = d.add(nil, a, in)
	in.key, in.now, in.occurred = activityKey{9, 2, true}, 1<<49, 1<<49
	if b = d.add(nil, Activity{b: b}, in); checkActivity(b) != nil {
		panic("an activity that was taken cannot be changed")
	}
	return nil
}

func decodeContact(b []byte) error {
	err := checkContact(b)
	if err != nil {
		return err
	}
	c, t := Contact{b}, Instant{Now: 50, Floor: 20}
	var d contactDraft
	d.load(c)
	old := len(b) > 0 && b[3]&contactMarked != 0 // takes the present form
	if !old && !bytes.Equal(d.append(nil), b) &&
		(d.opens+d.nRings+len(d.resolved)+len(d.requests)) != 0 {
		panic("a contact part changes when it is packed again")
	}
	if old && checkContact(d.append(nil)) != nil {
		panic("the marks of an older version cannot be packed")
	}
	readContact(c, t)
	id := ReservationID{}
	c.EachReservation(func(h Held) bool { id = h.ID(); return false })
	d.confirm(&ResolveEffect{ID: id, CountOn: 3, At: 9})
	d.releaseID(id)
	d.sweep(t)
	d.answer(&DecisionEffect{Request: 9})
	d.use(HeldKey{Limit: 9}, 8)
	d.mark(8, 1, &UseMark{Decision: DecisionID{1}})
	if err := moveContact(d.append(nil), t); err != nil {
		panic(err)
	}
	if checkContact(d.append(nil)) != nil {
		panic("a contact part that was taken cannot be changed")
	}
	return nil
}

// moveContact takes a contact part in under an origin, and out again.
func moveContact(b []byte, t Instant) error {
	var d, other contactDraft
	d.load(Contact{b})
	part := d.cede(nil, t)
	if len(d.append(nil)) > 0 {
		return errors.New("something is left of a part that was ceded whole")
	}
	err := other.absorb(Contact{part}, &AbsorbEffect{Origin: 7, Until: 60}, t)
	united := Contact{other.append(nil)}
	back := other.cede([]Origin{7}, t)
	other.sweepOrigins(60)
	for _, p := range [][]byte{part, united.b, back, other.append(nil)} {
		err = errors.Join(err, checkContact(p))
	}
	readContact(united, t)
	return err
}

func readProfile(p Profile) {
	p.EachAttr(func(n Name, v Value) bool { p.Attr(n); return true })
	p.EachTag(func(v TagValue) bool { p.Tag(v.ID); return true })
	p.EachSegment(func(n Name) bool { p.Segment(n); return true })
	p.EachConsent(func(c Consent) bool { p.Consent(c.Purpose, c.Channel); return true })
	p.EachIdentity(func(i Identity) bool { p.HasIdentity(i.Type, i.Value); return true })
	p.EachAddress(func(c uint8, _ []byte) bool { p.HasAddress(c); return true })
	p.Attr(3)
	p.Tag(3)
	p.Segment(3)
	p.Zone()
	p.Locale()
	p.longID()
	p.withdrawn()
	var d profileDraft
	d.load(p)
	if b := d.append(nil); checkProfile(b) != nil {
		panic("a profile that was taken cannot be packed again")
	}
}

func readContact(c Contact, t Instant) {
	c.EachRing(func(r Ring) bool {
		c.Count(r.Key(), 10, t)
		c.KthLatest(r.Key(), 3, t)
		for i := range r.Len() {
			r.Time(i)
		}
		return true
	})
	c.EachReservation(func(h Held) bool {
		for i := range h.Len() {
			c.Count(h.Key(i).Key, 10, t)
		}
		c.Reservation(h.ID())
		return h.Live(t) || h.Channel() > 0
	})
	c.EachRequest(func(h uint64, _ uint32, _ UnixSec, _ DecisionID) bool {
		c.Request(h, 9)
		return true
	})
	c.Reservation(ReservationID{9, 9})
	c.EachMark(func(at UnixSec, on uint16, m UseMark) bool { return at > 0 || on > 0 || m.set() })
}

// decodeStored wraps a decoder of stored values: the sum is made right, so that
// what lies behind it is reached.
func decodeStored(f func(value []byte) error) decoder {
	return func(b []byte) error {
		sum := binary.LittleEndian.AppendUint32(bytes.Clone(b), checkSum(b))
		return f(sum)
	}
}

func decodeRow(kind RowKind) decoder {
	return decodeStored(func(value []byte) error {
		s := newState(3, stateOptions{})
		at := rowKey{1, 1, 1, kind}
		s.beginRows(new(rowLoad))
		if kind != RowProfile {
			p := storedRow{contents: make([]byte, profileHeader+sealExtra)}
			p.contents[0] = profileHeader
			if len(value) > 8 {
				p.ord = Ord(le32(value[4:]))
			}
			if p.ord < maxOrds {
				if err := s.loadProfile(at, p, [16]byte{}); err != nil {
					return err
				}
			}
			if r := s.rows.at(p.ord); r != nil && kind >= RowEvents {
				r.tail, _ = s.slab.put(0, make([]byte, sealExtra))
				r.activity, _ = s.slab.put(0, make([]byte, sealExtra))
				r.Flags |= rowTailSealed | rowActivitySealed
				r.events = uint8(kind - RowEvents)
				s.loading.whole.person = at.person
			}
		}
		if err := s.loadRow(at, value, [16]byte{}); err != nil {
			return err
		}
		s.endRows()
		// The sealed parts do not open with this key; that must be said.
		o := Ord(le32(value[4:]))
		readContact(s.contact(o), Instant{Now: 9, Floor: 5})
		s.id(o)
		s.tail(o)
		s.activity(o)
		if s.damaged() == nil && kind != RowContact {
			panic("a part opened with a key that did not seal it")
		}
		return nil
	})
}

func decodeEvents(b []byte) error {
	s := newState(3, stateOptions{})
	s.events.tail = make([]byte, tailHeader)
	s.events.sums, s.events.plain = startActivity(nil, 0), b
	if err := s.addEvents(); err != nil {
		return err
	}
	if err := errors.Join(checkTail(s.events.tail), checkActivity(s.events.sums)); err != nil {
		panic(err)
	}
	return nil
}

func decodePersonal(b []byte) error {
	if err := checkPersonal(b); err != nil {
		return err
	}
	clear := (&profileDraft{}).appendClear(nil)
	readProfile(Profile{append(clear, b...)})
	return nil
}

func decodeMeta(value []byte) error { return newState(3, stateOptions{}).loadMeta(value) }

// sampleChanges is a block of the log, without its checksum.
func sampleChanges() []byte {
	m := newMemberships()
	m.track(1, testDay, &TrackEffect{Segment: 3, Phase: TrackBuilding})
	m.move(1, testDay, &MemberEffect{
		Segment: 3, Entered: true, Cause: CauseBackfill, At: testDay, Ords: []Ord{1, 2, 70_000},
	})
	m.move(2, testDay+1, &MemberEffect{Segment: 3, Cause: CauseTime, At: testDay, Ords: []Ord{2}})
	block, _ := m.takeBlock(nil)
	return block[:len(block)-4]
}

func decodeChanges(value []byte) error {
	return eachChange(value, func(*changeRun, Ord) bool { return true })
}

func decodeDedup(value []byte) error {
	s := newState(3, stateOptions{})
	if len(value) >= 4 {
		s.high = UnixMsec(le16(value[2:])) * dayMsec
	}
	if err := s.loadDedup(value); err != nil {
		return err
	}
	s.seenDedup(9)
	return nil
}

func decodeIdentity(value []byte) error {
	_, err := parseIdentity(1, 1, [16]byte{1}, value)
	return err
}

// decoders returns every decoder with a few valid inputs, without the sums.
func decoders(t testing.TB) map[string]struct {
	f      decoder
	inputs [][]byte
} {
	s, d := samples(t)
	type entry = struct {
		f      decoder
		inputs [][]byte
	}
	out := map[string]entry{
		"meta": {decodeStored(decodeMeta), [][]byte{d.meta[:len(d.meta)-4]}},
		"members": {
			decodeStored(func(b []byte) error { m := newMemberships(); return m.loadRecord(b) }),
			[][]byte{s.members.appendRecord(nil)},
		},
		"changes": {decodeStored(decodeChanges), [][]byte{sampleChanges()}},
		"dedup":   {decodeStored(decodeDedup), [][]byte{d.dedup[0][:len(d.dedup[0])-4]}},
		"identity": {
			decodeStored(decodeIdentity), [][]byte{appendIdentityRow(nil, PersonRef{1, 2, 3})[:16]},
		},
	}
	profiles, tails, contacts := entry{f: decodeProfile}, entry{f: decodeTail}, entry{f: decodeContact}
	personal, activities := entry{f: decodePersonal}, entry{f: decodeActivity}
	events := entry{f: decodeEvents}
	for o := range Ord(s.len()) {
		if s.row(o) == nil {
			continue
		}
		p := s.profile(o)
		profiles.inputs = append(profiles.inputs, p.b)
		if len(p.b) > 0 {
			personal.inputs = append(personal.inputs, p.b[le32(p.b):])
		}
		tails.inputs = append(tails.inputs, s.tail(o).b)
		activities.inputs = append(activities.inputs, s.activity(o).b)
		if waits := s.slab.get(s.row(o).pending); len(waits) > 0 {
			events.inputs = append(events.inputs, waits)
		}
		contacts.inputs = append(contacts.inputs, s.contact(o).b)
	}
	out["activity"], out["events"] = activities, events
	out["profile"], out["tail"], out["contact"], out["personal"] = profiles, tails, contacts, personal
	names := [...]string{
		RowProfile: "row profile", RowTail: "row tail", RowContact: "row contact",
		RowActivity: "row activity", RowEvents: "row events",
	}
	for kind, name := range names {
		if name == "" {
			continue
		}
		kind := RowKind(kind)
		e := entry{f: decodeRow(kind)}
		for at, value := range d.rows {
			if at.kind == kind && len(e.inputs) < 8 {
				e.inputs = append(e.inputs, value[:len(value)-4])
			}
		}
		out[name] = e
	}
	return out
}

// Valid bytes are taken; cut, lengthened and changed ones are taken or refused
// as corrupt or of a newer format, and never read past.
func TestDecodersTakeOrRefuse(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for name, d := range decoders(t) {
		check := func(b []byte) error {
			err := d.f(bytes.Clone(b)[:len(b):len(b)])
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) &&
				!errors.Is(err, ErrTooLarge) {
				t.Fatalf("%s: %v", name, err)
			}
			return err
		}
		for _, in := range d.inputs {
			if err := check(in); err != nil {
				t.Fatalf("%s: valid bytes: %v", name, err)
			}
		}
		rounds := 3000
		if strings.HasPrefix(name, "row ") {
			rounds = 200 // each makes a state
		}
		for range rounds {
			in := d.inputs[r.IntN(len(d.inputs))]
			b := bytes.Clone(in)
			for range 1 + r.IntN(3) {
				if len(b) > 0 {
					b[r.IntN(len(b))] = byte(r.Uint32()) >> r.IntN(8)
				}
			}
			switch r.IntN(4) {
			case 0:
				b = b[:r.IntN(len(b)+1)]
			case 1:
				b = append(b, byte(r.Uint32()))
			}
			_ = check(b)
		}
	}
}

func fuzzDecoder(f *testing.F, name string) {
	d := decoders(f)[name]
	for _, in := range d.inputs[:min(len(d.inputs), 8)] {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := d.f(b)
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) &&
			!errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
	})
}

func FuzzProfile(f *testing.F)     { fuzzDecoder(f, "profile") }
func FuzzPersonal(f *testing.F)    { fuzzDecoder(f, "personal") }
func FuzzTail(f *testing.F)        { fuzzDecoder(f, "tail") }
func FuzzContact(f *testing.F)     { fuzzDecoder(f, "contact") }
func FuzzActivity(f *testing.F)    { fuzzDecoder(f, "activity") }
func FuzzMeta(f *testing.F)        { fuzzDecoder(f, "meta") }
func FuzzMembers(f *testing.F)     { fuzzDecoder(f, "members") }
func FuzzChanges(f *testing.F)     { fuzzDecoder(f, "changes") }
func FuzzDedup(f *testing.F)       { fuzzDecoder(f, "dedup") }
func FuzzIdentity(f *testing.F)    { fuzzDecoder(f, "identity") }
func FuzzRowProfile(f *testing.F)  { fuzzDecoder(f, "row profile") }
func FuzzRowTail(f *testing.F)     { fuzzDecoder(f, "row tail") }
func FuzzRowContact(f *testing.F)  { fuzzDecoder(f, "row contact") }
func FuzzRowActivity(f *testing.F) { fuzzDecoder(f, "row activity") }
func FuzzRowEvents(f *testing.F)   { fuzzDecoder(f, "row events") }
func FuzzEvents(f *testing.F)      { fuzzDecoder(f, "events") }

// A stored value with a wrong sum is refused whatever else it says.
func TestWrongSumIsRefused(t *testing.T) {
	_, d := samples(t)
	for at, value := range d.rows {
		for _, i := range [...]int{0, 9, len(value) / 2, len(value) - 1} {
			b := bytes.Clone(value)
			b[i] ^= 0x10
			if _, err := parseRow(at.kind, b); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d of part %d: %v", i, at.kind, err)
			}
		}
	}
	newer := bytes.Clone(d.meta[:len(d.meta)-4])
	newer[0] = metaFormat + 1
	if err := decodeStored(decodeMeta)(newer); !errors.Is(err, ErrNewerFormat) {
		t.Fatalf("newer format: %v", err)
	}
}

// A sealed part opens with its key at its place only.
func TestSealIsBound(t *testing.T) {
	key, bind := [16]byte{1}, rowBind(1, 2, RowTail)
	plain := []byte("what nobody else may read")
	seal := newSealer(&zeroReader{})
	sealed, err := seal.append([]byte("front"), &key, plain, bind[:])
	if err != nil || string(sealed[:5]) != "front" || len(sealed) != 5+len(plain)+sealExtra {
		t.Fatalf("%q, %v", sealed, err)
	}
	sealed = sealed[5:]
	f := func(key [16]byte, sealed []byte, bind [13]byte, good bool) {
		t.Helper()
		got, err := appendOpened(nil, &key, sealed, bind[:])
		if good != (err == nil) || good && !bytes.Equal(got, plain) {
			t.Fatalf("%q, %v", got, err)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	}
	f(key, sealed, bind, true)
	f([16]byte{2}, sealed, bind, false)
	f(key, sealed, rowBind(1, 3, RowTail), false)
	f(key, sealed, rowBind(1, 2, RowProfile), false)
	f(key, sealed[:len(sealed)-1], bind, false)
	f(key, sealed[:sealExtra-1], bind, false)
	f(key, nil, bind, false)
	if bytes.Contains(sealed, plain[:8]) {
		t.Fatal("the text can be read")
	}
	seal = newSealer(bytes.NewReader(nil))
	if _, err := seal.append(nil, &key, plain, nil); err == nil {
		t.Fatal("sealed without a nonce")
	}
}

// loadDedup enters one block.
func (s *state) loadDedup(value []byte) error {
	l := dedupLoad{state: s}
	if err := l.add(value); err != nil {
		return err
	}
	return l.finish()
}
