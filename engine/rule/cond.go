package rule

// Term is a comparison of one word: row[Word]&Mask == Want. Words 0 to 7 are
// the person's, from 8 the request's.
type Term struct {
	Word       uint16
	Mask, Want uint64
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

// Holds says whether the condition holds for the bits of a person and the words
// of a request, as EvalUser and EvalRequest make them. Words that a short
// request has not are 0. Cost: at most one comparison a term; no allocation.
func (c *Cond) Holds(user *[UserWords]uint64, request []uint64) bool {
	start := uint32(0)
next:
	for _, end := range c.ends {
		terms := c.terms[start:end]
		start = end
		for i := range terms {
			t := &terms[i]
			var row uint64
			if t.Word < UserWords {
				row = user[t.Word]
			} else if w := int(t.Word) - UserWords; w < len(request) {
				row = request[w]
			}
			if row&t.Mask != t.Want {
				continue next
			}
		}
		return true
	}
	return false
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
