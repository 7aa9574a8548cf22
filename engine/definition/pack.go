package definition

import (
	"encoding/binary"
	"math"
)

// A document that is kept for long is kept packed: one string in place of some eighty
// objects that each collection of garbage would look at. The bytes never leave the
// process. A tree is read back in three allocations, and its texts lie in the string.
//
//	document  nodes uvarint | keys uvarint | items of lists uvarint | node
//	node      kind u8, the value of a bool in bit 3 | place | value
//	place     lines behind the text's first line, varint | column uvarint
//	value     int: varint, text | float: bits u64, text | string: text
//	          list: 0 = nil, else its length + 1, uvarint | nodes
//	          map: 0 = nil, else its length + 1, uvarint | (text | place | node) each
//	text      length uvarint | bytes
const (
	packedBool = 1 << 3
	packedNil  = 7 // in place of a kind: no node
)

// A packing counts what a tree has while it writes it.
type packing struct {
	dst                []byte
	first              int // line of the text
	nodes, keys, items int
}

// pack writes a document whose text begins on a line of its file.
func pack(n *Node, line int) string {
	p := packing{first: line}
	p.node(n)
	var head []byte
	for _, count := range [...]int{p.nodes, p.keys, p.items} {
		head = binary.AppendUvarint(head, uint64(count))
	}
	return string(append(head, p.dst...))
}

func (p *packing) text(s string) {
	p.dst = append(binary.AppendUvarint(p.dst, uint64(len(s))), s...)
}

func (p *packing) place(at Pos) {
	p.dst = binary.AppendVarint(p.dst, int64(at.Line-p.first))
	p.dst = binary.AppendUvarint(p.dst, uint64(at.Column))
}

// length is that of a list or of the keys of a map.
func (p *packing) length(n int, none bool) {
	if !none {
		n++
	}
	p.dst = binary.AppendUvarint(p.dst, uint64(n))
}

func (p *packing) node(n *Node) {
	if n == nil {
		p.dst = append(p.dst, packedNil)
		return
	}
	p.nodes++
	head := byte(n.Kind)
	if n.Bool {
		head |= packedBool
	}
	p.dst = append(p.dst, head)
	p.place(n.Pos)
	switch n.Kind {
	case NodeInt:
		p.dst = binary.AppendVarint(p.dst, n.Int)
		p.text(n.Text)
	case NodeFloat:
		p.dst = binary.LittleEndian.AppendUint64(p.dst, math.Float64bits(n.Float))
		p.text(n.Text)
	case NodeString:
		p.text(n.Text)
	case NodeList:
		p.items += len(n.List)
		p.length(len(n.List), n.List == nil)
		for _, item := range n.List {
			p.node(item)
		}
	case NodeMap:
		p.keys += len(n.Keys)
		p.length(len(n.Keys), n.Keys == nil)
		for i := range n.Keys {
			p.text(n.Keys[i].Name)
			p.place(n.Keys[i].Pos)
			p.node(n.Keys[i].Value)
		}
	}
}

// An unpacking reads what pack wrote.
type unpacking struct {
	in    string
	file  string
	first int
	nodes []Node
	keys  []Key
	items []*Node
}

// unpack reads a packed document whose text stands in a file, from a line on.
func unpack(packed, file string, line int) *Node {
	u := unpacking{in: packed, file: file, first: line}
	u.nodes = make([]Node, u.uint())
	u.keys = make([]Key, u.uint())
	u.items = make([]*Node, u.uint())
	return u.node()
}

// lineOf is how far below the first line of its text a packed document stands.
func lineOf(packed string) int {
	u := unpacking{in: packed}
	for range 3 {
		u.uint()
	}
	u.in = u.in[1:] // the kind
	return int(u.int())
}

func (u *unpacking) uint() int {
	var v uint64
	for i := 0; ; i++ {
		b := u.in[i]
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			u.in = u.in[i+1:]
			return int(v)
		}
	}
}

func (u *unpacking) int() int64 {
	v := uint64(u.uint())
	return int64(v>>1) ^ -int64(v&1)
}

func (u *unpacking) text() string {
	n := u.uint()
	s := u.in[:n]
	u.in = u.in[n:]
	return s
}

func (u *unpacking) place() Pos {
	line := u.first + int(u.int())
	return Pos{File: u.file, Line: line, Column: u.uint()}
}

func (u *unpacking) node() *Node {
	head := u.in[0]
	u.in = u.in[1:]
	if head == packedNil {
		return nil
	}
	n := &u.nodes[0]
	u.nodes = u.nodes[1:]
	n.Kind, n.Bool, n.Pos = NodeKind(head&^packedBool), head&packedBool != 0, u.place()
	switch n.Kind {
	case NodeInt:
		n.Int = u.int()
		n.Text = u.text()
	case NodeFloat:
		n.Float = u.float()
		n.Text = u.text()
	case NodeString:
		n.Text = u.text()
	case NodeList:
		if size := u.uint() - 1; size >= 0 {
			n.List, u.items = u.items[:size:size], u.items[size:]
		}
		for i := range n.List {
			n.List[i] = u.node()
		}
	case NodeMap:
		if size := u.uint() - 1; size >= 0 {
			n.Keys, u.keys = u.keys[:size:size], u.keys[size:]
		}
		for i := range n.Keys {
			n.Keys[i] = Key{Name: u.text(), Pos: u.place(), Value: u.node()}
		}
	}
	return n
}

func (u *unpacking) float() float64 {
	var bits uint64
	for i := range 8 {
		bits |= uint64(u.in[i]) << (8 * i)
	}
	u.in = u.in[8:]
	return math.Float64frombits(bits)
}

// Whole returns the document as it was written: Raw, or, once the set has been
// lightened, a copy of it. nil: the document was never written.
// Cost: after Lighten some 10 ns a value and three allocations.
func (m *Meta) Whole() *Node {
	if m.Raw != nil || m.packed == "" {
		return m.Raw
	}
	return unpack(m.packed, m.Pos.File, m.Pos.Line-lineOf(m.packed))
}

// Lighten lets go of every tree of the set: Raw, the rules of segments, offers and
// experiments, attributes of offers, bodies of treatments, what tests put in and
// expect of content. They are nil afterwards; Whole gives a document as written. A
// set that is in force for long is lightened once it is compiled. It has no faults,
// and is in use nowhere else. Cost: linear in what of the set was not read from YAML.
func (s *Set) Lighten() {
	for _, m := range s.metas() {
		if m.packed == "" && m.Raw != nil {
			m.packed = pack(m.Raw, m.Raw.Pos.Line)
		}
		m.Raw = nil
	}
	for _, d := range s.Segments {
		d.Rule = nil
	}
	for _, o := range s.Offers {
		o.Attributes, o.Eligibility, o.Applicability, o.Suitability = nil, nil, nil, nil
		for _, t := range o.Treatments {
			t.Content.Body = nil
		}
	}
	for _, x := range s.Experiments {
		x.Targeting = nil
	}
	for _, t := range s.Tests {
		t.User, t.Context, t.Expect.Content = nil, nil, nil
	}
}
