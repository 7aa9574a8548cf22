package rule

import (
	"cmp"
	"slices"

	"tact/storage"
)

// batch is atoms of one page that are judged in one walk over what is known of a
// person: the walk goes over what the person has, so that an atom about what the
// person has not costs nothing.
//
// Cost: the shorter of the person's list and the page's is walked and the other
// one searched, about 2 ns an entry; on an attribute the person has, about 3 ns
// for each comparison of a number, one hash of the text for all conditions that
// name values to be equal to, and about 10 ns for each other condition.
type batch struct {
	some        bool // there is an atom
	bits        [PageWords]uint64
	attributes  families
	tags        families
	segments    families
	events      []uint16 // on events
	rest        []uint16 // one by one: percent, consent, channels, renamed tags, derived
	calendar    bool     // an atom needs the zone
	behavioural bool     // an atom needs what the person did
}

// families are the atoms about things of one kind, by rising id.
type families struct {
	ids []storage.Name
	of  []family // of the id at the same place
}

// family is the atoms about one attribute, tag or segment.
type family struct {
	atoms  []uint16            // judged one by one
	ranges []numberRange       // of an attribute that is a bool, int, date or time
	words  map[string][]uint16 // text → atoms that hold for it; nil: none
	number *test               // reads the value that ranges compare
}

type numberRange struct {
	lo, hi int64
	bit    uint16
}

// mostWords bounds the values of a condition that joins the words of a family: a
// longer list keeps a table of its own.
const mostWords = 256

// newBatch sorts atoms, given by their bits in rising order.
func newBatch(atoms []Atom, chosen []uint16) batch {
	b := batch{some: len(chosen) > 0}
	attributes, tags := map[storage.Name]*family{}, map[storage.Name]*family{}
	segments := map[storage.Name]*family{}
	in := func(m map[storage.Name]*family, id storage.Name) *family {
		if m[id] == nil {
			m[id] = &family{}
		}
		return m[id]
	}
	for _, i := range chosen {
		t := &atoms[i].test
		b.bits[i/64] |= 1 << (i % 64)
		b.calendar = b.calendar || t.local()
		b.behavioural = b.behavioural || t.behavioural()
		switch {
		case (t.kind == testTag || t.kind == testTagValues) && len(t.former) == 0:
			f := in(tags, t.id)
			f.atoms = append(f.atoms, i)
		case t.kind == testSegment:
			f := in(segments, t.id)
			f.atoms = append(f.atoms, i)
		case t.kind == testEvent:
			b.events = append(b.events, i)
		case t.onAttribute():
			in(attributes, t.id).add(t, i)
		default:
			b.rest = append(b.rest, i)
		}
	}
	b.attributes, b.tags, b.segments = sortFamilies(attributes), sortFamilies(tags),
		sortFamilies(segments)
	return b
}

// onAttribute says that a test is about the value of one attribute.
func (t *test) onAttribute() bool { return t.kind >= testKnown && t.kind <= testYearly }

// add puts an atom where its family judges it fastest.
func (f *family) add(t *test, i uint16) {
	switch {
	case t.kind == testInt && (f.number == nil || f.number.typ == t.typ):
		f.number = t
		f.ranges = append(f.ranges, numberRange{t.lo, t.hi, i})
	case t.kind == testText && !t.fold:
		f.word(t.text, i)
	case t.kind == testTexts && !t.fold && len(t.texts) <= mostWords:
		for word := range t.texts {
			f.word(word, i)
		}
	default:
		f.atoms = append(f.atoms, i)
	}
}

func (f *family) word(text string, i uint16) {
	if f.words == nil {
		f.words = map[string][]uint16{}
	}
	f.words[text] = append(f.words[text], i)
}

func sortFamilies(m map[storage.Name]*family) families {
	var f families
	for id := range m {
		f.ids = append(f.ids, id)
	}
	slices.Sort(f.ids)
	for _, id := range f.ids {
		f.of = append(f.of, *m[id])
	}
	return f
}

// seek returns the first place from at on whose id is not below id.
func (f *families) seek(at int, id storage.Name) int {
	for end := min(at+8, len(f.ids)); at < end; at++ {
		if f.ids[at] >= id {
			return at
		}
	}
	more, _ := slices.BinarySearchFunc(f.ids[at:], id, cmp.Compare)
	return at + more
}

// run judges the atoms of a batch and sets their bits.
func (e *evaluation) run(b *batch, bits *[PageWords]uint64) {
	e.zoned(b.calendar)
	for i := range bits {
		bits[i] &^= b.bits[i]
	}
	e.attributes(&b.attributes, bits)
	e.labels(&b.tags, true, bits)
	e.labels(&b.segments, false, bits)
	e.each(b.events, bits)
	e.each(b.rest, bits)
}

// zoned fills the calendar of the clock when it is needed and not there yet.
func (e *evaluation) zoned(calendar bool) {
	if calendar && e.clock.zone == nil {
		e.clock = newClock(e.who.Now, e.who.Zone)
	}
}

// each judges atoms one by one.
func (e *evaluation) each(atoms []uint16, bits *[PageWords]uint64) {
	for _, i := range atoms {
		if e.judge(&e.atoms[i].test) {
			bits[i/64] |= 1 << (i % 64)
		}
	}
}

// attributes walks over the attributes of the person.
func (e *evaluation) attributes(f *families, bits *[PageWords]uint64) {
	if len(f.ids) == 0 {
		return
	}
	c := e.who.Profile.Attrs()
	if len(f.ids)*8 < c.Len() {
		for i, id := range f.ids {
			if v, ok := e.who.Profile.Attr(id); ok {
				e.value(&f.of[i], v, bits)
			}
		}
		return
	}
	for at := 0; at < len(f.ids) && c.Next(); {
		if at = f.seek(at, c.ID); at < len(f.ids) && f.ids[at] == c.ID {
			e.value(&f.of[at], c.Value(), bits)
		}
	}
}

// value judges the atoms about one attribute.
func (e *evaluation) value(f *family, v storage.Value, bits *[PageWords]uint64) {
	if f.number != nil {
		if n, ok := f.number.number(v); ok {
			for i := range f.ranges {
				if r := &f.ranges[i]; r.lo <= n && n <= r.hi {
					bits[r.bit/64] |= 1 << (r.bit % 64)
				}
			}
		}
	}
	if f.words != nil && v.Kind == storage.KindString {
		for _, i := range f.words[string(v.Bytes)] {
			bits[i/64] |= 1 << (i % 64)
		}
	}
	for _, i := range f.atoms {
		t := &e.atoms[i].test
		holds := false
		if t.dynamic() {
			holds = e.moving(t, v)
		} else {
			holds = t.static(v)
		}
		if holds {
			bits[i/64] |= 1 << (i % 64)
		}
	}
}

// labels walks over the tags of the person, or over the static segments the person
// is in.
func (e *evaluation) labels(f *families, tags bool, bits *[PageWords]uint64) {
	p := &e.who.Profile
	held := p.SegmentCount()
	if tags {
		held = p.TagCount()
	}
	if len(f.ids) == 0 || held == 0 {
		return
	}
	if len(f.ids)*8 < held {
		for i := range f.ids {
			e.each(f.of[i].atoms, bits)
		}
		return
	}
	at := 0
	for i := 0; i < held && at < len(f.ids); i++ {
		v := storage.TagValue{}
		if tags {
			v.ID = p.TagID(i)
		} else {
			v.ID = p.SegmentAt(i)
		}
		if at = f.seek(at, v.ID); at == len(f.ids) || f.ids[at] != v.ID {
			continue
		}
		if tags {
			v = p.TagAt(i)
		}
		for _, i := range f.of[at].atoms {
			t := &e.atoms[i].test
			if !tags || e.held(t, v.Value, v.Expires) && t.tagged(v.Value) {
				bits[i/64] |= 1 << (i % 64)
			}
		}
	}
}
