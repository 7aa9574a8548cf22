package rule

import "strings"

// event writes a condition on events or its negation.
func (x *explainer) event(l *leaf, negated bool) string {
	b := l.behaviour
	switch {
	case b.agg == aggUnseen:
		text := x.say("not seen for ", "未活跃满 ") + b.window.text
		return x.not(text, negated)
	case b.agg == aggSequence:
		return x.not(x.sequence(b), negated)
	}
	what := x.match(&b.steps[0]) + x.window(&b.window)
	once := b.agg == aggCount && l.op == opGte && l.values[0].num == 1
	if once && negated {
		return x.say("never did ", "没有 ") + what
	}
	if once {
		return x.say("did ", "有 ") + what
	}
	return x.aggregate(b) + what + x.comparison(l, negated)
}

func (x *explainer) not(text string, negated bool) string {
	if negated {
		return x.say("not (", "非(") + text + x.say(")", ")")
	}
	return text
}

// aggregate writes what is asked of the events.
func (x *explainer) aggregate(b *behaviour) string {
	of := b.ofName
	if of != "" {
		of = x.say(of+" of ", of+": ")
	}
	switch b.agg {
	case aggDays:
		return x.say("days with ", "天数: ")
	case aggDistinct:
		return x.say("different ", "不同 ") + of
	case aggSum:
		return x.say("sum of ", "合计 ") + of
	case aggMin:
		return x.say("least ", "最小 ") + of
	case aggMax:
		return x.say("greatest ", "最大 ") + of
	case aggAvg:
		return x.say("average ", "平均 ") + of
	case aggFirst:
		return x.say("first ", "首次 ") + of
	case aggLast:
		return x.say("last ", "最近一次 ") + of
	}
	return x.say("count of ", "次数: ")
}

func (x *explainer) match(m *match) string {
	text := m.name
	if m.any {
		text = x.say("anything", "任意事件")
	}
	if m.outcome && m.chosen != "" {
		text += x.say(" of ", " 于 ") + "[" + brief(m.chosen) + "]"
	}
	parts := make([]string, 0, len(m.where))
	for i := range m.where {
		parts = append(parts, x.leaf(&m.where[i].leaf, m.where[i].negative))
	}
	if len(parts) > 0 {
		text += x.say(" where ", " 其中 ") + strings.Join(parts, x.say(" and ", " 且 "))
	}
	return text
}

func (x *explainer) window(w *window) string {
	switch w.kind {
	case windowRolling:
		return x.say(" in the last ", " 最近 ") + w.text
	case windowCalendar:
		return x.say(" in this calendar ", " 本自然周期 ") + w.text
	case windowBetween:
		return x.say(" in ", " 在 ") + w.text
	}
	return ""
}

func (x *explainer) sequence(b *behaviour) string {
	steps := make([]string, len(b.steps))
	for i := range b.steps {
		steps[i] = x.match(&b.steps[i])
	}
	text := strings.Join(steps, x.say(" then ", " 然后 ")) + x.say(" within ", " 在 ") +
		b.window.text + x.say("", " 内")
	if b.without != nil {
		text += x.say(" without ", " 且其间没有 ") + x.match(b.without)
	}
	return text
}
