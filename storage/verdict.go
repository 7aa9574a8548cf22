package storage

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

const (
	// MaxVerdicts is of how many conditions a group keeps what came out for people, some 4
	// to 5.5 bytes a person and condition, once somebody has asked.
	MaxVerdicts = 8
	// verdictBlock is how many people share one look at whether time has come.
	verdictBlock = 1024
	// verdictSteps is how many blocks are looked through under one lock: some 50 µs.
	verdictSteps = 32
)

// neverEnds is no earlier than any second that a verdict ends at.
const neverEnds = ^UnixSec(0)

// verdicts are what came out when people were judged one by one on a condition that no
// index answers: on what they did. They are kept until something changes the person or
// their time has come, and asked for by name: see VerdictAsk. Derived, never written
// out. Of the conditions asked for, those of the latest questions are kept.
type verdicts struct {
	all  []*verdictSet
	asks uint64
}

// verdictSet is one condition.
type verdictSet struct {
	key   string
	asked uint64
	known *roaring.Bitmap // who was judged, and not changed since
	held  *roaring.Bitmap // of them, for whom it holds
	until []UnixSec       // by ordinal, of who is known: holds before this second
	least []UnixSec       // the least of a block
	// newest is the greatest instant at which somebody was judged: of earlier ones the
	// set says nothing.
	newest UnixMsec
}

// VerdictAsk names a condition whose outcomes are kept. Two conditions have one key only
// if they hold for the same people at every time, whatever becomes of these.
type VerdictAsk struct{ Key string }

// VerdictView is what is known of a condition at the instant of a view: it holds for
// everybody in Held and for nobody else in Known. Neither must be changed.
type VerdictView struct {
	Known, Held *roaring.Bitmap
	set         *verdictSet
}

// open returns the set of a key, which is new when nobody asked for it lately.
func (v *verdicts) open(key string) *verdictSet {
	v.asks++
	for _, x := range v.all {
		if x.key == key {
			x.asked = v.asks
			return x
		}
	}
	if len(v.all) == MaxVerdicts {
		oldest := slices.MinFunc(v.all, func(a, b *verdictSet) int {
			return int(int64(a.asked) - int64(b.asked))
		})
		v.all = slices.DeleteFunc(v.all, func(x *verdictSet) bool { return x == oldest })
	}
	x := &verdictSet{key: key, asked: v.asks, known: newSet(), held: newSet()}
	v.all = append(v.all, x)
	return x
}

// changed forgets what is known of a person.
func (v *verdicts) changed(o Ord) {
	for _, x := range v.all {
		x.forget(o)
	}
}

func (x *verdictSet) forget(o Ord) {
	x.known.Remove(uint32(o))
	x.held.Remove(uint32(o))
}

// expire forgets whose verdict has ended, in at most so many blocks; done: in all.
func (x *verdictSet) expire(at UnixMsec, blocks int) (done bool) {
	now := secondOf(at)
	for b, least := range x.least {
		if least > now {
			continue
		}
		if blocks--; blocks < 0 {
			return false
		}
		from := b * verdictBlock
		least = neverEnds
		for i, until := range x.until[from:min(from+verdictBlock, len(x.until))] {
			switch o := uint32(from + i); {
			case until > now:
				least = min(least, until)
			case until != 0:
				x.forget(Ord(o))
				x.until[o] = 0
			}
		}
		x.least[b] = least
	}
	return true
}

// learn keeps what came out for a person at an instant, before the second until.
func (x *verdictSet) learn(o Ord, at UnixMsec, holds bool, until UnixSec) {
	if until <= secondOf(at) {
		return
	}
	if blocks := int(o)/verdictBlock + 1; blocks > len(x.least) {
		x.until = append(x.until, make([]UnixSec, blocks*verdictBlock-len(x.until))...)
		for len(x.least) < blocks {
			x.least = append(x.least, neverEnds)
		}
	}
	x.until[o] = until
	x.least[o/verdictBlock] = min(x.least[o/verdictBlock], until)
	x.newest = max(x.newest, at)
	enter(x.known, o)
	if holds {
		enter(x.held, o)
	} else {
		x.held.Remove(uint32(o))
	}
}

// bytes is the memory of all that is kept.
func (v *verdicts) bytes() (n int64) {
	for _, x := range v.all {
		n += 4 * int64(cap(x.until)+cap(x.least))
		n += int64(x.known.GetSizeInBytes() + x.held.GetSizeInBytes())
	}
	return n
}

// SettleVerdicts forgets which of the outcomes that are asked for have ended at an
// instant, in steps, so that OpenView at that instant finds nothing to do. The group must
// not be locked.
func (g *Group) SettleVerdicts(ask *ViewAsk, at UnixMsec) {
	for i := range ask.Verdicts {
		for done := false; !done; {
			g.Lock()
			done = g.mu.state.verdicts.open(ask.Verdicts[i].Key).expire(at, verdictSteps)
			g.Unlock()
		}
	}
}

// verdictView shares what is known of a condition at an instant; nothing when somebody
// was judged later.
func (s *state) verdictView(key string, at UnixMsec) VerdictView {
	x := s.verdicts.open(key)
	if at < x.newest {
		return VerdictView{}
	}
	x.expire(at, len(x.least))
	return VerdictView{Known: share(x.known), Held: share(x.held), set: x}
}

// Verdict returns what is known of the i-th condition that was asked for; nil when
// nothing can be told of this instant.
func (v *View) Verdict(i int) *VerdictView {
	if i >= len(v.verdicts) || v.verdicts[i].set == nil {
		return nil
	}
	return &v.verdicts[i]
}

// Learn keeps for later views that the i-th condition holds for a person, or does not,
// at the instant of the view and before the second until, as long as nothing changes the
// person. It may be called only by the function that Read calls with that person.
func (v *View) Learn(i int, o Ord, holds bool, until UnixSec) {
	x := v.Verdict(i)
	if x == nil {
		return
	}
	if _, changed := v.mu.saved[o]; !changed {
		x.set.learn(o, v.at, holds, until)
	}
}
