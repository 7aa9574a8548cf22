package content

import (
	"slices"
	"strings"

	"tact/engine/definition"
)

// filter names one filter. The order groups them: arithmetic, edits with
// arguments, rewrites of the whole text without, and the rest.
type filter uint8

const (
	filterPlus filter = iota + 1
	filterMinus
	filterTimes
	filterDividedBy
	filterModulo
	filterRound
	filterCeil
	filterFloor
	filterAbs
	filterAtLeast
	filterAtMost // last of arithmetic

	filterAppend
	filterPrepend
	filterReplace
	filterReplaceFirst
	filterRemove
	filterRemoveFirst
	filterSlice
	filterTruncate
	filterTruncateWords // last of the edits

	filterUpcase
	filterDowncase
	filterCapitalize
	filterStrip
	filterLstrip
	filterRstrip
	filterURLEncode
	filterURLDecode
	filterEscape
	filterEscapeOnce
	filterStripHTML
	filterNewlineToBr // last of the rewrites

	filterDefault
	filterDate
	filterSize
	filterJSON
)

func (f filter) isNumeric() bool { return f <= filterAtMost }
func (f filter) isEdit() bool    { return f > filterAtMost && f <= filterTruncateWords }
func (f filter) isRewrite() bool { return f > filterTruncateWords && f <= filterNewlineToBr }

// keepsHTML says that the filter leaves escaped HTML escaped: it only takes
// away white space at the ends, or escapes itself.
func (f filter) keepsHTML() bool {
	switch f {
	case filterStrip, filterLstrip, filterRstrip, filterNewlineToBr:
		return true
	}
	return f.escapes()
}

// escapes says that the filter's output has no character that HTML must not see.
func (f filter) escapes() bool {
	return f == filterEscape || f == filterEscapeOnce
}

// shape says how a filter is written.
type shape struct {
	name     string
	filter   filter
	min, max int  // arguments
	numbers  uint // bit i: argument i is a number
}

// shapes lists every filter of the language, by name.
func shapes() []shape {
	return []shape{
		{"abs", filterAbs, 0, 0, 0},
		{"append", filterAppend, 1, 1, 0},
		{"at_least", filterAtLeast, 1, 1, 1},
		{"at_most", filterAtMost, 1, 1, 1},
		{"capitalize", filterCapitalize, 0, 0, 0},
		{"ceil", filterCeil, 0, 0, 0},
		{"date", filterDate, 1, 1, 0},
		{"default", filterDefault, 1, 1, 0},
		{"divided_by", filterDividedBy, 1, 1, 1},
		{"downcase", filterDowncase, 0, 0, 0},
		{"escape", filterEscape, 0, 0, 0},
		{"escape_once", filterEscapeOnce, 0, 0, 0},
		{"floor", filterFloor, 0, 0, 0},
		{"json", filterJSON, 0, 0, 0},
		{"lstrip", filterLstrip, 0, 0, 0},
		{"minus", filterMinus, 1, 1, 1},
		{"modulo", filterModulo, 1, 1, 1},
		{"newline_to_br", filterNewlineToBr, 0, 0, 0},
		{"plus", filterPlus, 1, 1, 1},
		{"prepend", filterPrepend, 1, 1, 0},
		{"remove", filterRemove, 1, 1, 0},
		{"remove_first", filterRemoveFirst, 1, 1, 0},
		{"replace", filterReplace, 1, 2, 0},
		{"replace_first", filterReplaceFirst, 1, 2, 0},
		{"round", filterRound, 0, 1, 1},
		{"rstrip", filterRstrip, 0, 0, 0},
		{"size", filterSize, 0, 0, 0},
		{"slice", filterSlice, 1, 2, 3},
		{"strip", filterStrip, 0, 0, 0},
		{"strip_html", filterStripHTML, 0, 0, 0},
		{"times", filterTimes, 1, 1, 1},
		{"truncate", filterTruncate, 0, 2, 1},
		{"truncatewords", filterTruncateWords, 0, 2, 1},
		{"upcase", filterUpcase, 0, 0, 0},
		{"url_decode", filterURLDecode, 0, 0, 0},
		{"url_encode", filterURLEncode, 0, 0, 0},
	}
}

// shapeOf finds a filter by name; else it returns the nearest name, or "".
func shapeOf(name string) (found shape, ok bool, nearest string) {
	all := shapes()
	i, ok := slices.BinarySearchFunc(all, name, func(s shape, name string) int {
		return strings.Compare(s.name, name)
	})
	if ok {
		return all[i], true, ""
	}
	if other := filterOfOtherLanguages(strings.ToLower(name)); other != "" {
		return shape{}, false, other
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].name
	}
	return shape{}, false, definition.Suggest(name, names)
}

// filterOfOtherLanguages translates what people know from Jinja, Twig,
// Handlebars and Go.
func filterOfOtherLanguages(name string) string {
	switch name {
	case "upper", "uppercase", "toupper":
		return "upcase"
	case "lower", "lowercase", "tolower":
		return "downcase"
	case "trim":
		return "strip"
	case "length", "len", "count":
		return "size"
	case "urlencode", "urlquery", "uri_encode":
		return "url_encode"
	case "nl2br":
		return "newline_to_br"
	case "striptags":
		return "strip_html"
	case "html", "e", "h", "escape_html":
		return "escape"
	case "or", "fallback":
		return "default"
	case "add":
		return "plus"
	case "subtract", "sub":
		return "minus"
	case "multiply", "mul":
		return "times"
	case "divide", "div":
		return "divided_by"
	case "mod":
		return "modulo"
	case "to_json", "tojson":
		return "json"
	case "concat":
		return "append"
	case "substring", "substr":
		return "slice"
	case "title":
		return "capitalize"
	case "strftime", "date_format", "format_date":
		return "date"
	}
	return ""
}
