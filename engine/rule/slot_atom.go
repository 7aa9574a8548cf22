package rule

import (
	"math"

	"tact/engine/definition"
	"tact/storage"
)

// Keys of the context that the slot of a request tells, not its caller. They are
// texts: the id of the placement, the word of its channel. No dictionary counts
// as far as these ids.
const (
	PlacementKey storage.Name = math.MaxUint32 - iota
	ChannelKey
)

// SlotKey returns the id of a context key that the slot tells; 0 for others. No
// placement may declare such a key.
func SlotKey(key string) storage.Name {
	switch key {
	case "placement":
		return PlacementKey
	case "channel":
		return ChannelKey
	}
	return 0
}

func slotWords() []string { return []string{"placement", "channel"} }

// SlotContext returns what a slot tells of itself. It allocates.
func SlotContext(placement string, channel definition.Channel) []ContextValue {
	return []ContextValue{SlotValue(PlacementKey, placement), SlotValue(ChannelKey, channel.String())}
}

// SlotValue is a text under one of the keys of the slot.
func SlotValue(key storage.Name, text string) ContextValue {
	return ContextValue{Key: key, Value: storage.Value{
		Kind: storage.KindString, Bytes: []byte(text),
	}}
}

// slot reads comparisons of the placement or the channel.
func (p *parser) slot(at, value place, name string, key storage.Name) *node {
	known := p.names.Placements
	if key == ChannelKey {
		known = nil
		for ch := range definition.ChannelCount {
			known = append(known, ch.String())
		}
	}
	if len(known) == 0 {
		value.fault("there is no placement that a rule could name")
		return nil
	}
	return p.comparisons(at, "context", leaf{
		subject: subjectContext, name: name, id: key, typ: definition.TypeString,
	}, known)
}

// ofSlot says that a leaf is about the placement or the channel.
func (l *leaf) ofSlot() bool {
	return l.subject == subjectContext && (l.id == PlacementKey || l.id == ChannelKey)
}

// ReadsSlot says whether the tree asks for the placement or the channel.
func (t *Tree) ReadsSlot() bool { return readsSlot(t.whole()) }

func readsSlot(n *node) bool {
	if n.kind == nodeLeaf {
		return n.leaf.ofSlot()
	}
	for _, sub := range n.subs {
		if readsSlot(sub) {
			return true
		}
	}
	return false
}

// Anywhere returns the tree that holds where t holds in one slot at least; slots
// are what SlotContext says of each. Of no slots it is false for everybody. A tree
// that asks for no slot is returned as it is. Cost: O(nodes × slots).
func (t *Tree) Anywhere(slots [][]ContextValue) *Tree {
	if !t.ReadsSlot() {
		return t
	}
	in := &node{kind: nodeAny}
	for _, slot := range slots {
		in.subs = append(in.subs, settle(t.whole(), slot, (*leaf).ofSlot))
	}
	return &Tree{rule: in, safe: t.safe, sensitive: t.sensitive}
}

// SlotWords returns the bits of a request that the slot tells, as EvalRequest
// counts them; nil when no condition asks for the slot.
func (p *Program) SlotWords() []uint64 {
	var words []uint64
	for i := range p.requestAtoms {
		if id := p.requestAtoms[i].test.id; id == PlacementKey || id == ChannelKey {
			if words == nil {
				words = make([]uint64, p.RequestWords)
			}
			words[i>>6] |= 1 << (i & 63)
		}
	}
	return words
}

// SetSlot gives a row that MakeRow made of a request the bits that a slot adds:
// EvalRequest of SlotContext, at most as many words as the request has.
func SetSlot(row, request, slot []uint64) {
	for i, word := range slot {
		row[requestWord+i] = request[i] | word
	}
}

// ReadsRequest says whether the condition reads one of some bits of a request.
func (c *Cond) ReadsRequest(words []uint64) bool {
	for i := range c.terms {
		at := int(c.terms[i].Word) - requestWord
		if at >= 0 && at < len(words) && c.terms[i].Mask&words[at] != 0 {
			return true
		}
	}
	return false
}
