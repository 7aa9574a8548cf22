package storage

// AttrCursor walks over the attributes of a profile in rising ids. It is valid
// as long as the profile.
type AttrCursor struct {
	ID Name

	body []byte
	next int
	n    int
}

// Attrs begins a walk over the attributes. Cost: a few nanoseconds an attribute;
// a value is decoded only when it is asked for. No allocation.
func (p Profile) Attrs() AttrCursor {
	b := p.body()
	return AttrCursor{body: b, n: bodyAttrs(b)}
}

// Len returns the number of attributes.
func (c *AttrCursor) Len() int { return c.n }

// Next goes to the next attribute; false at the end.
func (c *AttrCursor) Next() bool {
	if c.next >= c.n {
		return false
	}
	c.ID = Name(le32(c.body[personalHeader+c.next*attrSize:]) >> 8)
	c.next++
	return true
}

// Value returns the value of the attribute that Next went to. Value.Bytes is a
// view.
func (c *AttrCursor) Value() Value { return attrAt(c.body, c.next-1).Value }

// AttrPlaces remembers at which place of a profile attributes were found last, one
// for each id modulo 64: the profiles of a population are much alike. It changes no
// answer; the zero value is ready. It belongs to one goroutine at a time.
type AttrPlaces [64]uint16

// AttrNear is Attr in parts, and looks first where the attribute was in the profile
// that was asked before. KindNone: there is none. Cost: one comparison when it is there
// again, no allocation.
func (p Profile) AttrNear(id Name, places *AttrPlaces) (kind ValueKind, num uint64, text []byte) {
	b, place := p.body(), &places[id%64]
	at := int(*place)
	if at >= bodyAttrs(b) || Name(le32(b[personalHeader+at*attrSize:])>>8) != id {
		var ok bool
		if at, ok = bodySearch(b, id); !ok {
			return KindNone, 0, nil
		}
		*place = uint16(at)
	}
	entry := b[personalHeader+at*attrSize:]
	word, cell := le32(entry), le32(entry[4:])
	kind = ValueKind(word & 0x7F)
	switch {
	case word&attrInline != 0:
		num = inlineNumber(kind, cell)
	case kind == KindString || kind == KindSemver || kind == KindList:
		r := reader{b: b[personalHeader+bodyAttrs(b)*attrSize:][cell:]}
		text = r.text()
	default:
		num = le64(b[personalHeader+bodyAttrs(b)*attrSize:][cell:])
	}
	return kind, num, text
}

// TagCount returns the number of tags, those whose end has passed included.
func (p Profile) TagCount() int { return p.tags() }

// TagID returns the id of the i-th tag, in rising ids.
func (p Profile) TagID(i int) Name { return Name(le32(p.tag(i)) & nameMax) }

// TagAt returns the i-th tag.
func (p Profile) TagAt(i int) TagValue {
	b, short := p.tag(i), le16(p.b[18:])
	word := le32(b)
	t := TagValue{ID: Name(word & nameMax), Source: TagSource(word >> 24)}
	if short < 2 {
		t.Value = Name(le32(b[4:]))
	}
	if short < 1 {
		t.Expires = UnixSec(le32(b[8:]))
	}
	return t
}

// SegmentCount returns the number of static segments the person is in.
func (p Profile) SegmentCount() int { return p.segments() }

// SegmentAt returns the i-th of them, in rising ids.
func (p Profile) SegmentAt(i int) Name { return p.segment(i) }
