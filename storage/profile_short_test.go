package storage

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// appendLong packs a draft as row format 2 had it: no word of a tag left out, floats on
// the heap, nothing of the history left out.
func (d *profileDraft) appendLong(dst []byte) []byte {
	le := binary.LittleEndian
	if d.empty() {
		return dst
	}
	short := *d
	short.tags, short.history, short.attrs = nil, nil, nil
	clear := short.appendClear(nil)
	le.PutUint32(clear, uint32(len(clear)+len(d.tags)*tagSize))
	le.PutUint16(clear[12:], uint16(len(d.tags)))
	dst = append(dst, clear[:profileHeader]...)
	for _, t := range d.tags {
		dst = le.AppendUint32(dst, uint32(t.ID)|uint32(t.Source)<<24)
		dst = le.AppendUint32(dst, uint32(t.Value))
		dst = le.AppendUint32(dst, uint32(t.Expires))
	}
	dst = append(dst, clear[profileHeader:]...)
	personal := short.appendPersonal(nil)
	head := 1 + int(personal[0]) + personalHeader
	var cells, heap []byte
	for _, a := range d.attrs {
		word, cell, out := attrCell(heap, a)
		if heap = out; a.Value.Kind == KindFloat && word&attrInline != 0 {
			word, cell = word&^attrInline, uint32(len(heap))
			heap = le.AppendUint64(heap, a.Value.Num)
		}
		cells = le.AppendUint32(le.AppendUint32(cells, word), cell)
	}
	le.PutUint16(personal[head-10:], uint16(len(d.attrs)))
	le.PutUint32(personal[head-4:], uint32(len(heap)))
	dst = append(append(append(dst, personal[:head]...), cells...), heap...)
	dst = append(dst, personal[head:]...)
	if len(d.history) == 0 {
		return dst
	}
	var b []byte
	last := int64(0)
	for _, h := range d.history {
		b = binary.AppendVarint(b, int64(h.Set)-last)
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(h.Tag)), uint64(h.Value))
		var length uint64
		if last = int64(h.Set); h.End != 0 {
			length = uint64(h.End-h.Set) + 1
		}
		b = append(binary.AppendUvarint(b, length), h.origin())
	}
	return append(binary.AppendUvarint(append(dst, sectionTagHistory), uint64(len(b))), b...)
}

// drawProfile draws a draft with all that is packed in more than one way.
func drawProfile(r *rand.Rand) (d profileDraft) {
	d.zone, d.blacklist = Name(r.IntN(9)), uint16(r.IntN(3))
	kind := r.IntN(4)
	for id := Name(1 + r.IntN(20)); len(d.tags) < r.IntN(30); id += Name(1 + r.IntN(18)) {
		t := TagValue{ID: id, Source: TagSource(r.IntN(int(sourceCount)))}
		if kind == 1 || kind == 3 && r.IntN(4) == 0 {
			t.Value = Name(r.IntN(300))
		}
		if kind >= 2 && r.IntN(4) == 0 {
			t.Expires = UnixSec(r.Uint32())
		}
		d.tags = append(d.tags, t)
	}
	set := UnixSec(r.Uint32() / 2)
	for range r.IntN(MaxTagHistory) {
		h := TagChange{Tag: Name(1 + r.IntN(40)), Set: set, Source: TagSource(r.IntN(2))}
		if last := len(d.history) - 1; last >= 0 && r.IntN(3) > 0 {
			h.Tag = d.history[last].Tag + Name(r.IntN(20))
		}
		if r.IntN(4) == 0 {
			h.Value = Name(1 + r.IntN(300))
		}
		if r.IntN(4) == 0 {
			h.End, h.How = set+1+UnixSec(r.IntN(1000)), TagEnd(r.IntN(int(tagEndCount)))
			h.By = TagSource(r.IntN(int(sourceCount)))
		}
		if r.IntN(5) == 0 {
			set = UnixSec(r.Uint32() / 2)
		}
		d.history = append(d.history, h)
	}
	for id := Name(1); id < Name(r.IntN(20)); id++ {
		d.attrs = append(d.attrs, AttrValue{ID: id, Value: drawNumber(r)})
	}
	for n := Name(1); n < Name(r.IntN(5)); n++ {
		d.segments = append(d.segments, n)
		d.consents = append(d.consents, Consent{Purpose: n, Channel: 1, At: UnixMsec(n)})
	}
	d.identities = []Identity{{Type: 1, Value: []byte("a@example.com")}}
	return d
}

func drawNumber(r *rand.Rand) Value {
	whole := float64(r.IntN(2000) - 1000)
	f := []float64{
		0, math.Copysign(0, -1), whole, whole / 100, whole * 1e9, whole * 1e14, 0.1 + 0.2,
		math.Inf(1), math.NaN(), math.MaxInt32 / 100.0, math.MinInt32 / 100.0,
		(math.MaxInt32 + 1.0) / 100, (math.MinInt32 - 1.0) / 100, r.NormFloat64(),
	}
	if r.IntN(4) == 0 {
		return Value{Kind: KindInt, Num: r.Uint64() >> r.IntN(64)}
	}
	return Value{Kind: KindFloat, Num: math.Float64bits(f[r.IntN(len(f))])}
}

// A profile says the same whether it is packed as now or as row format 2 had it, and
// one of that format becomes one as now by being packed again.
func TestProfileShortEqualsLong(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	shortest := [tagShort + 1]int{}
	for i := range 4000 {
		d := drawProfile(r)
		now, old := d.append(nil), d.appendLong(nil)
		for _, b := range [][]byte{now, old} {
			if err := checkProfile(b); err != nil {
				t.Fatalf("draw %d: %v", i, err)
			}
			if got := unpack(Profile{b}); !equalDrafts(&got, &d) {
				t.Fatalf("draw %d: %+v\nwant %+v", i, got, d)
			}
			findAll(t, Profile{b}, &d)
		}
		again := unpack(Profile{old})
		if b := again.append(nil); !bytes.Equal(b, now) || len(now) > len(old) {
			t.Fatalf("draw %d: %d bytes of %d\n%x\n%x", i, len(b), len(old), b, now)
		}
		shortest[le16(now[18:])]++
	}
	if slices.Min(shortest[:]) < 100 {
		t.Errorf("words were left out so often: %d", shortest)
	}
}

func unpack(p Profile) (d profileDraft) {
	d.load(p)
	return d
}

func equalDrafts(a, b *profileDraft) bool {
	return a.zone == b.zone && a.blacklist == b.blacklist && slices.Equal(a.tags, b.tags) &&
		slices.Equal(a.history, b.history) && slices.Equal(a.segments, b.segments) &&
		slices.Equal(a.consents, b.consents) &&
		slices.EqualFunc(a.attrs, b.attrs, func(a, b AttrValue) bool {
			return a.ID == b.ID && a.Value.Kind == b.Value.Kind && a.Value.Num == b.Value.Num
		})
}

// findAll looks everything up one by one.
func findAll(t *testing.T, p Profile, d *profileDraft) {
	t.Helper()
	var places AttrPlaces
	for id := Name(1); id < 500; id++ {
		at, held := findTag(d.tags, id)
		value, ok, expires := p.Tag(id)
		if ok != held || ok && (value != d.tags[at].Value || expires != d.tags[at].Expires) {
			t.Fatalf("tag %d: %d %t %d", id, value, ok, expires)
		}
	}
	for _, a := range d.attrs {
		kind, num, _ := p.AttrNear(a.ID, &places)
		if v, ok := p.Attr(a.ID); !ok || kind != a.Value.Kind || num != a.Value.Num || v.Num != num {
			t.Fatalf("attribute %d: %d %x, want %+v", a.ID, kind, num, a)
		}
	}
	for _, n := range d.segments {
		if !p.Segment(n) {
			t.Fatalf("segment %d is not found", n)
		}
	}
}

// A tag without value and end takes six bytes at most: four, and two of its history.
func TestTagBytes(t *testing.T) {
	var d profileDraft
	add := Patch{}
	for i := range 20 {
		add.TagsAdd = append(add.TagsAdd, TagValue{ID: Name(5 + 10*i), Source: SourceImport})
	}
	empty := profileDraft{zone: 1}
	d.zone = 1
	if err := d.patch(&add, testDay); err != nil {
		t.Fatal(err)
	}
	if n := len(d.append(nil)) - len(empty.append(nil)); n > 20*6 {
		t.Errorf("20 tags take %d bytes", n)
	}
}

// What no version writes is told: more words left out than a tag has, two sections, an
// end before 1970, a change of no tag.
func TestProfileShortDamage(t *testing.T) {
	d := profileDraft{tags: []TagValue{{ID: 7}}, history: []TagChange{{Tag: 7, Set: 5}}}
	whole := d.append(nil)
	f := func(name string, b []byte) {
		t.Helper()
		if checkProfile(b) == nil {
			t.Errorf("%s: %x is taken", name, b)
		}
	}
	for short := range uint16(5) {
		if b := bytes.Clone(whole); short != 2 {
			binary.LittleEndian.PutUint16(b[18:], short)
			f("words", b)
		}
	}
	at := len(whole) - 3 // head, set, in front of them the length
	f("two sections", append(bytes.Clone(whole), whole[at-1:]...))
	f("kind", append(bytes.Clone(whole[:at-1]), append([]byte{3}, whole[at:]...)...))
	section := func(b ...byte) []byte {
		return append(append(bytes.Clone(whole[:at-1]), sectionTagChanges, byte(len(b))), b...)
	}
	if checkProfile(section(7<<changeTagShift|changeNoValue|changeHeld|changeSameOrigin, 10)) != nil {
		t.Error("a whole section is refused")
	}
	f("no tag", section(changeNoValue|changeHeld|changeSameOrigin, 10, 0))
	f("set below 0", section(7<<changeTagShift|changeNoValue|changeHeld|changeSameOrigin, 9))
	f("end 0", section(7<<changeTagShift|changeSameSet|changeNoValue|changeSameOrigin, 0))
	f("source", section(7<<changeTagShift|changeSameSet|changeNoValue|changeHeld, 7))
	f("cut", section(7<<changeTagShift|changeNoValue|changeHeld|changeSameOrigin))
}

// BenchmarkProfileCold asks for the lines of a profile that lies in no cache, among
// 160 MB of them, and then for one tag and one number: what a decision on a person at
// random pays for the profile at least.
func BenchmarkProfileCold(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	d := profileDraft{zone: 3}
	add := Patch{}
	for i := range 20 {
		add.TagsAdd = append(add.TagsAdd, TagValue{ID: Name(5 + 10*i), Source: SourceImport})
		v := Value{Kind: KindInt, Num: uint64(i)}
		if i < 6 {
			v = Value{Kind: KindString, Bytes: []byte("value-1234")}
		}
		add.Attrs = append(add.Attrs, AttrValue{ID: Name(1 + i), Value: v})
	}
	if err := d.patch(&add, testDay); err != nil {
		b.Fatal(err)
	}
	var s slab
	refs, content := make([]Ref, 400_000), d.append(nil)
	for i := range refs {
		var err error
		if refs[i], err = s.put(0, content); err != nil {
			b.Fatal(err)
		}
	}
	var places AttrPlaces
	sum := uint64(0)
	for b.Loop() {
		ref := refs[r.IntN(len(refs))]
		s.ahead(ref, fetchLines)
		p := Profile{s.get(ref)}
		_, _, end := p.Tag(Name(5 + 10*(sum%20)))
		_, num, _ := p.AttrNear(Name(7+(sum+uint64(end))%14), &places)
		sum += num
	}
	b.ReportMetric(float64(len(content)), "profile-bytes")
}
