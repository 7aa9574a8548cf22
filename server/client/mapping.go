package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mapping turns records of a file into lines of POST /v1/users or /v1/events.
// It is made of expressions
//
//	target=source[:type]
//
// target is a member of the line:
//
//	users:  user_id timezone locale tags blacklist attributes.NAME identities.TYPE
//	        addresses.CHANNEL consents.PURPOSE.CHANNEL tags.NAME
//	events: user_id event event_id occurred_at properties.NAME identities.TYPE
//
// source is the name of a column, or of a member of an NDJSON record (a.b for a
// member of a member); "…" around a name that holds an equals sign, a colon or
// quotes; '…' is a constant text; * with the target attributes.* or
// properties.* stands for every column that no other expression names.
//
// type is one of
//
//	string int float bool     of a CSV cell; bool knows true false 1 0 yes no y n t f
//	date  date(LAYOUT)        LAYOUT as of Go's package time; default 2006-01-02
//	time  time(LAYOUT @ZONE)  default RFC 3339; ZONE where the layout has none, default UTC
//	unix  unixms              seconds or milliseconds since 1970
//	list  list(SEPARATOR)     of strings; default separator is a comma
//	json                      the cell is JSON
//
// and string when absent; a member of an NDJSON record without type keeps its
// JSON. tags.NAME of type bool holds or removes the label NAME; of any other
// type it is the value of the enum tag NAME. consents.PURPOSE.CHANNEL is a bool.
// An empty cell, null or an absent member is left out of the line.
type Mapping struct {
	rules []rule
	rest  *rule // of *
	used  map[string]bool
}

type rule struct {
	target   []string // split at dots: member, and up to two names
	column   string
	constant *string
	kind     string // "" = as it is
	detail   string // layout or separator
	zone     *time.Location
}

// ErrMapping reports a --map expression that cannot be understood.
var ErrMapping = errors.New("mapping")

// ParseMapping reads expressions for lines of kind "users" or "events". All
// faults are reported together.
func ParseMapping(kind string, expressions []string) (*Mapping, error) {
	m := &Mapping{used: map[string]bool{}}
	var faults []error
	seen := map[string]bool{}
	for _, e := range expressions {
		r, err := parseRule(kind, e)
		if err == nil && seen[strings.Join(r.target, ".")] && r.target[0] != "tags" {
			err = errors.New("the target comes twice")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%w %q: %w", ErrMapping, e, err))
			continue
		}
		seen[strings.Join(r.target, ".")] = true
		if r.constant == nil && r.column == "*" {
			m.rest = &r
			continue
		}
		m.used[r.column] = true
		m.rules = append(m.rules, r)
	}
	return m, errors.Join(faults...)
}

func parseRule(kind, expression string) (rule, error) {
	target, source, ok := strings.Cut(expression, "=")
	if !ok {
		return rule{}, errors.New("expected target=column[:type]")
	}
	path, err := parseTarget(kind, target)
	if err != nil {
		return rule{}, err
	}
	r := rule{target: path}
	source, err = r.parseType(source)
	if err != nil {
		return rule{}, err
	}
	switch {
	case len(source) >= 2 && source[0] == '\'' && source[len(source)-1] == '\'':
		text := source[1 : len(source)-1]
		r.constant = &text
	case len(source) >= 2 && source[0] == '"' && source[len(source)-1] == '"':
		r.column = source[1 : len(source)-1]
	case source == "":
		return rule{}, errors.New("the column is missing")
	default:
		r.column = source
	}
	star := len(path) == 2 && path[1] == "*"
	if star != (r.constant == nil && r.column == "*") {
		return rule{}, errors.New("* goes with attributes.*=* or properties.*=* only")
	}
	return r, nil
}

// parseTarget splits and checks a target.
func parseTarget(kind, target string) ([]string, error) {
	member, name, named := strings.Cut(target, ".")
	single := []string{"user_id", "timezone", "locale", "tags", "blacklist"}
	several := []string{"attributes", "identities", "addresses", "tags"}
	if kind == "events" {
		single = []string{"user_id", "event", "event_id", "occurred_at"}
		several = []string{"properties", "identities"}
	}
	switch {
	case !named && slices.Contains(single, member):
		return []string{member}, nil
	case named && name != "" && slices.Contains(several, member):
		if name == "*" && member != "attributes" && member != "properties" {
			break
		}
		return []string{member, name}, nil
	case named && member == "consents" && kind == "users":
		purpose, channel, ok := strings.Cut(name, ".")
		if ok && purpose != "" && channel != "" {
			return []string{member, purpose, channel}, nil
		}
	}
	return nil, fmt.Errorf("%q is not a target of %s: targets are %s, and %s with .NAME",
		target, kind, strings.Join(single, " "), strings.Join(several, " "))
}

// typeSuffix matches the type at the end of an expression.
func typeSuffix() *regexp.Regexp {
	return regexp.MustCompile(
		`^(.*?):(string|int|float|bool|date|time|unix|unixms|list|json)(?:\((.*)\))?$`)
}

// parseType cuts the type off a source and gives what is left.
func (r *rule) parseType(source string) (string, error) {
	if strings.HasSuffix(source, `"`) || strings.HasSuffix(source, `'`) {
		return source, nil
	}
	match := typeSuffix().FindStringSubmatch(source)
	if match == nil {
		return source, nil
	}
	r.kind, r.detail, r.zone = match[2], match[3], time.UTC
	switch r.kind {
	case "time":
		layout, zone, ok := strings.Cut(r.detail, " @")
		if ok {
			loc, err := time.LoadLocation(zone)
			if err != nil {
				return "", fmt.Errorf("zone %q: %w", zone, err)
			}
			r.detail, r.zone = layout, loc
		}
		if r.detail == "" {
			r.detail = time.RFC3339Nano
		}
	case "date":
		if r.detail == "" {
			r.detail = time.DateOnly
		}
	case "list":
		if r.detail == "" {
			r.detail = ","
		}
	default:
		if r.detail != "" {
			return "", fmt.Errorf("type %s takes nothing in parentheses", r.kind)
		}
	}
	return match[1], nil
}

// identity maps columns whose names are targets to these targets.
func identity(kind string, columns []string) (*Mapping, error) {
	var expressions []string
	for _, c := range columns {
		if _, err := parseTarget(kind, c); err != nil {
			return nil, fmt.Errorf("%w: column %q: %w; name the columns with --map", ErrMapping, c, err)
		}
		expressions = append(expressions, c+"="+strconv.Quote(c))
	}
	return ParseMapping(kind, expressions)
}

// missing gives the columns that the mapping names and the file does not have.
func (m *Mapping) missing(columns []string) []string {
	var out []string
	for i := range m.rules {
		r := &m.rules[i]
		if r.constant == nil && !slices.Contains(columns, r.column) {
			out = append(out, r.column)
		}
	}
	return out
}

// record is one record of a file: its values by column. A CSV record holds
// strings, an NDJSON one any JSON with numbers as json.Number.
type record struct {
	columns []string
	values  []any
	members map[string]any // of an NDJSON record
}

func (rec *record) value(column string) any {
	if rec.members != nil {
		return member(rec.members, column)
	}
	if i := slices.Index(rec.columns, column); i >= 0 {
		return rec.values[i]
	}
	return nil
}

// member finds a.b.c, trying the whole name first.
func member(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	head, tail, ok := strings.Cut(name, ".")
	if !ok {
		return nil
	}
	inner, ok := m[head].(map[string]any)
	if !ok {
		return nil
	}
	return member(inner, tail)
}

// apply builds the line of one record.
func (m *Mapping) apply(rec *record) (map[string]any, error) {
	doc := map[string]any{}
	for i := range m.rules {
		r := &m.rules[i]
		var v any
		if r.constant != nil {
			v = *r.constant
		} else {
			v = rec.value(r.column)
		}
		if err := r.put(doc, r.target, v); err != nil {
			return nil, err
		}
	}
	if m.rest == nil {
		return doc, nil
	}
	for i, c := range rec.columns {
		if m.used[c] {
			continue
		}
		if err := m.rest.put(doc, []string{m.rest.target[0], c}, rec.values[i]); err != nil {
			return nil, err
		}
	}
	for c, v := range rec.members {
		if m.used[c] {
			continue
		}
		if err := m.rest.put(doc, []string{m.rest.target[0], c}, v); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// put converts a value and stores it at a target of doc.
func (r *rule) put(doc map[string]any, target []string, v any) error {
	if v == nil || v == "" {
		return nil
	}
	v, err := r.convert(v)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(target, "."), err)
	}
	head := target[0]
	if head == "tags" {
		doc["source"] = "import"
	}
	if len(target) == 1 {
		switch head {
		case "tags", "blacklist":
			list, _ := doc[head].([]any)
			if more, ok := v.([]any); ok {
				doc[head] = append(list, more...)
			} else {
				doc[head] = append(list, v)
			}
		default:
			doc[head] = asText(v)
		}
		return nil
	}
	name := target[1]
	switch head {
	case "attributes", "properties", "addresses":
		inner, _ := doc[head].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			doc[head] = inner
		}
		if head == "addresses" {
			v = asTexts(v)
		}
		inner[name] = v
	case "identities":
		appendTo(doc, head, map[string]any{"type": name, "value": asText(v)})
	case "tags":
		switch held := v.(type) {
		case bool:
			if held {
				appendTo(doc, "tags", name)
			} else {
				appendTo(doc, "tags_remove", name)
			}
		default:
			appendTo(doc, "tags", map[string]any{"tag": name, "is": asText(v)})
		}
	case "consents":
		granted, ok := v.(bool)
		if !ok {
			return fmt.Errorf("%s: a consent needs the type bool", strings.Join(target, "."))
		}
		appendTo(doc, head, map[string]any{"purpose": name, "channel": target[2], "granted": granted})
	}
	return nil
}

func appendTo(doc map[string]any, member string, v any) {
	list, _ := doc[member].([]any)
	doc[member] = append(list, v)
}

// asText gives the text of a scalar.
func asText(v any) any {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return v
}

// asTexts is asText for a scalar or each element of a list.
func asTexts(v any) any {
	list, ok := v.([]any)
	if !ok {
		return asText(v)
	}
	for i := range list {
		list[i] = asText(list[i])
	}
	return list
}

// convert gives v the type of the rule.
func (r *rule) convert(v any) (any, error) {
	if r.kind == "" {
		return v, nil
	}
	text, ok := asText(v).(string)
	if !ok {
		if r.kind == "json" || r.kind == "list" {
			return v, nil
		}
		return nil, fmt.Errorf("an object or a list cannot be read as %s", r.kind)
	}
	switch r.kind {
	case "string":
		return text, nil
	case "int":
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		return json.Number(strconv.FormatInt(n, 10)), cause(err, text, "a whole number")
	case "float":
		f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err == nil && (f != f || f-f != 0) {
			err = strconv.ErrRange
		}
		return f, cause(err, text, "a number")
	case "bool":
		return parseBool(text)
	case "json":
		var out any
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		err := dec.Decode(&out)
		return out, cause(err, text, "JSON")
	case "list":
		var out []any
		for part := range strings.SplitSeq(text, r.detail) {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
		return out, nil
	}
	return r.convertTime(text)
}

func (r *rule) convertTime(text string) (any, error) {
	text = strings.TrimSpace(text)
	switch r.kind {
	case "date":
		t, err := time.Parse(r.detail, text)
		return t.Format(time.DateOnly), cause(err, text, "a date")
	case "time":
		t, err := time.ParseInLocation(r.detail, text, r.zone)
		return t.UTC().Format(millisecond()), cause(err, text, "a time")
	}
	n, err := strconv.ParseFloat(text, 64)
	if err == nil && (n != n || n > 1e14 || n < -1e14) {
		err = strconv.ErrRange
	}
	if r.kind == "unix" {
		n *= 1000
	}
	return time.UnixMilli(int64(n)).UTC().Format(millisecond()), cause(err, text, "a time")
}

func millisecond() string { return "2006-01-02T15:04:05.000Z07:00" }

func cause(err error, text, want string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%q is not %s", cut(text), want)
}

// cut shortens a text for a message.
func cut(s string) string {
	if len(s) <= 64 {
		return s
	}
	return strings.ToValidUTF8(s[:64], "") + "…"
}

func parseBool(text string) (any, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "yes", "y", "t":
		return true, nil
	case "false", "0", "no", "n", "f":
		return false, nil
	}
	return nil, fmt.Errorf("%q is not a boolean", cut(text))
}
