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
//	set varint, seconds after the one in front (the first: unix seconds) |
//	tag uvarint | value uvarint | length uvarint: 0 held, else 1 + end - set |
//	source 3 bits, how 2 bits, by 3 bits u8
//
// with set 0 for a change that began before the history was kept.
func appendTagHistory(dst []byte, history []TagChange) []byte {
	last := int64(0)
	for i := range history {
		h := &history[i]
		dst = binary.AppendVarint(dst, int64(h.Set)-last)
		last = int64(h.Set)
		dst = binary.AppendUvarint(dst, uint64(h.Tag))
		dst = binary.AppendUvarint(dst, uint64(h.Value))
		var length uint64
		if h.End != 0 {
			length = uint64(h.End) - uint64(h.Set) + 1 // an end is never before its begin
		}
		dst = binary.AppendUvarint(dst, length)
		dst = append(dst, byte(h.Source)|byte(h.How)<<3|byte(h.By)<<5)
	}
	return dst
}

// eachTagChange walks over a packed history; false for bytes that are none.
func eachTagChange(b []byte, f func(TagChange) bool) bool {
	last := int64(0)
	for n := 0; len(b) > 0; n++ {
		r := reader{b: b}
		last += r.varint()
		h := TagChange{Tag: r.name(), Value: r.name()}
		length := r.uvarint()
		bits := r.byte()
		h.Source, h.How, h.By = TagSource(bits&7), TagEnd(bits>>3&3), TagSource(bits>>5)
		if r.bad || n == MaxTagHistory || last < 0 || last > math.MaxUint32 ||
			length > math.MaxUint32+1 || last+int64(length)-1 > math.MaxUint32 ||
			h.Tag == 0 || h.Source >= sourceCount || h.By >= sourceCount {
			return false
		}
		h.Set = UnixSec(last)
		if length > 0 {
			h.End = UnixSec(uint64(last) + length - 1)
			if h.End == 0 {
				return false
			}
		}
		if !f(h) {
			return true
		}
		b = r.b
	}
	return true
}

// The last part of a profile's personal part is its sections:
//
//	kind u8 | uvarint length, bytes                rising kinds, none empty
const sectionTagHistory = 1

// section returns the bytes of one section behind the addresses.
func section(b []byte, kind byte) []byte {
	for r := (reader{b: b}); len(r.b) > 0 && !r.bad; {
		k := r.byte()
		if content := r.text(); k == kind {
			return content
		}
	}
	return nil
}

func checkSections(b []byte) error {
	last := byte(0)
	for r := (reader{b: b}); len(r.b) > 0; {
		kind := r.byte()
		content := r.text()
		if r.bad || kind <= last || len(content) == 0 || kind != sectionTagHistory ||
			!eachTagChange(content, func(TagChange) bool { return true }) {
			return fmt.Errorf("profile: section %d: %w", kind, ErrCorrupt)
		}
		last = kind
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
		eachTagChange(section(r.b, sectionTagHistory), f)
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
