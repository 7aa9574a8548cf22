package rule

import (
	"strings"

	"tact/engine/definition"
)

// Explain writes the tree as one line, in English or, with lang "zh" or
// "zh-…", in Chinese. With a person it adds whether the rule holds and, if not,
// the conditions that refused, at most three, and says of a condition on events
// when it was answered by calendar day. It shows what the document says,
// never a value of the person. It allocates.
func (t *Tree) Explain(w *Who, ctx []ContextValue, lang string) string {
	x := explainer{who: w, ctx: ctx, zh: lang == "zh" || strings.HasPrefix(lang, "zh-")}
	line := x.node(t.whole(), 0)
	if w == nil {
		return line
	}
	if t.Naive(w, ctx) {
		return line + x.say(": holds", ":满足")
	}
	const most = 3
	causes := x.causes(t.whole(), false)
	words := make([]string, 0, most)
	for _, c := range causes[:min(most, len(causes))] {
		words = append(words, x.cause(c))
	}
	if len(causes) > most {
		words = append(words, "…")
	}
	return line + x.say(": refused by ", ":不满足,因为 ") + strings.Join(words, x.say(" and ", "、"))
}

type explainer struct {
	who *Who
	ctx []ContextValue
	zh  bool
}

func (x *explainer) say(en, zh string) string {
	if x.zh {
		return zh
	}
	return en
}

// Binding of what stands around a part, loosest first.
const (
	bindNone = iota
	bindAny
	bindAll
	bindNot
)

func (x *explainer) node(n *node, around int) string {
	switch n.kind {
	case nodeLeaf:
		return x.leaf(n.leaf, false)
	case nodeNot:
		if sub := n.subs[0]; sub.kind == nodeLeaf {
			return x.leaf(sub.leaf, true)
		}
		return x.say("not ", "非 ") + x.node(n.subs[0], bindNot)
	}
	joint, binding := x.say(" and ", " 且 "), bindAll
	if n.kind == nodeAny {
		joint, binding = x.say(" or ", " 或 "), bindAny
	}
	switch len(n.subs) {
	case 0:
		if n.kind == nodeAny {
			return x.say("nobody", "无人")
		}
		return x.say("everybody", "所有人")
	case 1:
		return x.node(n.subs[0], around)
	}
	parts := make([]string, 0, len(n.subs))
	for _, sub := range n.subs {
		parts = append(parts, x.node(sub, binding))
	}
	text := strings.Join(parts, joint)
	if around > binding || around == bindNot {
		return "(" + text + ")"
	}
	return text
}

// cause is a leaf that decides, and whether it stands under a not.
type cause struct {
	leaf    *leaf
	negated bool
}

// causes returns the leaves for which n is what it is: of an all that fails the
// first that fails, of an any that fails all of them, and the other way round
// where n holds.
func (x *explainer) causes(n *node, negated bool) []cause {
	if n.kind == nodeLeaf {
		return []cause{{n.leaf, negated}}
	}
	if n.kind == nodeNot {
		return x.causes(n.subs[0], !negated)
	}
	holds := naive(n, x.who, x.ctx)
	var all []cause
	for _, sub := range n.subs {
		if naive(sub, x.who, x.ctx) != holds {
			continue
		}
		all = append(all, x.causes(sub, negated)...)
		if holds == (n.kind == nodeAny) {
			break
		}
	}
	return all
}

func (x *explainer) cause(c cause) string {
	text := x.say("«", "「") + x.leaf(c.leaf, c.negated) + x.say("»", "」")
	known := c.leaf.asksKnown()
	if known != nil && c.leaf.op != opIsSet && !known.naive(x.who, x.ctx) {
		text += x.say(" (no value)", "(缺值)")
	}
	return text
}

// leaf writes one comparison or its negation.
func (x *explainer) leaf(l *leaf, negated bool) string {
	switch l.subject {
	case subjectPercent:
		words := x.say("in ", "属于 ")
		if negated {
			words = x.say("not in ", "不属于 ")
		}
		return words + "[" + l.values[0].text + ", " + l.values[1].text + ")" +
			x.say(" of salt ", " 分桶 ") + l.name
	case subjectSegment:
		if negated {
			return x.say("not in segment ", "不在人群 ") + l.name
		}
		return x.say("in segment ", "在人群 ") + l.name
	case subjectTag:
		if l.op == opNone {
			if negated {
				return x.say("not tagged ", "无标签 ") + l.name
			}
			return x.say("tagged ", "有标签 ") + l.name
		}
		return x.say("tag ", "标签 ") + l.name + x.comparison(l, negated)
	case subjectTier:
		return x.say("tier ", "分层 ") + l.name + x.comparison(l, negated)
	case subjectEvent:
		text := x.event(l, negated)
		if x.who != nil && l.naiveByDay(x.who) {
			text += x.say(" (by calendar day)", "(按自然日)")
		}
		return text
	case subjectProperty:
		return l.name + x.comparison(l, negated)
	case subjectContext, subjectClock:
		return x.say("context ", "上下文 ") + l.name + x.comparison(l, negated)
	}
	return l.name + x.comparison(l, negated)
}

// comparison writes what follows the name.
func (x *explainer) comparison(l *leaf, negated bool) string {
	if l.op == opIsSet {
		if negated {
			return x.say(" has no value", " 无值")
		}
		return x.say(" has a value", " 有值")
	}
	if negated && l.op == opIs {
		return x.say(" is not ", " 不是 ") + x.values(l) + x.folded(l)
	}
	if negated && l.op == opIn {
		return x.say(" is not in ", " 不属于 ") + x.values(l) + x.folded(l)
	}
	text := x.relation(l) + x.folded(l)
	if negated {
		return x.say(" not (", " 非(") + strings.TrimPrefix(text, " ") + x.say(")", ")")
	}
	return text
}

func (x *explainer) folded(l *leaf) string {
	if l.fold {
		return x.say(" (any case)", "(不分大小写)")
	}
	return ""
}

func (x *explainer) relation(l *leaf) string {
	switch l.op {
	case opWithinLast:
		return x.say(" within the last ", " 在最近 ") + x.span(l.values[0].text) + x.say("", " 内")
	case opWithinNext:
		return x.say(" within the next ", " 在未来 ") + x.span(l.values[0].text) + x.say("", " 内")
	case opYearsSince, opMonthsSince:
		unit := x.say(" years since it", " 年")
		if l.op == opMonthsSince {
			unit = x.say(" months since it", " 个月")
		}
		return x.say(" with", " 距今") + x.order(l.than, l) + unit
	case opAnniversary:
		return x.say(" from ", " 周年日前 ") + x.span(l.values[0].text) +
			x.say(" before to ", " 至后 ") + x.span(l.values[1].text) + x.say(" after its anniversary", "")
	}
	return x.order(l.op, l)
}

func (x *explainer) order(how op, l *leaf) string {
	values := x.values(l)
	switch how {
	case opIn:
		return x.say(" in ", " 属于 ") + values
	case opGt:
		return " > " + values
	case opGte:
		return " ≥ " + values
	case opLt:
		return " < " + values
	case opLte:
		return " ≤ " + values
	case opBetween:
		return x.say(" between ", " 介于 ") + l.values[0].text + x.say(" and ", " 与 ") +
			l.values[1].text + x.say("", " 之间")
	case opBefore:
		return x.say(" before ", " 早于 ") + values
	case opAfter:
		return x.say(" after ", " 晚于 ") + values
	case opStartsWith:
		return x.say(" starts with ", " 开头是 ") + values
	case opEndsWith:
		return x.say(" ends with ", " 结尾是 ") + values
	case opContains:
		return x.say(" contains ", " 包含 ") + values
	case opMatches:
		return x.say(" matches ", " 匹配 ") + values
	}
	if l.op == opYearsSince || l.op == opMonthsSince {
		return " " + values
	}
	return x.say(" is ", " 是 ") + values
}

// values writes the values, at most five of a list, texts in quotes.
func (x *explainer) values(l *leaf) string {
	const most = 5
	words := make([]string, 0, most+1)
	for i, v := range l.values {
		if i == most {
			words = append(words, "…")
			break
		}
		text := brief(v.text)
		if l.typ == definition.TypeString || l.typ == definition.TypeList {
			text = x.say(`"`, "“") + text + x.say(`"`, "”")
		}
		words = append(words, text)
	}
	if l.op == opIn {
		return "[" + strings.Join(words, ", ") + "]"
	}
	return strings.Join(words, ", ")
}
