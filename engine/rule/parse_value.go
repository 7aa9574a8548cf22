package rule

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tact/engine/definition"
)

// resolve returns the value itself, or the attribute of the offer that
// {offer: NAME} names; what is wrong with that value is said at the place that
// names it.
func (at place) resolve() (place, bool) {
	if at.node.Kind != definition.NodeMap {
		return at, true
	}
	name := at.node.Get("offer")
	if name == nil || len(at.node.Keys) != 1 {
		at.fault("a value or {offer: NAME} is expected, not a map")
		return at, false
	}
	named := place{at.p, name, definition.JoinPath(at.path, "offer")}
	text, ok := named.text("the name of an attribute of the offer")
	if !ok {
		return at, false
	}
	offer := at.p.names.Offer
	if offer == nil {
		named.fault("{offer: %s} has a meaning only in the rules of an offer with attributes",
			brief(text))
		return at, false
	}
	value := offer.Get(text)
	if value == nil {
		var known []string
		for _, k := range offer.Keys {
			known = append(known, k.Name)
		}
		named.near(text, known, "the offer has no attribute %q", brief(text))
		return at, false
	}
	if value.Kind == definition.NodeMap || value.Kind == definition.NodeList {
		named.fault("the offer's attribute %q is %s, not a single value", brief(text),
			describe(value))
		return at, false
	}
	moved := *value
	moved.Pos = name.Pos
	return place{at.p, &moved, named.path}, true
}

// value reads one value of the type of l; closed are the strings it may be.
func (at place) value(l *leaf, closed []string) (operand, bool) {
	at, ok := at.resolve()
	if !ok {
		return operand{}, false
	}
	n := at.node
	switch l.typ {
	case definition.TypeBool:
		if n.Kind == definition.NodeBool {
			v := operand{text: strconv.FormatBool(n.Bool)}
			if n.Bool {
				v.num = 1
			}
			return v, true
		}
	case definition.TypeInt:
		if n.Kind == definition.NodeInt {
			return operand{text: strconv.FormatInt(n.Int, 10), num: n.Int}, true
		}
	case definition.TypeFloat:
		if n.Kind == definition.NodeInt {
			return operand{text: strconv.FormatInt(n.Int, 10), float: float64(n.Int)}, true
		}
		if n.Kind == definition.NodeFloat && !math.IsNaN(n.Float) && !math.IsInf(n.Float, 0) {
			return operand{text: strconv.FormatFloat(n.Float, 'g', -1, 64), float: n.Float}, true
		}
	case definition.TypeString, definition.TypeList:
		if n.Kind == definition.NodeString {
			return operand{text: n.Text}, at.among(l, closed)
		}
	case definition.TypeSemver:
		if n.Kind == definition.NodeString {
			_, ok := parseVersion([]byte(n.Text))
			if !ok {
				at.fault("%q is not a version, such as 1.10 or 2.0.0-beta.1", brief(n.Text))
			}
			return operand{text: n.Text}, ok
		}
	case definition.TypeDate, definition.TypeTime:
		if n.Kind == definition.NodeString {
			return at.moment(l)
		}
	}
	at.fault("%q is %s: %s is expected, not %s",
		brief(l.name), typeName(l.typ), wanted(l.typ), describe(n))
	return operand{}, false
}

func wanted(t definition.AttrType) string {
	switch t {
	case definition.TypeBool:
		return "true or false"
	case definition.TypeInt:
		return "a whole number"
	case definition.TypeFloat:
		return "a number"
	case definition.TypeSemver:
		return `a version in quotes, such as "1.10",`
	case definition.TypeDate:
		return "a date such as 2026-11-22"
	case definition.TypeTime:
		return "a time such as 2026-11-22T10:00:00+08:00, or a date,"
	}
	return "a text"
}

// among checks a string against the closed list of its attribute.
func (at place) among(l *leaf, closed []string) bool {
	text := at.node.Text
	if len(closed) == 0 || slices.Contains(closed, text) {
		return true
	}
	if l.fold && slices.ContainsFunc(closed, func(v string) bool {
		return strings.EqualFold(v,
			text)
	}) {
		return true
	}
	at.near(text, closed, "%q is no value of %q", brief(text), brief(l.name))
	return false
}

// moment reads a date, or, for a time, a time with its zone or a date.
func (at place) moment(l *leaf) (operand, bool) {
	text := at.node.Text
	if day, ok := parseDate(text); ok {
		return operand{text: text, num: day, date: l.typ == definition.TypeTime}, true
	}
	if l.typ == definition.TypeTime {
		var t time.Time
		err := t.UnmarshalText([]byte(text)) // stricter than time.Parse
		if err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 {
			return operand{text: text, num: t.UnixMilli()}, true
		}
	}
	at.fault("%q is %s: %s is expected, not %s",
		brief(l.name), typeName(l.typ), wanted(l.typ), describe(at.node))
	return operand{}, false
}

// parseDate reads 2026-11-22 as days since 1970-01-01; years 1 to 9999.
func parseDate(text string) (day int64, ok bool) {
	if len(text) != len("2006-01-02") {
		return 0, false
	}
	t, err := time.Parse("2006-01-02", text)
	if err != nil || t.Year() < 1 {
		return 0, false
	}
	return FloorDiv(t.Unix(), dayMs/1000), true
}

// duration reads 90s, 15m, 4h, 30d or 2w as seconds.
func (at place) duration() (operand, bool) {
	resolved, ok := at.resolve()
	if !ok {
		return operand{}, false
	}
	if resolved.node.Kind == definition.NodeString {
		if v, ok := definition.ParseDuration(resolved.node.Text); ok {
			return operand{text: resolved.node.Text, num: v}, true
		}
	}
	at.fault("%s is not a duration: a whole number and s, m, h, d or w, from 1s to ten years, "+
		"such as 90s, 4h, 30d", describe(resolved.node))
	return operand{}, false
}

// count reads a whole number of years or months.
func (at place) count() (operand, bool) {
	resolved, ok := at.resolve()
	if !ok {
		return operand{}, false
	}
	const most = 10_000
	if n := resolved.node; n.Kind == definition.NodeInt && n.Int >= -most && n.Int <= most {
		return operand{text: strconv.FormatInt(n.Int, 10), num: n.Int}, true
	}
	at.fault("a whole number is expected, not %s", describe(resolved.node))
	return operand{}, false
}

// hundredths reads 12.5% as hundredths of a percent.
func (at place) hundredths() (operand, bool) {
	if text := at.node.Text; at.node.Kind == definition.NodeString {
		if v, ok := parsePercent(text); ok {
			return operand{text: text, num: v}, true
		}
	}
	at.fault("%s is not a percentage from 0%% to 100%% with at most two decimals",
		describe(at.node))
	return operand{}, false
}

func parsePercent(text string) (hundredths int64, ok bool) {
	digits, ok := strings.CutSuffix(text, "%")
	whole, rest, point := strings.Cut(digits, ".")
	if !ok || len(whole) < 1 || len(whole) > 3 || len(rest) > 2 || point != (rest != "") {
		return 0, false
	}
	all := whole + (rest + "00")[:2]
	if strings.Trim(all, "0123456789") != "" {
		return 0, false
	}
	v, err := strconv.ParseInt(all, 10, 64)
	return v, err == nil && v <= 10_000
}
