package engine

import (
	"fmt"
	"slices"

	"tact/engine/definition"
	"tact/storage"
)

// maxColumns bounds the columns of an export.
const maxColumns = 256

// ExportColumn is one column of an export: a declared attribute, with its type,
// or a tag: bool for a label, string for one with values.
type ExportColumn struct {
	Name string
	Tag  bool
	Type definition.AttrType

	id storage.Name
}

// Cell is one value of a row; not Set: the person has none. Value.Bytes is valid
// during the call that brought it.
type Cell struct {
	Set   bool
	Value storage.Value
}

// Exporter reads chosen columns of people.
type Exporter struct {
	Columns []ExportColumn

	e    *Engine
	snap *Snapshot
}

// Export readies the reading of attributes and tags, in this order. A *Problem
// names the one that is not declared.
func (e *Engine) Export(attributes, tags [][]byte) (*Exporter, error) {
	x := &Exporter{e: e, snap: e.snap.Load()}
	if len(attributes)+len(tags) > maxColumns {
		return nil, invalid("limit", "attributes", "at most 256 attributes and tags")
	}
	for i, name := range attributes {
		a, ok := x.snap.attributes[string(name)]
		if !ok {
			return nil, notDeclared("attribute", fmt.Sprintf("attributes[%d]", i), name,
				keysOf(x.snap.attributes))
		}
		x.Columns = append(x.Columns, ExportColumn{Name: string(name), Type: a.typ, id: a.id})
	}
	for i, name := range tags {
		t, ok := x.snap.tags[string(name)]
		if !ok {
			return nil, notDeclared("tag", fmt.Sprintf("tags[%d]", i), name, keysOf(x.snap.tags))
		}
		c := ExportColumn{Name: string(name), Tag: true, Type: definition.TypeBool, id: t.id}
		if len(t.values) > 0 {
			c.Type = definition.TypeString
		}
		x.Columns = append(x.Columns, c)
	}
	return x, nil
}

func keysOf[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func notDeclared(what, field string, name []byte, among []string) *Problem {
	return invalid("unknown_"+what, field,
		fmt.Sprintf("no %s %q is declared%s", what, name, suggestion(string(name), among)))
}

// Each calls f for the people of p from a place on, in the order of places, with
// their canonical ids and cells in the order of Columns, until f returns false.
// id and cells are valid during the call only. People are read in blocks, each as
// it is when its block is read; who was forgotten is passed over. f runs without
// a lock.
func (x *Exporter) Each(
	p *People, from PeoplePos, f func(pos PeoplePos, id []byte, cells []Cell) bool,
) {
	b := exportBlock{x: x}
	for i := range p.Groups {
		of := &p.Groups[i]
		if of.Group < from.Group || int(of.Group) >= x.e.store.Groups() {
			continue
		}
		it := of.Ords.Iterator()
		if of.Group == from.Group {
			it.AdvanceIfNeeded(uint32(from.Ord))
		}
		for it.HasNext() {
			b.reset()
			g := x.e.store.Group(of.Group)
			g.Lock()
			for range exportPeople {
				if !it.HasNext() || len(b.text) > exportBytes {
					break
				}
				b.read(g, storage.Ord(it.Next()))
			}
			g.Unlock()
			if !b.give(of.Group, f) {
				return
			}
		}
	}
}

// exportPeople is how many people are copied under one lock; with more than
// exportBytes of text the block ends behind the person that brought it there.
const (
	exportPeople = 128
	exportBytes  = 1 << 20
)

// exportBlock is the copy of some people.
type exportBlock struct {
	x     *Exporter
	ords  []storage.Ord
	spans []int // ends in text: of the id, then of each cell
	cells []Cell
	text  []byte
}

func (b *exportBlock) reset() {
	b.ords, b.spans = b.ords[:0], b.spans[:0]
	b.cells, b.text = b.cells[:0], b.text[:0]
}

// read copies one person. The group is locked.
func (b *exportBlock) read(g *storage.Group, ord storage.Ord) {
	row := g.Row(ord)
	if row == nil || row.Flags&storage.RowGone != 0 {
		return
	}
	b.ords = append(b.ords, ord)
	b.text = append(b.text, g.ID(ord)...)
	b.spans = append(b.spans, len(b.text))
	profile, now := g.Profile(ord), toSec(b.x.e.clock.Now())
	for i := range b.x.Columns {
		c := &b.x.Columns[i]
		cell := Cell{}
		if c.Tag {
			cell = b.x.tag(profile, c, now)
		} else if v, ok := profile.Attr(c.id); ok && definition.AttrType(v.Kind) == c.Type {
			cell = Cell{Set: true, Value: v}
		}
		b.text = append(b.text, cell.Value.Bytes...)
		b.spans = append(b.spans, len(b.text))
		cell.Value.Bytes = nil
		b.cells = append(b.cells, cell)
	}
}

// tag reads one tag that has not ended.
func (x *Exporter) tag(p storage.Profile, c *ExportColumn, now storage.UnixSec) Cell {
	value, ok, expires := p.Tag(c.id)
	held := ok && (expires == 0 || expires > now)
	switch {
	case c.Type == definition.TypeBool:
		return Cell{Set: true, Value: boolValue(held)}
	case held && value != 0:
		name := x.e.store.NameOf(storage.DictTagValue, value)
		return Cell{Set: true, Value: storage.Value{Kind: storage.KindString, Bytes: []byte(name)}}
	}
	return Cell{}
}

// give hands the copies out.
func (b *exportBlock) give(
	group storage.GroupID, f func(pos PeoplePos, id []byte, cells []Cell) bool,
) bool {
	n, at, lo := len(b.x.Columns), 0, 0
	next := func() []byte {
		hi := b.spans[at]
		text := b.text[lo:hi:hi]
		at, lo = at+1, hi
		return text
	}
	for k, ord := range b.ords {
		id := next()
		cells := b.cells[k*n : (k+1)*n]
		for i := range cells {
			cells[i].Value.Bytes = next()
		}
		if len(id) > 0 && !f(PeoplePos{group, ord}, id, cells) {
			return false
		}
	}
	return true
}
