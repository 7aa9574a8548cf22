package rule

import "slices"

// Words of a row: page 0 of the person, then the request, then the person's
// other pages. Terms and Lits name words of this row.
//
//	0…7 page 0 | 8…15 request | 16…23 page 1 | 24…31 page 2 | …
const (
	requestWord = PageWords
	maxRequest  = MaxRequestAtoms / 64
)

// pageWord is where page k begins in a row.
func pageWord(k int) int {
	if k == 0 {
		return 0
	}
	return maxRequest + k*PageWords
}

// MakeRow makes the row that Cond.Holds reads over the memory of dst: user are
// the words of the person, page after page, of which pages (a bit each) are those
// that mean something; the words of the others are what dst happens to hold. A
// person or request with fewer words than the row counts as 0 there.
// Cost: 64 bytes a page copied.
func MakeRow(dst, user []uint64, pages uint32, request []uint64) []uint64 {
	more := max(len(user)/PageWords-1, 0)
	size := requestWord + maxRequest + more*PageWords
	if cap(dst) < size {
		dst = make([]uint64, size)
	}
	dst = dst[:size]
	n := copy(dst[:requestWord], user)
	clear(dst[n:requestWord])
	n = copy(dst[requestWord:requestWord+maxRequest], request)
	clear(dst[requestWord+n : requestWord+maxRequest])
	for k := 1; k <= more; k++ {
		if pages&(1<<k) != 0 {
			copy(dst[maxRequest+k*PageWords:], user[k*PageWords:(k+1)*PageWords])
		}
	}
	return dst
}

// Term is a comparison of one word of a row: row[Word]&Mask == Want.
type Term struct {
	Word       uint16
	Mask, Want uint64
}

// Pages returns the page of the person that the term reads, as a set of one
// bit; none for a term about the request.
func (t Term) Pages() uint32 {
	switch w := int(t.Word); {
	case w < requestWord:
		return 1
	case w < requestWord+maxRequest:
		return 0
	default:
		return 1 << ((w - maxRequest) / PageWords)
	}
}

// Lit is one bit: it holds when bit Bit of word Word is set.
type Lit struct {
	Word uint16
	Bit  uint8
}

// Term returns the comparison that asks for the bit to be set, or not.
func (l Lit) Term(set bool) Term {
	t := Term{Word: l.Word, Mask: 1 << l.Bit}
	if set {
		t.Want = t.Mask
	}
	return t
}

// Cond is a compiled tree: it holds when every term of one of its conjunctions
// holds. The zero Cond never holds. It is immutable.
type Cond struct {
	terms []Term   // conjunction after conjunction; in each, words rise
	ends  []uint32 // where each conjunction ends in terms
}

// Holds says whether the condition holds for a row as MakeRow makes it of the
// bits of EvalPage and EvalRequest. Words that the row has not are 0. Cost: at
// most one comparison a term; no allocation.
func (c *Cond) Holds(row []uint64) bool {
	start := uint32(0)
next:
	for _, end := range c.ends {
		terms := c.terms[start:end]
		start = end
		for i := range terms {
			t := &terms[i]
			var word uint64
			if int(t.Word) < len(row) {
				word = row[t.Word]
			}
			if word&t.Mask != t.Want {
				continue next
			}
		}
		return true
	}
	return false
}

// Pages returns the pages of the person that the condition reads, a bit each.
func (c *Cond) Pages() uint32 {
	var pages uint32
	for i := range c.terms {
		pages |= c.terms[i].Pages()
	}
	return pages
}

// Asks says whether the condition looks at a bit that is set in a row as MakeRow
// makes it.
func (c *Cond) Asks(row []uint64) bool {
	for i := range c.terms {
		if t := &c.terms[i]; int(t.Word) < len(row) && row[t.Word]&t.Mask != 0 {
			return true
		}
	}
	return false
}

// Equal says whether two conditions of one Builder ask the same bits.
func (c *Cond) Equal(d *Cond) bool {
	return slices.Equal(c.ends, d.ends) && slices.Equal(c.terms, d.terms)
}

// Always says that the condition holds for everybody in every request.
func (c *Cond) Always() bool { return len(c.ends) == 1 && c.ends[0] == 0 }

// Never says that the condition holds for nobody.
func (c *Cond) Never() bool { return len(c.ends) == 0 }

// Conjunctions returns the terms, conjunction by conjunction: the condition
// holds when all terms of one of them hold. The inner slices belong to the Cond
// and must not be changed.
func (c *Cond) Conjunctions() [][]Term {
	all := make([][]Term, 0, len(c.ends))
	start := uint32(0)
	for _, end := range c.ends {
		all = append(all, c.terms[start:end:end])
		start = end
	}
	return all
}
