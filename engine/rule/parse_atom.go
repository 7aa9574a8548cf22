package rule

import (
	"regexp"
	"regexp/syntax"
	"slices"

	"tact/engine/definition"
)

// atom reads a map about one subject: a conjunction of its comparisons. It
// returns nil with a fault.
func (p *parser) atom(at, value place, subject string) *node {
	switch subject {
	case "percent":
		return p.percent(at, value)
	case "tag":
		return p.tag(at, value)
	case "context":
		name, ok := value.text("the name of a context key")
		if !ok {
			return nil
		}
		if key := SlotKey(name); key != 0 {
			return p.slot(at, value, name, key)
		}
		key, ok := p.names.Context[name]
		if unit := clockWord(name); !ok && unit != 0 {
			return p.clock(at, name, unit)
		}
		if !ok {
			value.near(name, slices.Concat(keys(p.names.Context), clockWords(), slotWords()),
				"no placement declares the context key %q", brief(name))
			return nil
		}
		l := leaf{subject: subjectContext, name: name, id: key.ID, typ: key.Type}
		return p.comparisons(at, subject, l, nil)
	}
	name, ok := value.text("the name of an attribute")
	if !ok {
		return nil
	}
	declared, ok := p.names.Attributes[name]
	if !ok {
		value.near(name, keys(p.names.Attributes), "there is no attribute %q", brief(name))
		return nil
	}
	p.sensitive = p.sensitive || declared.Sensitive
	l := leaf{subject: subjectAttribute, name: name, id: declared.ID, typ: declared.Type}
	return p.comparisons(at, subject, l, declared.Values)
}

func leafNode(l leaf) *node { return &node{kind: nodeLeaf, leaf: &l} }

func keys[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

func (p *parser) percent(at, value place) *node {
	at.close([]string{"percent", "salt"})
	salt, ok := at.key("salt")
	if !ok {
		at.fault("percent needs a salt: rules with one salt draw the same people")
		return nil
	}
	name, ok := salt.text("a text")
	if ok && (name == "" || len(name) > 256) {
		salt.fault("a salt has 1 to 256 bytes")
		ok = false
	}
	if value.node.Kind != definition.NodeList || len(value.node.List) != 2 {
		value.fault("a range such as [0%%, 10%%] is expected, not %s", describe(value.node))
		return nil
	}
	ends := value.items()
	from, okFrom := ends[0].hundredths()
	until, okUntil := ends[1].hundredths()
	if !ok || !okFrom || !okUntil {
		return nil
	}
	if from.num >= until.num {
		value.fault("the range [%s, %s] is empty", from.text, until.text)
		return nil
	}
	return leafNode(leaf{subject: subjectPercent, name: name, values: []operand{from, until}})
}

// signed is a leaf or its negation.
func signed(l leaf, negative bool) *node {
	n := leafNode(l)
	if negative {
		return &node{kind: nodeNot, subs: []*node{n}}
	}
	return n
}

// only is the single part of a conjunction, or the conjunction.
func only(all *node) *node {
	if len(all.subs) == 1 {
		return all.subs[0]
	}
	return all
}

func (p *parser) isSet(at place, l leaf) *node {
	if at.node.Kind != definition.NodeBool {
		at.fault("true or false is expected, not %s", describe(at.node))
		return nil
	}
	l.op, l.values = opIsSet, nil
	return signed(l, !at.node.Bool)
}

// comparisons reads every comparison of an attribute or context key.
func (p *parser) comparisons(at place, subject string, l leaf, closed []string) *node {
	before := len(p.faults)
	at.close(append(comparisonWords(), subject, "fold"))
	l.fold = at.flag("fold")
	if l.fold && l.typ != definition.TypeString && l.typ != definition.TypeList {
		at.fault("fold ignores the case of strings; %q is %s", brief(l.name), typeName(l.typ))
		return nil
	}
	all := &node{kind: nodeAll}
	for _, k := range at.node.Keys {
		if !slices.Contains(comparisonWords(), k.Name) {
			continue
		}
		c := comparing{place{p, k.Value, definition.JoinPath(at.path, k.Name)}, k.Name, closed}
		if n := c.read(l); n != nil {
			all.subs = append(all.subs, n)
		}
	}
	if len(all.subs) == 0 && len(p.faults) == before {
		at.fault("a comparison is missing, such as is, in, gte or is_set")
	}
	if len(p.faults) > before {
		return nil
	}
	return only(all)
}

func comparisonWords() []string {
	return []string{
		"is", "is_not", "in", "not_in", "gt", "gte", "lt", "lte", "between", "starts_with",
		"ends_with", "contains", "matches", "is_set", "before", "after", "within_last",
		"within_next", "years_since", "months_since", "anniversary",
	}
}

// comparing is one comparison being read.
type comparing struct {
	place
	word   string
	closed []string // the values that a string may have; empty = any
}

// read returns the comparison as a node; nil with a fault.
func (c comparing) read(l leaf) *node {
	if !c.fits(l) {
		return nil
	}
	switch c.word {
	case "is_set":
		return c.p.isSet(c.place, l)
	case "is", "is_not":
		return c.one(l, opIs)
	case "in", "not_in":
		return c.many(l)
	case "between":
		return c.between(l)
	case "matches":
		return c.matches(l)
	case "within_last", "within_next":
		return c.within(l)
	case "years_since", "months_since":
		return c.since(l)
	case "anniversary":
		return c.anniversary(l)
	}
	how, _ := ordering(c.word)
	switch c.word {
	case "before":
		how = opBefore
	case "after":
		how = opAfter
	case "starts_with":
		how = opStartsWith
	case "ends_with":
		how = opEndsWith
	case "contains":
		how = opContains
	}
	return c.one(l, how)
}

// ordering returns the op of gt, gte, lt, lte and is.
func ordering(word string) (op, bool) {
	switch word {
	case "is":
		return opIs, true
	case "gt":
		return opGt, true
	case "gte":
		return opGte, true
	case "lt":
		return opLt, true
	case "lte":
		return opLte, true
	}
	return opNone, false
}

// fits checks that the type has the comparison.
func (c comparing) fits(l leaf) bool {
	var words []string
	calendar := []string{"within_last", "within_next", "years_since", "months_since", "anniversary"}
	order := []string{"gt", "gte", "lt", "lte", "between"}
	equal := []string{"is", "is_not", "in", "not_in", "is_set"}
	switch l.typ {
	case definition.TypeBool:
		words = []string{"is", "is_not", "is_set"}
	case definition.TypeString:
		words = append(equal, "starts_with", "ends_with", "contains", "matches")
	case definition.TypeList:
		words = []string{"in", "not_in", "is_set", "contains"}
	case definition.TypeDate, definition.TypeTime:
		words = slices.Concat(equal, order, calendar, []string{"before", "after"})
	default:
		words = append(equal, order...)
	}
	if !slices.Contains(words, c.word) {
		c.near(c.word, words, "%q is %s, which has no %s", brief(l.name), typeName(l.typ), c.word)
		return false
	}
	return true
}

func typeName(t definition.AttrType) string {
	switch t {
	case definition.TypeBool:
		return "a bool"
	case definition.TypeInt:
		return "an int"
	case definition.TypeFloat:
		return "a float"
	case definition.TypeString:
		return "a string"
	case definition.TypeDate:
		return "a date"
	case definition.TypeTime:
		return "a time"
	case definition.TypeList:
		return "a list"
	case definition.TypeSemver:
		return "a semver"
	}
	return "of no known type"
}

func (c comparing) one(l leaf, how op) *node {
	closed := c.closed
	if how != opIs && (how != opContains || l.typ != definition.TypeList) {
		closed = nil
	}
	v, ok := c.value(&l, closed)
	if !ok {
		return nil
	}
	if v.text == "" && how >= opStartsWith && how <= opContains && l.typ == definition.TypeString {
		c.fault("every text has the empty text in it: use is_set")
		return nil
	}
	l.op, l.values = how, []operand{v}
	return signed(l, c.word == "is_not")
}

func (c comparing) many(l leaf) *node {
	items, ok := c.list("values")
	if !ok {
		return nil
	}
	l.op = opIn
	for _, item := range items {
		v, good := item.value(&l, c.closed)
		ok = ok && good
		l.values = append(l.values, v)
	}
	if !ok || !c.alike(l.values) {
		return nil
	}
	return signed(l, c.word == "not_in")
}

// alike refuses dates beside times.
func (c comparing) alike(values []operand) bool {
	for _, v := range values {
		if v.date != values[0].date {
			c.fault("dates and times do not mix in one comparison")
			return false
		}
	}
	return true
}

// list reads a list that is not empty, or one value of the offer.
func (at place) list(wanted string) ([]place, bool) {
	if at.node.Kind == definition.NodeMap {
		return []place{at}, true
	}
	if at.node.Kind != definition.NodeList || len(at.node.List) == 0 {
		at.fault("a list of %s is expected, not %s", wanted, describeList(at.node))
		return nil, false
	}
	at.p.values += len(at.node.List)
	if at.p.values > MaxValues {
		at.fault("the lists of a rule have at most %d values: use a static segment", MaxValues)
		return nil, false
	}
	return at.items(), true
}

func describeList(n *definition.Node) string {
	if n.Kind == definition.NodeList {
		return "an empty one"
	}
	return describe(n)
}

func (c comparing) between(l leaf) *node {
	if c.node.Kind != definition.NodeList || len(c.node.List) != 2 {
		c.fault("two values are expected, such as [18, 25]; both belong to it")
		return nil
	}
	ends := c.items()
	lo, ok := ends[0].value(&l, nil)
	hi, good := ends[1].value(&l, nil)
	l.op, l.values = opBetween, []operand{lo, hi}
	if !ok || !good || !c.alike(l.values) {
		return nil
	}
	if disorder(l.typ, lo, hi) {
		c.fault("%s comes after %s: nothing is between them", brief(lo.text), brief(hi.text))
		return nil
	}
	return signed(l, false)
}

func disorder(typ definition.AttrType, lo, hi operand) bool {
	switch typ {
	case definition.TypeFloat:
		return lo.float > hi.float
	case definition.TypeSemver:
		a, _ := parseVersion([]byte(lo.text))
		b, _ := parseVersion([]byte(hi.text))
		return a.compare(b) > 0
	}
	return lo.num > hi.num
}

func (c comparing) matches(l leaf) *node {
	resolved, ok := c.resolve()
	if !ok {
		return nil
	}
	text, ok := resolved.text("a regular expression")
	if !ok {
		return nil
	}
	if len(text) > MaxPattern {
		c.fault("a regular expression has at most %d bytes", MaxPattern)
		return nil
	}
	flags := syntax.Perl
	if l.fold {
		flags |= syntax.FoldCase
	}
	parsed, err := syntax.Parse(text, flags)
	if err != nil {
		c.fault("not a regular expression: %s", patternError(err))
		return nil
	}
	large := leastSteps(parsed) > MaxPatternSteps // before the repetitions are written out
	if !large {
		program, err := syntax.Compile(parsed.Simplify())
		large = err != nil || len(program.Inst) > MaxPatternSteps
	}
	if large {
		c.fault("the regular expression is too large: at most %d steps", MaxPatternSteps)
		return nil
	}
	pattern, err := regexp.Compile(parsed.String()) // parsed.String says what flags said
	if err != nil {
		c.fault("not a regular expression: %s", patternError(err))
		return nil
	}
	l.op, l.pattern, l.values = opMatches, pattern, []operand{{text: text}}
	return signed(l, false)
}

// leastSteps counts the instructions that an expression has at least once its
// repetitions are written out. Cost: linear in the expression.
func leastSteps(re *syntax.Regexp) int {
	n := 0
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		n = 1
	case syntax.OpCapture:
		n = 2
	}
	for _, sub := range re.Sub {
		n += leastSteps(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max)
	}
	return min(n, MaxPatternSteps+1)
}

func patternError(err error) string {
	if e, ok := err.(*syntax.Error); ok {
		return string(e.Code) + " in " + brief(e.Expr)
	}
	return err.Error()
}

func (c comparing) within(l leaf) *node {
	d, ok := c.duration()
	if !ok {
		return nil
	}
	if l.typ == definition.TypeDate && !c.wholeDays(d) {
		return nil
	}
	l.op, l.values = opWithinLast, []operand{d}
	if c.word == "within_next" {
		l.op = opWithinNext
	}
	return signed(l, false)
}

func (at place) wholeDays(d operand) bool {
	if d.num*1000%dayMs != 0 {
		at.fault("a date is compared by whole days, such as 30d or 2w")
		return false
	}
	return true
}

// since reads years_since and months_since: a map of comparisons of a whole
// number.
func (c comparing) since(l leaf) *node {
	if c.node.Kind != definition.NodeMap || len(c.node.Keys) == 0 {
		c.fault("a comparison such as {gte: 18} is expected, not %s", describe(c.node))
		return nil
	}
	l.op = opYearsSince
	if c.word == "months_since" {
		l.op = opMonthsSince
	}
	words := []string{"is", "is_not", "gt", "gte", "lt", "lte", "between", "in", "not_in"}
	all, faulty := &node{kind: nodeAll}, false
	for _, k := range c.node.Keys {
		part := comparing{place{c.p, k.Value, definition.JoinPath(c.path, k.Name)}, k.Name, nil}
		if !slices.Contains(words, k.Name) {
			unknown := place{c.p, &definition.Node{Pos: k.Pos}, part.path}
			unknown.near(k.Name, words, "unknown key %q", brief(k.Name))
			faulty = true
			continue
		}
		if n := part.sincePart(l); n != nil {
			all.subs = append(all.subs, n)
		} else {
			faulty = true
		}
	}
	if faulty {
		return nil
	}
	return only(all)
}

func (c comparing) sincePart(l leaf) *node {
	switch c.word {
	case "between":
		if c.node.Kind != definition.NodeList || len(c.node.List) != 2 {
			c.fault("two values are expected, such as [18, 25]; both belong to it")
			return nil
		}
		ends := c.items()
		lo, ok := ends[0].count()
		hi, good := ends[1].count()
		if !ok || !good {
			return nil
		}
		if lo.num > hi.num {
			c.fault("%s comes after %s: nothing is between them", lo.text, hi.text)
			return nil
		}
		l.than, l.values = opBetween, []operand{lo, hi}
		return signed(l, false)
	case "in", "not_in":
		return c.sinceMany(l)
	}
	v, ok := c.count()
	if !ok {
		return nil
	}
	l.than, _ = ordering(c.word)
	l.values = []operand{v}
	if c.word == "is_not" {
		l.than = opIs
	}
	return signed(l, c.word == "is_not")
}

func (c comparing) sinceMany(l leaf) *node {
	items, ok := c.list("whole numbers")
	if !ok {
		return nil
	}
	if c.p.nodes += len(items); c.p.nodes > MaxNodes {
		c.fault("the rule has more than %d conditions", MaxNodes)
		return nil
	}
	anyOf := &node{kind: nodeAny}
	for _, item := range items {
		v, good := item.count()
		ok = ok && good
		one := l
		one.than, one.values = opIs, []operand{v}
		anyOf.subs = append(anyOf.subs, leafNode(one))
	}
	if !ok {
		return nil
	}
	if c.word == "not_in" {
		return &node{kind: nodeNot, subs: []*node{anyOf}}
	}
	return only(anyOf)
}

// anniversary reads {before: 3d, after: 0d}; what is absent is 0d.
func (c comparing) anniversary(l leaf) *node {
	if c.node.Kind != definition.NodeMap || len(c.node.Keys) == 0 {
		c.fault("{before: 3d, after: 0d} is expected, not %s", describe(c.node))
		return nil
	}
	const most = 182 // days: half a year each way is always
	l.op, l.values = opAnniversary, []operand{{text: "0d"}, {text: "0d"}}
	ok := true
	for _, k := range c.node.Keys {
		at := place{c.p, k.Value, definition.JoinPath(c.path, k.Name)}
		i := slices.Index([]string{"before", "after"}, k.Name)
		if i < 0 {
			unknown := place{c.p, &definition.Node{Pos: k.Pos}, at.path}
			unknown.near(k.Name, []string{"before", "after"}, "unknown key %q", brief(k.Name))
			ok = false
			continue
		}
		if k.Value.Kind == definition.NodeString && k.Value.Text == "0d" {
			continue
		}
		d, good := at.duration()
		if !good || !at.wholeDays(d) {
			ok = false
			continue
		}
		d.num = d.num * 1000 / dayMs
		if d.num > most {
			at.fault("at most %dd on each side of an anniversary", most)
			ok = false
		}
		l.values[i] = d
	}
	if !ok {
		return nil
	}
	return signed(l, false)
}
