package rule

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"

	"tact/engine/definition"
	"tact/engine/experiment"
	"tact/storage"
)

// Naive says whether the tree holds, read from the document's words one by one:
// slow, obvious, and sharing nothing with Cond but the tree. It allocates.
func (t *Tree) Naive(w *Who, ctx []ContextValue) bool {
	return naive(t.whole(), w, ctx)
}

func naive(n *node, w *Who, ctx []ContextValue) bool {
	switch n.kind {
	case nodeAll:
		for _, sub := range n.subs {
			if !naive(sub, w, ctx) {
				return false
			}
		}
		return true
	case nodeAny:
		for _, sub := range n.subs {
			if naive(sub, w, ctx) {
				return true
			}
		}
		return false
	case nodeNot:
		return !naive(n.subs[0], w, ctx)
	}
	return n.leaf.naive(w, ctx)
}

func (l *leaf) naive(w *Who, ctx []ContextValue) bool {
	switch l.subject {
	case subjectSegment:
		return w.Profile.Segment(l.id)
	case subjectTag, subjectTier:
		return l.naiveTag(w)
	case subjectPercent:
		bucket := experiment.Bucket(experiment.Seed("tact/v1/percent/"+l.name), w.ID)
		return len(w.ID) > 0 && int64(bucket) >= l.values[0].num && int64(bucket) < l.values[1].num
	case subjectConsent:
		granted, known, _ := w.Profile.Consent(l.id, l.channel)
		return known && granted
	case subjectWithdrawn:
		granted, known, _ := w.Profile.Consent(l.id, l.channel)
		return known && !granted
	case subjectBlacklisted:
		return w.Profile.Blacklisted(l.channel)
	case subjectReachable:
		return w.Profile.HasAddress(l.channel)
	case subjectEvent:
		return l.naiveEvent(w)
	case subjectClock:
		return l.naiveClock(w)
	}
	v, ok := l.naiveValue(w, ctx)
	if !ok || l.op == opIsSet {
		return ok
	}
	return l.naiveCompare(v, w)
}

func (l *leaf) naiveTag(w *Who) bool {
	var value storage.Name
	held := false
	for _, id := range append([]storage.Name{l.id}, l.former...) {
		w.Profile.EachTag(func(t storage.TagValue) bool {
			ended := t.Expires != 0 && int64(w.Now) >= int64(t.Expires)*1000
			if t.ID == id && !held && !ended && (!l.enum || t.Value != 0) {
				value, held = t.Value, true
			}
			return true
		})
	}
	if !held || l.op == opNone || l.op == opIsSet {
		return held
	}
	if l.subject == subjectTier {
		at := slices.IndexFunc(l.levels, func(v Level) bool { return v.ID == value })
		return at >= 0 && l.naiveOrder(func(o operand) int {
			return order(int64(at) < o.num, int64(at) > o.num)
		})
	}
	for _, v := range l.values {
		if v.value == value {
			return true
		}
	}
	return false
}

// naiveValue returns the value the leaf is about; ok is false when there is
// none, or none of the declared type.
func (l *leaf) naiveValue(w *Who, ctx []ContextValue) (any, bool) {
	v, ok := w.Profile.Attr(l.id)
	if l.subject == subjectContext {
		ok = false
		for i := len(ctx) - 1; i >= 0; i-- {
			if ctx[i].Key == l.id {
				v, ok = ctx[i].Value, true
			}
		}
	}
	if !ok {
		return nil, false
	}
	return l.naiveTyped(v)
}

// naiveTyped reads a value of the declared type; ok is false for another.
func (l *leaf) naiveTyped(v storage.Value) (any, bool) {
	switch l.typ {
	case definition.TypeBool:
		return v.Num == 1, v.Kind == storage.KindBool && v.Num <= 1
	case definition.TypeInt:
		return int64(v.Num), v.Kind == storage.KindInt
	case definition.TypeFloat:
		if v.Kind == storage.KindInt {
			return float64(int64(v.Num)), true
		}
		f := math.Float64frombits(v.Num)
		return f, v.Kind == storage.KindFloat && !math.IsNaN(f)
	case definition.TypeString:
		return string(v.Bytes), v.Kind == storage.KindString
	case definition.TypeSemver:
		_, ok := parseVersion(v.Bytes)
		return string(v.Bytes), ok && v.Kind == storage.KindSemver
	case definition.TypeList:
		return elements(v.Bytes), v.Kind == storage.KindList
	case definition.TypeDate:
		day := int64(v.Num)
		if v.Kind != storage.KindDate || day < dayMin || day > dayMax {
			return nil, false
		}
		return time.Unix(0, 0).UTC().AddDate(0, 0, int(day)), true
	case definition.TypeTime:
		at := time.UnixMilli(int64(v.Num)).UTC()
		return at, v.Kind == storage.KindTime && at.Year() >= 1 && at.Year() <= 9999
	}
	return nil, false
}

func elements(packed []byte) []string {
	var all []string
	for len(packed) > 0 {
		size, n := binary.Uvarint(packed)
		if n <= 0 || size > uint64(len(packed)-n) {
			return all
		}
		all = append(all, string(packed[n:n+int(size)]))
		packed = packed[n+int(size):]
	}
	return all
}

func (l *leaf) naiveCompare(v any, w *Who) bool {
	switch v := v.(type) {
	case string:
		if l.typ == definition.TypeSemver {
			return l.naiveOrder(func(o operand) int {
				a, _ := parseVersion([]byte(v))
				b, _ := parseVersion([]byte(o.text))
				return a.compare(b)
			})
		}
		return l.naiveText(v)
	case []string:
		for _, element := range v {
			for _, o := range l.values {
				if element == o.text || l.fold && strings.EqualFold(element, o.text) {
					return true
				}
			}
		}
		return false
	case bool:
		return v == (l.values[0].num == 1)
	case int64:
		return l.naiveOrder(func(o operand) int { return order(v < o.num, v > o.num) })
	case float64:
		return l.naiveOrder(func(o operand) int { return order(v < o.float, v > o.float) })
	case time.Time:
		return l.naiveTime(v, w)
	}
	return false
}

func order(less, more bool) int {
	switch {
	case less:
		return -1
	case more:
		return 1
	}
	return 0
}

// naiveOrder judges is, in, gt, gte, lt, lte, between, before and after by the
// order of the value against an operand.
func (l *leaf) naiveOrder(against func(operand) int) bool {
	return naiveOrder(l.op, l.values, against)
}

func naiveOrder(how op, values []operand, against func(operand) int) bool {
	switch how {
	case opGt, opAfter:
		return against(values[0]) > 0
	case opGte:
		return against(values[0]) >= 0
	case opLt, opBefore:
		return against(values[0]) < 0
	case opLte:
		return against(values[0]) <= 0
	case opBetween:
		return against(values[0]) >= 0 && against(values[1]) <= 0
	}
	for _, o := range values {
		if against(o) == 0 {
			return true
		}
	}
	return false
}

func (l *leaf) naiveText(v string) bool {
	if l.op == opMatches {
		return len(v) <= MaxMatched && l.pattern.MatchString(v)
	}
	for _, o := range l.values {
		part := o.text
		if l.fold {
			part, v = fold(part), fold(v)
		}
		switch l.op {
		case opStartsWith:
			return strings.HasPrefix(v, part)
		case opEndsWith:
			return strings.HasSuffix(v, part)
		case opContains:
			return strings.Contains(v, part)
		}
		if v == part {
			return true
		}
	}
	return false
}

// naiveTime judges dates and times. Dates are times at midnight UTC here: only
// their year, month and day count.
func (l *leaf) naiveTime(v time.Time, w *Who) bool {
	zone := w.Zone
	if zone == nil {
		zone = time.UTC
	}
	now := time.UnixMilli(int64(w.Now)).In(zone)
	today := midnight(now)
	day := v
	if l.typ == definition.TypeTime {
		day = midnight(v.In(zone))
	}
	switch l.op {
	case opWithinLast, opWithinNext:
		span := time.Duration(l.values[0].num) * time.Second
		at, from := v, now
		if l.typ == definition.TypeDate {
			at, from = day, today
		}
		if l.op == opWithinLast {
			return at.After(from.Add(-span)) && !at.After(from)
		}
		return !at.Before(from) && at.Before(from.Add(span))
	case opYearsSince, opMonthsSince:
		n := wholeMonths(day, today)
		if l.op == opYearsSince {
			n = FloorDiv(n, 12)
		}
		return naiveOrder(l.than, l.values, func(o operand) int {
			return order(n < o.num,
				n > o.num)
		})
	case opAnniversary:
		before, after := int(l.values[0].num), int(l.values[1].num)
		for year := day.Year() + 1; year <= today.Year()+2; year++ {
			at := anniversaryIn(day, year)
			if !today.Before(at.AddDate(0, 0, -before)) && !today.After(at.AddDate(0, 0, after)) {
				return true
			}
		}
		return false
	}
	if l.typ == definition.TypeDate || l.values[0].date {
		return l.naiveOrder(func(o operand) int {
			return day.Compare(time.Unix(0, 0).UTC().AddDate(0, 0, int(o.num)))
		})
	}
	return l.naiveOrder(func(o operand) int { return v.Compare(time.UnixMilli(o.num)) })
}

// midnight is the date of a local time, as a time in UTC.
func midnight(at time.Time) time.Time {
	y, m, d := at.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// wholeMonths counts the months from day to today that are over: a month is
// over on the day of its number, or on the last day when it has none such.
func wholeMonths(day, today time.Time) int64 {
	n := int64(today.Year()-day.Year())*12 + int64(today.Month()-day.Month())
	last := time.Date(today.Year(), today.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
	if today.Day() < min(day.Day(), last) {
		n--
	}
	return n
}

// anniversaryIn is the day's return in a year.
func anniversaryIn(day time.Time, year int) time.Time {
	at := time.Date(year, day.Month(), day.Day(), 0, 0, 0, 0, time.UTC)
	if at.Month() != day.Month() { // 29 February in another year
		return at.AddDate(0, 0, -1)
	}
	return at
}
