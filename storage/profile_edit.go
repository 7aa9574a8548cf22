package storage

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// nameMax bounds the dictionary ids a profile can hold: 24 bits.
const nameMax = 1<<24 - 1

// A profileDraft is a profile taken apart, to be changed and packed again. Byte
// slices in it are views of the old profile or of the patch. It is kept from
// one patch to the next for its memory.
type profileDraft struct {
	id         []byte // canonical id when it is longer than the row's room
	zone       Name
	locale     Name
	blacklist  uint16
	tags       []TagValue // rising ids
	segments   []Name     // rising
	consents   []Consent  // rising At, then arrival
	attrs      []AttrValue
	identities []Identity
	addresses  []address // rising channels
	history    []TagChange

	oldTags     []TagValue
	oldSegments []Name
	heap        []byte
}

type address struct {
	channel uint8
	value   []byte
}

// load takes p apart.
func (d *profileDraft) load(p Profile) {
	d.id, d.zone, d.locale, d.blacklist = p.longID(), p.Zone(), p.Locale(), p.Blacklist()
	d.tags, d.segments, d.consents = d.tags[:0], d.segments[:0], d.consents[:0]
	d.attrs, d.identities, d.addresses = d.attrs[:0], d.identities[:0], d.addresses[:0]
	p.EachTag(func(t TagValue) bool { d.tags = append(d.tags, t); return true })
	p.EachSegment(func(n Name) bool { d.segments = append(d.segments, n); return true })
	p.EachConsent(func(c Consent) bool { d.consents = append(d.consents, c); return true })
	p.EachAttr(func(n Name, v Value) bool {
		d.attrs = append(d.attrs, AttrValue{ID: n, Value: v})
		return true
	})
	p.EachIdentity(func(i Identity) bool { d.identities = append(d.identities, i); return true })
	p.EachAddress(func(c uint8, v []byte) bool {
		d.addresses = append(d.addresses, address{c, v})
		return true
	})
	d.history = d.history[:0]
	p.EachTagChange(func(c TagChange) bool { d.history = append(d.history, c); return true })
	d.oldTags = append(d.oldTags[:0], d.tags...)
	d.oldSegments = append(d.oldSegments[:0], d.segments...)
}

// checkPatch reports a patch that no profile can take.
func checkPatch(p *Patch) error {
	bad := func(what string) error { return fmt.Errorf("%w: patch: %s", ErrInvalid, what) }
	for i := range p.Identities {
		if p.Identities[i].Type == 0 || len(p.Identities[i].Value) > MaxText {
			return bad("identity")
		}
	}
	for i := range p.Attrs {
		a := &p.Attrs[i]
		if a.ID == 0 || a.ID > nameMax || !a.Remove && !checkValue(a.Value) {
			return bad("attribute")
		}
	}
	for i := range p.TagsAdd {
		t := &p.TagsAdd[i]
		if t.ID == 0 || t.ID > nameMax || t.Source >= sourceCount {
			return bad("tag")
		}
	}
	if p.TagSource >= sourceCount {
		return bad("source of tags")
	}
	for i := range p.Consents {
		c := &p.Consents[i]
		if c.Purpose == 0 || c.Channel >= MaxChannels || c.Text > MaxConsentText {
			return bad("consent")
		}
	}
	for i := range p.Addresses {
		if p.Addresses[i].Channel >= MaxChannels {
			return bad("channel of an address")
		}
		for _, v := range p.Addresses[i].Values {
			if len(v) > MaxText {
				return bad("address")
			}
		}
	}
	if p.Zone != nil && *p.Zone > math.MaxUint16 {
		return bad("zone")
	}
	return nil
}

// patch changes the draft at a time. Removals come before additions. ErrTooLarge
// names the limit that was passed.
func (d *profileDraft) patch(p *Patch, at UnixMsec) error {
	for i := range p.Identities {
		d.addIdentity(p.Identities[i])
	}
	for i := range p.Attrs {
		d.setAttr(p.Attrs[i])
	}
	d.patchTags(p, at)
	for _, n := range p.SegmentsRemove {
		if i, found := slices.BinarySearch(d.segments, n); found {
			d.segments = slices.Delete(d.segments, i, i+1)
		}
	}
	for _, n := range p.SegmentsAdd {
		if i, found := slices.BinarySearch(d.segments, n); !found {
			d.segments = slices.Insert(d.segments, i, n)
		}
	}
	for _, c := range p.Consents {
		d.addConsent(c)
	}
	for i := range p.Addresses {
		d.setAddresses(&p.Addresses[i])
	}
	if p.Blacklist != nil {
		d.blacklist = *p.Blacklist
	}
	if p.Zone != nil {
		d.zone = *p.Zone
	}
	if p.Locale != nil {
		d.locale = *p.Locale
	}
	return d.limits()
}

func (d *profileDraft) patchTags(p *Patch, at UnixMsec) {
	if p.TagsReplace {
		d.tags = d.tags[:0]
	}
	if p.TagsExpire {
		d.tags = slices.DeleteFunc(d.tags, func(t TagValue) bool { return t.expired(at) })
	}
	for _, n := range p.TagsRemove {
		if i, found := findTag(d.tags, n); found {
			d.tags = slices.Delete(d.tags, i, i+1)
		}
	}
	for _, t := range p.TagsAdd {
		i, found := findTag(d.tags, t.ID)
		if !found {
			d.tags = slices.Insert(d.tags, i, t)
		}
		d.tags[i] = t
	}
	d.recordTags(p, at)
}

func (d *profileDraft) limits() error {
	over := func(n, limit int, what string) error {
		if n > limit {
			return fmt.Errorf("%d %s, at most %d: %w", n, what, limit, ErrTooLarge)
		}
		return nil
	}
	return cmp.Or(
		over(len(d.attrs), MaxAttrs, "attributes"),
		over(len(d.tags), MaxTags, "tags"),
		over(len(d.segments), MaxSegments, "segments"),
		over(len(d.identities), MaxIdentities, "identities"),
		over(len(d.addresses), MaxAddresses, "addresses"),
		over(len(d.consents), maxConsents, "consents in force"),
	)
}

func findTag(tags []TagValue, id Name) (int, bool) {
	return slices.BinarySearchFunc(tags, id, func(t TagValue, id Name) int {
		return cmp.Compare(t.ID, id)
	})
}

func (d *profileDraft) addIdentity(in Identity) {
	for _, have := range d.identities {
		if have.Type == in.Type && string(have.Value) == string(in.Value) {
			return
		}
	}
	d.identities = append(d.identities, in)
}

func (d *profileDraft) setAttr(a AttrValue) {
	i, found := slices.BinarySearchFunc(d.attrs, a.ID, func(a AttrValue, id Name) int {
		return cmp.Compare(a.ID, id)
	})
	switch {
	case a.Remove && found:
		d.attrs = slices.Delete(d.attrs, i, i+1)
	case a.Remove:
	case found:
		d.attrs[i] = a
	default:
		d.attrs = slices.Insert(d.attrs, i, a)
	}
}

func (d *profileDraft) setAddresses(a *Address) {
	d.addresses = slices.DeleteFunc(d.addresses, func(have address) bool {
		return have.channel == a.Channel
	})
	at := len(d.addresses)
	for at > 0 && d.addresses[at-1].channel > a.Channel {
		at--
	}
	for i, v := range a.Values {
		d.addresses = slices.Insert(d.addresses, at+i, address{a.Channel, v})
	}
}

// addConsent puts c into the history, and takes the oldest entries out that are
// too many and not in force.
func (d *profileDraft) addConsent(c Consent) {
	at := len(d.consents)
	for at > 0 && d.consents[at-1].At > c.At {
		at--
	}
	for i := at - 1; i >= 0 && d.consents[i].At == c.At; i-- {
		h := d.consents[i]
		if h.Purpose == c.Purpose && h.Channel == c.Channel && h.Granted == c.Granted &&
			h.Text == c.Text {
			return
		}
	}
	d.consents = slices.Insert(d.consents, at, c)
	for i := 0; i < len(d.consents) && len(d.consents) > MaxConsents; {
		if d.inForce(i) {
			i++
			continue
		}
		d.consents = slices.Delete(d.consents, i, i+1)
	}
}

// inForce reports whether no other entry overrules the i-th.
func (d *profileDraft) inForce(i int) bool {
	c := d.consents[i]
	for _, o := range d.consents {
		if o.Purpose == c.Purpose && o.Channel == c.Channel &&
			(o.At > c.At || o.At == c.At && c.Granted && !o.Granted) {
			return false
		}
	}
	return true
}

// withdrawn reports whether some consent in force is a withdrawal.
func (d *profileDraft) withdrawn() bool {
	for i := range d.consents {
		if !d.consents[i].Granted && d.inForce(i) {
			return true
		}
	}
	return false
}

func (d *profileDraft) empty() bool {
	return len(d.id) == 0 && d.zone == 0 && d.locale == 0 && d.blacklist == 0 &&
		len(d.tags)+len(d.segments)+len(d.consents)+len(d.attrs)+
			len(d.identities)+len(d.addresses)+len(d.history) == 0
}

// append packs the draft behind dst, which must not overlap what the draft
// views. An empty draft appends nothing.
func (d *profileDraft) append(dst []byte) []byte {
	if d.empty() {
		return dst
	}
	return d.appendPersonal(d.appendClear(dst))
}

func (d *profileDraft) appendClear(dst []byte) []byte {
	le := binary.LittleEndian
	short := d.shortTags()
	size := profileHeader + len(d.tags)*(tagSize-4*short) + len(d.segments)*segmentSize +
		len(d.consents)*consentSize
	var addressed uint16
	for _, a := range d.addresses {
		addressed |= 1 << a.channel
	}
	dst = le.AppendUint32(dst, uint32(size))
	dst = le.AppendUint32(dst, uint32(d.zone))
	dst = le.AppendUint16(dst, d.blacklist)
	dst = le.AppendUint16(dst, addressed)
	dst = le.AppendUint16(dst, uint16(len(d.tags)))
	dst = le.AppendUint16(dst, uint16(len(d.segments)))
	dst = le.AppendUint16(dst, uint16(len(d.consents)))
	dst = le.AppendUint16(dst, uint16(short))
	for _, t := range d.tags {
		dst = le.AppendUint32(dst, uint32(t.ID)|uint32(t.Source)<<24)
		if short < 2 {
			dst = le.AppendUint32(dst, uint32(t.Value))
		}
		if short < 1 {
			dst = le.AppendUint32(dst, uint32(t.Expires))
		}
	}
	for _, n := range d.segments {
		dst = le.AppendUint32(dst, uint32(n))
	}
	for _, c := range d.consents {
		dst = le.AppendUint32(dst, uint32(c.Purpose))
		dst = le.AppendUint32(dst, uint32(c.Source))
		dst = le.AppendUint64(dst, uint64(c.At))
		var granted byte
		if c.Granted {
			granted = 1
		}
		dst = le.AppendUint16(append(dst, c.Channel, granted), uint16(c.Text))
	}
	return dst
}

// shortTags returns how many words can be left out of every tag.
func (d *profileDraft) shortTags() int {
	if len(d.tags) == 0 {
		return 0
	}
	short := tagShort
	for i := range d.tags {
		if d.tags[i].Expires != 0 {
			return 0
		}
		if d.tags[i].Value != 0 {
			short = 1
		}
	}
	return short
}

func (d *profileDraft) appendPersonal(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(append(dst, byte(len(d.id))), d.id...)
	dst = le.AppendUint32(dst, uint32(d.locale))
	dst = le.AppendUint16(dst, uint16(len(d.attrs)))
	dst = le.AppendUint16(dst, uint16(len(d.identities)))
	dst = le.AppendUint16(dst, uint16(len(d.addresses)))
	heapAt := len(dst)
	dst = le.AppendUint32(dst, 0)
	d.heap = d.heap[:0]
	for _, a := range d.attrs {
		var word, cell uint32
		word, cell, d.heap = attrCell(d.heap, a)
		dst = le.AppendUint32(dst, word)
		dst = le.AppendUint32(dst, cell)
	}
	le.PutUint32(dst[heapAt:], uint32(len(d.heap)))
	dst = append(dst, d.heap...)
	for _, i := range d.identities {
		dst = binary.AppendUvarint(dst, uint64(i.Type))
		dst = binary.AppendUvarint(dst, uint64(len(i.Value)))
		dst = append(dst, i.Value...)
	}
	for _, a := range d.addresses {
		dst = append(dst, a.channel)
		dst = binary.AppendUvarint(dst, uint64(len(a.value)))
		dst = append(dst, a.value...)
	}
	if len(d.history) > 0 {
		d.heap = appendTagHistory(d.heap[:0], d.history)
		dst = binary.AppendUvarint(append(dst, sectionTagChanges), uint64(len(d.heap)))
		dst = append(dst, d.heap...)
	}
	return dst
}

// profileEmpty reports whether an open profile part holds nothing: what an
// empty draft would append.
func profileEmpty(b []byte) bool {
	const size = profileHeader + 1 + personalHeader
	if len(b) != size || le32(b) != profileHeader {
		return false
	}
	for _, v := range b[4:] {
		if v != 0 {
			return false
		}
	}
	return true
}
