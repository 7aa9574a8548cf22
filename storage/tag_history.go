package storage

import (
	"encoding/binary"
	"fmt"
	"math"
)

// TagSource says where a tag of a person comes from. The number is stored; it
// never changes.
type TagSource uint8

// Sources of a tag. A tag that was set before sources were kept has none.
const (
	SourceUnknown TagSource = iota
	SourceManual            // somebody set it, or a call that does not say
	SourceRule              // a rule set it
	SourceImport            // a file or a list
	SourceModel             // a model's output
	sourceCount
)

// TagEnd says how a person came to hold a tag no longer. The number is stored;
// it never changes.
type TagEnd uint8

// Ends of a tag.
const (
	TagCleared  TagEnd = iota
	TagExpired         // its time ran out
	TagReplaced        // it got another value
	TagMerged          // it became another tag
	tagEndCount
)

// MaxTagHistory is the number of changes kept of a person. Those of tags that
// ended leave first, the oldest before the others.
const MaxTagHistory = 64

// TagChange is one stay of a tag with a person.
type TagChange struct {
	Tag    Name
	Value  Name // of an enum tag
	Set    UnixSec
	End    UnixSec // 0: still held
	Source TagSource
	By     TagSource // who ended it; of TagCleared and TagReplaced
	How    TagEnd    // when End is not 0
}

// The history of tags in a profile, in order of arrival, is for each change
//
//	head u8 | set varint? | tag uvarint? | value uvarint? | length uvarint? | origin u8?
//
// head   bits, of what is left out: 1 set, that of the one in front · 2 value, 0 ·
//
//	4 length, the tag is still held · 8 origin, that of the one in front ·
//	above them 1 to 15: the tag is so many above the one in front, and left out
//
// set    seconds after the one in front (the first: unix seconds)
// length end - set
// origin source 3 bits, how 2 bits, by 3 bits
//
// with set 0 for a change that began before the history was kept. Up to row format 2
// nothing was left out: set | tag | value | length: 0 held, else 1 + end - set | origin.
const (
	changeSameSet = 1 << iota
	changeNoValue
	changeHeld
	changeSameOrigin
	changeTagShift = iota
	changeTagNear  = 1<<(8-changeTagShift) - 1
)

func appendTagHistory(dst []byte, history []TagChange) []byte {
	var last TagChange
	for i := range history {
		h := &history[i]
		head := 0
		if h.Set == last.Set {
			head |= changeSameSet
		}
		if h.Value == 0 {
			head |= changeNoValue
		}
		if h.End == 0 {
			head |= changeHeld
		}
		if h.origin() == last.origin() {
			head |= changeSameOrigin
		}
		if step := int64(h.Tag) - int64(last.Tag); step >= 1 && step <= changeTagNear {
			head |= int(step) << changeTagShift
		}
		dst = append(dst, byte(head))
		if head&changeSameSet == 0 {
			dst = binary.AppendVarint(dst, int64(h.Set)-int64(last.Set))
		}
		if head>>changeTagShift == 0 {
			dst = binary.AppendUvarint(dst, uint64(h.Tag))
		}
		if head&changeNoValue == 0 {
			dst = binary.AppendUvarint(dst, uint64(h.Value))
		}
		if head&changeHeld == 0 { // an end is never before its begin
			dst = binary.AppendUvarint(dst, uint64(h.End)-uint64(h.Set))
		}
		if head&changeSameOrigin == 0 {
			dst = append(dst, h.origin())
		}
		last = *h
	}
	return dst
}

func (h *TagChange) origin() byte { return byte(h.Source) | byte(h.How)<<3 | byte(h.By)<<5 }

func (h *TagChange) setOrigin(bits byte) {
	h.Source, h.How, h.By = TagSource(bits&7), TagEnd(bits>>3&3), TagSource(bits>>5)
}

// tagChange takes the change behind last, as it is packed in a section of a kind.
func (r *reader) tagChange(kind byte, last *TagChange) (h TagChange) {
	if kind == sectionTagHistory {
		set := int64(last.Set) + r.varint()
		h.Tag, h.Value = r.name(), r.name()
		end := r.uvarint()
		h.setOrigin(r.byte())
		if h.Set = r.second(set, 0); end > 0 {
			h.End = r.end(set, end-1)
		}
		return h
	}
	h = *last
	head := r.byte()
	set := int64(last.Set)
	if head&changeSameSet == 0 {
		set += r.varint()
	}
	if near := head >> changeTagShift; near > 0 {
		h.Tag += Name(near)
	} else {
		h.Tag = r.name()
	}
	if h.Value = 0; head&changeNoValue == 0 {
		h.Value = r.name()
	}
	h.Set = r.second(set, 0)
	if h.End = 0; head&changeHeld == 0 {
		h.End = r.end(set, r.uvarint())
	}
	if head&changeSameOrigin == 0 {
		h.setOrigin(r.byte())
	}
	return h
}

// end returns the second of an end, which is not 0.
func (r *reader) end(at int64, behind uint64) UnixSec {
	end := r.second(at, behind)
	r.bad = r.bad || end == 0
	return end
}

// second returns the second at + behind.
func (r *reader) second(at int64, behind uint64) UnixSec {
	if at < 0 || at > math.MaxUint32 || behind > uint64(math.MaxUint32-at) {
		r.bad = true
		return 0
	}
	return UnixSec(uint64(at) + behind)
}

// eachTagChange walks over a packed history; false for bytes that are none.
func eachTagChange(kind byte, b []byte, f func(TagChange) bool) bool {
	r, last := reader{b: b}, TagChange{}
	for n := 0; len(r.b) > 0; n++ {
		h := r.tagChange(kind, &last)
		if r.bad || n == MaxTagHistory || h.Tag == 0 ||
			h.Source >= sourceCount || h.By >= sourceCount {
			return false
		}
		if !f(h) {
			return true
		}
		last = h
	}
	return true
}

// The last part of a profile's personal part is its section, if there is one:
//
//	kind u8 | uvarint length, bytes                not empty
const (
	sectionTagHistory = 1 // as up to row format 2
	sectionTagChanges = 2
)

// historySection returns the kind and the bytes of the history behind the addresses.
func historySection(b []byte) (kind byte, content []byte) {
	if len(b) == 0 {
		return 0, nil
	}
	r := reader{b: b}
	kind, content = r.byte(), r.text()
	return kind, content
}

func checkSections(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	r := reader{b: b}
	kind, content := r.byte(), r.text()
	if r.bad || len(r.b) > 0 || len(content) == 0 ||
		kind != sectionTagHistory && kind != sectionTagChanges ||
		!eachTagChange(kind, content, func(TagChange) bool { return true }) {
		return fmt.Errorf("profile: section %d: %w", kind, ErrCorrupt)
	}
	return nil
}

// EachTagChange calls f for the history of the person's tags, the oldest change
// first, until f returns false. A tag held since before the history reaches back
// has no entry. Cost: linear in the profile, no allocation.
func (p Profile) EachTagChange(f func(TagChange) bool) {
	b := p.body()
	if len(b) == 0 {
		return
	}
	r := reader{b: b[bodyHeapEnd(b):]}
	for range le16(b[6:]) {
		r.name()
		r.text()
	}
	for range le16(b[8:]) {
		r.byte()
		r.text()
	}
	if !r.bad {
		kind, content := historySection(r.b)
		eachTagChange(kind, content, f)
	}
}

// expired says whether the tag's time has run out at an instant.
func (t *TagValue) expired(at UnixMsec) bool {
	return t.Expires != 0 && UnixMsec(t.Expires)*1000 <= at
}

// recordTags brings the history from the draft's old tags to its new ones.
func (d *profileDraft) recordTags(p *Patch, at UnixMsec) {
	old, now := d.oldTags, d.tags
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].ID < now[0].ID:
			d.endTag(&old[0], p, at, TagCleared)
			old = old[1:]
		case len(old) == 0 || now[0].ID < old[0].ID:
			d.beginTag(&now[0], at)
			now = now[1:]
		default:
			if again := old[0].expired(at) && !now[0].expired(at); again ||
				old[0].Value != now[0].Value {
				d.endTag(&old[0], p, at, TagReplaced)
				d.beginTag(&now[0], at)
			}
			old, now = old[1:], now[1:]
		}
	}
	for len(d.history) > MaxTagHistory {
		out := 0
		for i := range d.history {
			if d.history[i].End != 0 {
				out = i
				break
			}
		}
		d.history = append(d.history[:out], d.history[out+1:]...)
	}
}

func (d *profileDraft) beginTag(t *TagValue, at UnixMsec) {
	d.history = append(d.history, TagChange{
		Tag: t.ID, Value: t.Value, Set: secondOf(at), Source: t.Source,
	})
}

// endTag ends the tag's stay; one whose time has run out ended then.
func (d *profileDraft) endTag(t *TagValue, p *Patch, at UnixMsec, how TagEnd) {
	end := TagChange{End: max(secondOf(at), 1), How: how, By: p.TagSource}
	if p.TagsMerged {
		end.How = TagMerged
	}
	if t.expired(at) {
		end = TagChange{End: t.Expires, How: TagExpired}
	}
	for i := len(d.history) - 1; i >= 0; i-- {
		if h := &d.history[i]; h.Tag == t.ID && h.Value == t.Value && h.End == 0 {
			h.End, h.How, h.By = max(end.End, h.Set), end.How, end.By
			return
		}
	}
	end.Tag, end.Value, end.Source = t.ID, t.Value, t.Source
	d.history = append(d.history, end)
}
