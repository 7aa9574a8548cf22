package rule

import (
	"strconv"
	"strings"

	"tact/engine/definition"
)

// event writes a condition on events or its negation.
func (x *explainer) event(l *leaf, negated bool) string {
	b := l.behaviour
	switch {
	case b.agg == aggUnseen:
		return x.not(x.say("not seen for ", "未活跃满 ")+x.span(b.window.text), negated)
	case b.agg == aggSequence:
		return x.not(x.sequence(b), negated)
	}
	what, when := x.match(&b.steps[0]), x.window(&b.window)
	if b.agg == aggCount && l.op == opGte && l.values[0].num == 1 {
		return x.once(what, when, negated)
	}
	if times := x.times(l); times != "" && !negated {
		if x.zh {
			return when + what + " " + times
		}
		return what + " " + times + when
	}
	if x.zh {
		return when + what + " 的" + x.aggregate(b) + x.comparison(l, negated)
	}
	return x.aggregate(b) + what + when + x.comparison(l, negated)
}

// once writes that something was done at all, or never.
func (x *explainer) once(what, when string, negated bool) string {
	switch {
	case x.zh && negated && when == "":
		return "从未有 " + what
	case x.zh && negated:
		return when + "没有 " + what
	case x.zh:
		return when + "有 " + what
	case negated && when == "":
		return "never did " + what
	case negated:
		return "did not do " + what + when
	}
	return "did " + what + when
}

// times writes a plain comparison of a count; "" for another.
func (x *explainer) times(l *leaf) string {
	if l.behaviour.agg != aggCount {
		return ""
	}
	words := map[op][2]string{
		opIs: {"exactly ", "恰好 "}, opGte: {"at least ", "至少 "}, opLte: {"at most ", "至多 "},
		opGt: {"more than ", "多于 "}, opLt: {"fewer than ", "少于 "},
	}[l.op]
	if words[0] == "" {
		return ""
	}
	unit := " times"
	if l.values[0].num == 1 {
		unit = " time"
	}
	return x.say(words[0], words[1]) + l.values[0].text + x.say(unit, " 次")
}

func (x *explainer) not(text string, negated bool) string {
	if negated {
		return x.say("not (", "非(") + text + x.say(")", ")")
	}
	return text
}

// aggregate writes what is asked of the events.
func (x *explainer) aggregate(b *behaviour) string {
	en := func(word string) string {
		if b.ofName != "" {
			return word + b.ofName + " of "
		}
		return word
	}
	zh := func(word string) string {
		if b.ofName != "" {
			return " " + b.ofName + " " + word
		}
		return word
	}
	switch b.agg {
	case aggDays:
		return x.say("number of days with ", "发生天数")
	case aggDistinct:
		return x.say(en("number of different "), zh("不同值个数"))
	case aggSum:
		return x.say(en("sum of "), zh("合计"))
	case aggMin:
		return x.say(en("least "), zh("最小值"))
	case aggMax:
		return x.say(en("greatest "), zh("最大值"))
	case aggAvg:
		return x.say(en("average "), zh("平均值"))
	case aggFirst:
		return x.say(en("first "), zh(x.edge("首次", b)))
	case aggLast:
		return x.say(en("last "), zh(x.edge("最近一次", b)))
	}
	return x.say("count of ", "次数")
}

// edge names the time of the first or last event, or its property.
func (x *explainer) edge(which string, b *behaviour) string {
	if b.ofName == "" {
		return which + "时间"
	}
	return which + "的值"
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
		text += x.say(" where ", "(其中 ") + strings.Join(parts, x.say(" and ", " 且 ")) +
			x.say("", ")")
	}
	return text
}

// window writes when: behind the event in English, before it in Chinese.
func (x *explainer) window(w *window) string {
	switch w.kind {
	case windowRolling:
		return x.say(" in the last "+x.span(w.text), "最近 "+x.span(w.text)+" ")
	case windowCalendar:
		return x.calendar(&w.calendar)
	case windowBetween:
		return x.say(" in "+w.text, "在 "+w.text+" 之间 ")
	}
	return ""
}

// calendar writes a calendar window: this month, these 2 weeks.
func (x *explainer) calendar(w *definition.Window) string {
	i := int(w.Unit - definition.UnitHour)
	en := [...]string{"hour", "day", "week", "month", "quarter", "year"}[i]
	zh := [...]string{"小时", "天", "周", "个月", "个季度", "年"}[i]
	one := [...]string{"本小时", "今天", "本周", "本月", "本季度", "今年"}[i]
	if w.Every > 1 {
		n := strconv.Itoa(w.Every)
		return x.say(" in this calendar period of "+n+" "+en+"s", "本 "+n+" "+zh+"自然周期 ")
	}
	return x.say(" in this calendar "+en, one+" ")
}

// span writes a duration as it is read: 30 days, 30 天.
func (x *explainer) span(text string) string {
	if len(text) < 2 {
		return text
	}
	n := text[:len(text)-1]
	en, zh := "", ""
	switch text[len(text)-1] {
	case 's':
		en, zh = "second", "秒"
	case 'm':
		en, zh = "minute", "分钟"
	case 'h':
		en, zh = "hour", "小时"
	case 'd':
		en, zh = "day", "天"
	case 'w':
		en, zh = "week", "周"
	default:
		return text
	}
	if n != "1" {
		en += "s"
	}
	return n + " " + x.say(en, zh)
}

func (x *explainer) sequence(b *behaviour) string {
	steps := make([]string, len(b.steps))
	for i := range b.steps {
		steps[i] = x.match(&b.steps[i])
	}
	text := strings.Join(steps, x.say(" then ", " 然后 ")) + x.say(" within ", ",在 ") +
		x.span(b.window.text) + x.say("", " 内")
	if b.without != nil {
		text += x.say(" without ", ",其间没有 ") + x.match(b.without)
	}
	return text
}
