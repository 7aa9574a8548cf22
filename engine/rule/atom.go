package rule

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tact/engine/definition"
	"tact/engine/experiment"
	"tact/storage"
)

// Atom is one condition of a Program: it owns one bit. Equal conditions have
// equal keys, whatever words said them.
type Atom struct {
	Key   string // canonical text; "" = a free bit
	Since uint32 // the Rev of the Program in which it got its bit
	test  test
}

type testKind uint8

const (
	testNone        testKind = iota
	testKnown                // a value of the declared type is there
	testInt                  // lo ≤ bool, int, date, time ≤ hi
	testInts                 // bool, int, date, time is one of ints
	testFloat                // flo ≤ float ≤ fhi
	testFloats               // float is one of floats
	testText                 // string equals text
	testTexts                // string is one of texts
	testPrefix               // string starts with text
	testSuffix               // string ends with text
	testSubstring            // string contains text
	testPattern              // string matches pattern
	testElement              // list has an element that is one of texts
	testVersion              // versions[0] ≤ semver ≤ versions[1], where present, ends open or not
	testVersions             // semver is one of versions
	testLocal                // lo ≤ local date of a time ≤ hi
	testLocals               // local date of a time is one of ints
	testLast                 // now - hi < time ≤ now
	testNext                 // now ≤ time < now + hi
	testDays                 // today + lo ≤ local date ≤ today + hi
	testMonths               // lo ≤ whole months since < hi
	testYearly               // lo days before to hi days after an anniversary
	testTag                  // tag held; of an enum tag, with a value
	testTagValues            // enum tag holds one of ints
	testSegment              // in a static segment
	testPercent              // lo ≤ bucket of the id < hi
	testConsent              // granted
	testWithdrawn            // refused
	testBlacklisted          // channel is blocked
	testReachable            // channel has an address
	testDerived              // a whole sub-tree
	testEvent                // what behaviour comes to passes inner
	testHour                 // the hour of the week is one of hours
	testFixed                // fixed, a date or a time, passes inner
)

// test is an atom made ready to be judged. Only the fields of its kind are set.
type test struct {
	kind     testKind
	typ      definition.AttrType
	channel  uint8
	enum     bool
	fold     bool
	openLo   bool // testVersion: the end does not belong to it
	openHi   bool
	id       storage.Name
	former   []storage.Name // testTag, testTagValues: held instead of id
	lo, hi   int64
	flo, fhi float64
	seed     uint64
	text     string
	texts    map[string]struct{} // without fold
	folded   []string            // with fold: sorted by rune
	ints     []int64             // sorted
	floats   []float64           // sorted
	versions []version
	bounded  [2]bool // testVersion: which ends there are
	pattern  *regexp.Regexp
	tree     *derived

	behaviour *behaviour
	inner     *test // of behaviour: what its value must pass
	want      want
	hours     [3]uint64     // testHour: bit h%64 of word h/64
	fixed     storage.Value // testFixed
}

// compiled is a test with its canonical key and where its bit lives.
type compiled struct {
	test    test
	key     string
	request bool
}

// compile turns a leaf into a test. Cost: O(values × log values).
func compile(l *leaf) compiled {
	t := test{
		id: l.id, former: l.former, typ: l.typ, channel: l.channel, enum: l.enum, fold: l.fold,
	}
	switch l.subject {
	case subjectTag:
		t.compileTag(l)
	case subjectTier:
		t.compileTier(l)
	case subjectClock:
		t.compileClock(l)
	case subjectSegment:
		t.kind = testSegment
	case subjectPercent:
		t.kind, t.lo, t.hi = testPercent, l.values[0].num, l.values[1].num
		t.seed = experiment.Seed("tact/v1/percent/" + l.name)
	case subjectConsent:
		t.kind = testConsent
	case subjectWithdrawn:
		t.kind = testWithdrawn
	case subjectBlacklisted:
		t.kind = testBlacklisted
	case subjectReachable:
		t.kind = testReachable
	case subjectEvent:
		t.compileEvent(l)
	case subjectFixed:
		t.kind, t.fixed, t.inner = testFixed, l.fixed, &test{typ: l.typ}
		t.inner.compileValue(l)
	default:
		t.compileValue(l)
	}
	request := l.subject == subjectContext
	return compiled{test: t, key: t.key(request), request: request}
}

func (t *test) compileTag(l *leaf) {
	if l.op == opNone || l.op == opIsSet {
		t.kind = testTag
		return
	}
	t.kind = testTagValues
	for _, v := range l.values {
		t.ints = append(t.ints, int64(v.value))
	}
	t.ints = sorted(t.ints)
}

// compileTier turns an order of levels into the set of those that pass.
func (t *test) compileTier(l *leaf) {
	if l.op == opIsSet {
		t.kind = testTag
		return
	}
	t.kind = testTagValues
	if l.op == opIn {
		for _, v := range l.values {
			t.ints = append(t.ints, int64(l.levels[v.num].ID))
		}
		t.ints = sorted(t.ints)
		return
	}
	lo, hi := interval(l.op, l.values)
	for i, level := range l.levels {
		if lo <= int64(i) && int64(i) <= hi {
			t.ints = append(t.ints, int64(level.ID))
		}
	}
	t.ints = sorted(t.ints)
}

func (t *test) compileValue(l *leaf) {
	if l.op == opIsSet {
		t.kind, t.fold = testKnown, false
		return
	}
	switch l.typ {
	case definition.TypeFloat:
		t.compileFloat(l)
	case definition.TypeString, definition.TypeList:
		t.compileText(l)
	case definition.TypeSemver:
		t.compileVersion(l)
	default:
		t.compileInt(l)
	}
}

// compileInt covers bool, int, date and time.
func (t *test) compileInt(l *leaf) {
	t.kind = testInt
	local := len(l.values) > 0 && l.values[0].date
	if local {
		t.kind = testLocal
	}
	isDate := l.typ == definition.TypeDate
	switch l.op {
	case opIn:
		t.kind = testInts
		if local {
			t.kind = testLocals
		}
		for _, v := range l.values {
			t.ints = append(t.ints, v.num)
		}
		t.ints = sorted(t.ints)
		if len(t.ints) == 1 { // the same as is
			t.kind, t.lo, t.hi, t.ints = t.kind-1, t.ints[0], t.ints[0], nil
		}
	case opWithinLast:
		t.kind, t.hi = testLast, l.values[0].num*1000
		if isDate {
			t.kind, t.lo, t.hi = testDays, 1-l.values[0].num*1000/dayMs, 0
		}
	case opWithinNext:
		t.kind, t.hi = testNext, l.values[0].num*1000
		if isDate {
			t.kind, t.lo, t.hi = testDays, 0, l.values[0].num*1000/dayMs-1
		}
	case opYearsSince, opMonthsSince:
		t.compileSince(l)
	case opAnniversary:
		t.kind, t.lo, t.hi = testYearly, l.values[0].num, l.values[1].num
	default:
		t.lo, t.hi = interval(l.op, l.values)
	}
}

// sinceMost bounds months_since where a comparison is open: twice the months
// between any two dates of the years 1 to 9999.
const sinceMost = 240_000

func (t *test) compileSince(l *leaf) {
	t.kind, t.lo, t.hi = testMonths, -sinceMost, sinceMost
	lo, hi := interval(l.than, l.values)
	unit := int64(1)
	if l.op == opYearsSince {
		unit = 12
	}
	if lo != math.MinInt64 {
		t.lo = lo * unit
	}
	if hi != math.MaxInt64 {
		t.hi = (hi + 1) * unit
	}
}

// interval returns the whole numbers for which a comparison holds; lo > hi when
// there is none.
func interval(how op, values []operand) (lo, hi int64) {
	v := values[0].num
	switch how {
	case opGt, opAfter:
		if v == math.MaxInt64 {
			return 1, 0
		}
		return v + 1, math.MaxInt64
	case opGte:
		return v, math.MaxInt64
	case opLt, opBefore:
		if v == math.MinInt64 {
			return 1, 0
		}
		return math.MinInt64, v - 1
	case opLte:
		return math.MinInt64, v
	case opBetween:
		return v, values[1].num
	}
	return v, v
}

func (t *test) compileFloat(l *leaf) {
	t.kind, t.flo, t.fhi = testFloat, math.Inf(-1), math.Inf(1)
	v := positive(l.values[0].float)
	switch l.op {
	case opIn:
		t.kind, t.flo, t.fhi = testFloats, 0, 0
		for _, v := range l.values {
			t.floats = append(t.floats, positive(v.float))
		}
		t.floats = sorted(t.floats)
		if len(t.floats) == 1 {
			t.kind, t.flo, t.fhi, t.floats = testFloat, t.floats[0], t.floats[0], nil
		}
	case opGt:
		t.flo = math.Nextafter(v, math.Inf(1))
	case opGte:
		t.flo = v
	case opLt:
		t.fhi = math.Nextafter(v, math.Inf(-1))
	case opLte:
		t.fhi = v
	case opBetween:
		t.flo, t.fhi = v, positive(l.values[1].float)
	default:
		t.flo, t.fhi = v, v
	}
}

// positive turns minus zero, which equals zero, into zero: one value, one key.
func positive(v float64) float64 {
	if v == 0 {
		return 0
	}
	return v
}

func (t *test) compileText(l *leaf) {
	t.text = ""
	if len(l.values) > 0 {
		t.text = l.values[0].text
	}
	if t.fold {
		t.text = fold(t.text)
	}
	switch l.op {
	case opStartsWith:
		t.kind = testPrefix
	case opEndsWith:
		t.kind = testSuffix
	case opMatches:
		t.kind, t.pattern, t.fold, t.text = testPattern, l.pattern, false, l.pattern.String()
	case opContains:
		t.kind = testSubstring
		if l.typ == definition.TypeList {
			t.compileTexts(l, testElement)
		}
	case opIn:
		kind := testTexts
		if l.typ == definition.TypeList {
			kind = testElement
		}
		t.compileTexts(l, kind)
	default:
		t.kind = testText
	}
}

func (t *test) compileTexts(l *leaf, kind testKind) {
	t.kind, t.text = kind, ""
	all := make([]string, 0, len(l.values))
	for _, v := range l.values {
		if t.fold {
			all = append(all, fold(v.text))
			continue
		}
		all = append(all, v.text)
	}
	all = sorted(all)
	if len(all) == 1 && kind == testTexts {
		t.kind, t.text = testText, all[0]
		return
	}
	if t.fold { // by rune, as foldCompare: UTF-8 has the same order by byte
		t.folded = all
		return
	}
	t.texts = make(map[string]struct{}, len(all))
	for _, v := range all {
		t.texts[v] = struct{}{}
	}
}

func (t *test) compileVersion(l *leaf) {
	t.kind = testVersion
	for _, v := range l.values {
		parsed, _ := parseVersion([]byte(v.text)) // Parse took only versions
		t.versions = append(t.versions, parsed)
	}
	switch l.op {
	case opIn:
		t.kind = testVersions
		slices.SortFunc(t.versions, version.compare)
		t.versions = slices.CompactFunc(t.versions, func(a,
			b version,
		) bool {
			return a.compare(b) == 0
		})
		if len(t.versions) > 1 {
			return
		}
		t.kind, t.bounded = testVersion, [2]bool{true, true}
	case opGt, opGte:
		t.bounded, t.openLo = [2]bool{true, false}, l.op == opGt
	case opLt, opLte:
		t.bounded, t.openHi = [2]bool{false, true}, l.op == opLt
	default:
		t.bounded = [2]bool{true, true}
	}
	if len(t.versions) == 1 {
		t.versions = append(t.versions, t.versions[0])
	}
}

func sorted[T cmp.Ordered](values []T) []T {
	slices.Sort(values)
	return slices.Compact(values)
}

// impossible says that no value passes the test.
func (t *test) impossible() bool {
	switch t.kind {
	case testInt, testLocal, testDays:
		return t.lo > t.hi
	case testMonths:
		return t.lo >= t.hi
	case testFloat:
		return t.flo > t.fhi
	case testEvent:
		return t.inner != nil && t.inner.impossible()
	}
	return false
}

// key is the canonical text of a test: equal keys, equal tests.
func (t *test) key(request bool) string {
	var b strings.Builder
	if request {
		b.WriteString("request ")
	}
	num := func(name string, v int64) {
		if v != 0 {
			b.WriteString(" " + name + strconv.FormatInt(v, 10))
		}
	}
	num("k", int64(t.kind))
	num("t", int64(t.typ))
	num("i", int64(t.id))
	num("c", int64(t.channel))
	num("l", t.lo)
	num("h", t.hi)
	num("s", int64(t.seed))
	num("f", int64(math.Float64bits(t.flo)))
	num("g", int64(math.Float64bits(t.fhi)))
	for i, flag := range [...]bool{
		t.enum, t.fold, t.openLo, t.openHi, t.bounded[0], t.bounded[1],
	} {
		if flag {
			num("b", int64(i)+1)
		}
	}
	for _, word := range t.hours {
		num("u", int64(word))
		b.WriteByte(',')
	}
	for _, n := range t.former {
		num("o", int64(n))
	}
	for _, v := range t.ints {
		b.WriteString(" " + strconv.FormatInt(v, 10))
	}
	for _, v := range t.floats {
		b.WriteString(" " + strconv.FormatUint(math.Float64bits(v), 16))
	}
	for _, v := range t.versions {
		for _, n := range v.numbers {
			b.WriteString(" " + strconv.FormatUint(n, 10))
		}
		b.WriteString("-" + string(v.pre))
	}
	for _, v := range t.words() {
		b.WriteString(" " + strconv.Quote(v))
	}
	if t.behaviour != nil {
		num("w", int64(t.want))
		b.WriteString(t.behaviour.key())
		if t.inner != nil {
			b.WriteString(" " + t.inner.key(false))
		}
	}
	return hashed(b.String())
}

// words are the texts of a test, in order.
func (t *test) words() []string {
	switch {
	case len(t.folded) > 0:
		return t.folded
	case len(t.texts) > 0:
		all := make([]string, 0, len(t.texts))
		for v := range t.texts {
			all = append(all, v)
		}
		slices.Sort(all)
		return all
	case t.kind >= testText && t.kind <= testPattern:
		return []string{t.text}
	}
	return nil
}

// hashed replaces a long key by its SHA-256, so that a list of many thousand
// values is not kept twice.
func hashed(key string) string {
	const longest = 256
	if len(key) <= longest {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256 " + hex.EncodeToString(sum[:])
}
