package eventlog

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
)

// sharedBy is how many people of a block must have a value, or a set of
// properties, in common before it becomes an entry of a table: what so many share
// tells of none of them.
const sharedBy = 8

// maxCensus bounds the different strings that a census knows.
const maxCensus = 1 << 17

// census counts who has which strings. With first sights, a power of two of them, a
// string comes to be counted when it is met again before another one took the place of
// its first sight: nearly all that only one record has, such as ids, are then not counted.
// What enough people share is told of fewer people at most, never of more.
type census struct {
	seen   map[string]*share
	sights []sight
}

type share struct {
	uses   uint32
	people uint8 // different ones, up to sharedBy
	ords   [sharedBy]uint32
}

// sight is where a string was met first.
type sight struct{ hash, ord uint32 }

// sightsMost is the number of first sights of a block, of 8 bytes each.
const sightsMost = 1 << 14

// add counts s as ord's.
func (c *census) add(s []byte, ord uint32) {
	if len(c.sights) == 0 {
		c.count(s, ord)
		return
	}
	h := xxh3.Hash(s)
	at := &c.sights[h&uint64(len(c.sights)-1)]
	now := sight{hash: uint32(h>>32) | 1, ord: ord}
	if at.hash != now.hash {
		*at = now
		return
	}
	if c.count(s, ord) {
		c.count(s, at.ord)
	}
}

// count counts s as ord's, and reports whether it is the first time.
func (c *census) count(s []byte, ord uint32) (first bool) {
	e, ok := c.seen[string(s)]
	if !ok {
		if len(c.seen) >= maxCensus {
			return false
		}
		e = &share{}
		c.seen[string(s)] = e
	}
	e.uses++
	if e.people < sharedBy && !slices.Contains(e.ords[:e.people], ord) {
		e.ords[e.people] = ord
		e.people++
	}
	return !ok
}

// addString counts a string, and what stands before its digits.
func (c *census) addString(s []byte, ord uint32) {
	if _, id := parseUUID(s); id || len(s) > maxShared || len(s) == 0 {
		return
	}
	c.add(s, ord)
	if n := trailingDigits(s); n > 0 && n < len(s) {
		c.add(s[:len(s)-n], ord)
	}
}

// table returns what enough people share, the most used first.
func (c *census) table() []string {
	var shared []string
	for s, e := range c.seen {
		if e.people == sharedBy {
			shared = append(shared, s)
		}
	}
	slices.SortFunc(shared, func(a, b string) int {
		return cmp.Or(cmp.Compare(c.seen[b].uses, c.seen[a].uses), strings.Compare(a, b))
	})
	return shared[:min(len(shared), maxEntries)]
}

// numbered returns the number of each entry.
func numbered(table []string) map[string]uint32 {
	m := make(map[string]uint32, len(table))
	for i, s := range table {
		m[s] = uint32(i)
	}
	return m
}

// appendTable appends count uvarint and the entries, each a text.
func appendTable(dst []byte, table []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(table)))
	for _, s := range table {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return dst
}

// parseTable reads a table; its entries are views.
func parseTable(b []byte) ([][]byte, bool) {
	in := reader{b: b}
	n := in.uvarint()
	if n > maxEntries || n > uint64(len(in.b)) {
		return nil, false
	}
	table := make([][]byte, 0, n)
	for range n {
		table = append(table, in.text())
	}
	return table, !in.bad && len(in.b) == 0
}
