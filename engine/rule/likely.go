package rule

import "math"

// Observe takes for what share of people every atom of b.Program holds, by bit;
// nil: nothing is known.
func (b *Builder) Observe(shares []float32) { b.shares = shares }

// leastShare is what an atom that held for nobody seen is taken for.
const leastShare = 0.001

// Likely says which share of people, 0 to 1, a term of one bit holds for: what was
// observed, else a guess from what the condition says: an equality holds for few, a
// range for many. What an answer is never depends on it, only how fast it comes.
func (b *Builder) Likely(one Term) float64 {
	bit := 0
	for m := one.Mask; m > 1; m >>= 1 {
		bit++
	}
	word, atoms := int(one.Word), b.atoms
	switch {
	case word >= requestWord && word < requestWord+maxRequest:
		word, atoms = word-requestWord, b.asked
	case word >= requestWord:
		word -= maxRequest
	}
	share, i := 0.5, word*64+bit
	switch personal := int(one.Word) < requestWord || int(one.Word) >= requestWord+maxRequest; {
	case personal && i < len(b.shares):
		share = min(max(float64(b.shares[i]), leastShare), 1-leastShare)
	case i < len(atoms):
		share = atoms[i].test.likely()
	}
	if one.Want == 0 {
		return 1 - share
	}
	return share
}

// likely guesses the share of people a test holds for.
func (t *test) likely() float64 {
	some := func(values int) float64 { return min(0.05*float64(values), 0.6) }
	switch t.kind {
	case testKnown, testReachable:
		return 0.8
	case testInt, testLocal:
		if t.lo == t.hi {
			return 0.05
		}
		return 0.4
	case testFloat:
		if t.flo == t.fhi {
			return 0.05
		}
		return 0.4
	case testInts, testLocals, testTagValues:
		return some(len(t.ints))
	case testFloats:
		return some(len(t.floats))
	case testText:
		return some(1)
	case testTexts, testElement:
		return some(len(t.texts) + len(t.folded))
	case testPrefix, testSuffix, testSubstring, testPattern, testTag, testDays, testLast, testNext:
		return 0.1
	case testVersion, testVersions, testMonths, testDerived:
		return 0.4
	case testYearly:
		return math.Min(float64(t.lo+t.hi+1)/365, 1)
	case testSegment, testWithdrawn, testBlacklisted:
		return 0.05
	case testPercent:
		return float64(t.hi-t.lo) / 10_000
	case testConsent:
		return 0.6
	case testEvent:
		return 0.2
	}
	return 0.5
}
