package definition

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// id reads an id; what it cannot use is a fault and "".
func (f field) id() string {
	text := f.text()
	if text == "" || isID(text) {
		return text
	}
	f.fault("%q is not an id: a-z, 0-9, _ and -, at most 64, starting with a letter or digit",
		Shorten(text))
	return ""
}

// IsID tells whether s is an id as documents write one: a-z, 0-9, _ and -, at
// most 64, starting with a letter or digit.
func IsID(s string) bool { return isID(s) }

func isID(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '-'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// group reads an offer group: one to six ids joined by a slash.
func (f field) group() string {
	const deepest = 6
	text := f.text()
	if text == "" {
		return ""
	}
	parts := strings.Split(text, "/")
	ok := len(parts) <= deepest
	for _, p := range parts {
		ok = ok && isID(p)
	}
	if !ok {
		f.fault("%q is not an offer group: one to %d ids joined by /", Shorten(text), deepest)
		return ""
	}
	return text
}

// dataName reads the name of a tag, attribute, event or property.
func (f field) dataName() string {
	text := f.text()
	if text == "" {
		return ""
	}
	if wrong := nameFault(text); wrong != "" {
		f.fault("%q is not a name: %s", Shorten(text), wrong)
		return ""
	}
	return text
}

// nameFault says why s cannot name a tag, attribute, event or property.
func nameFault(s string) string {
	const longest = 64
	switch {
	case !utf8.ValidString(s):
		return "broken UTF-8"
	case s == "" || utf8.RuneCountInString(s) > longest:
		return "1 to 64 characters are expected"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "control characters are not allowed"
	case !norm.NFC.IsNormalString(s):
		return "it is not in Unicode normal form C"
	}
	return ""
}

// longestDuration keeps sums of times inside the calendar: ten years.
const longestDuration = 3653 * 24 * time.Hour

// duration reads 90s, 15m, 4h, 30d or 2w and gives seconds; 0 with a fault.
func (f field) duration() int64 {
	text := f.text()
	if text == "" {
		return 0
	}
	if v, ok := ParseDuration(text); ok {
		return v
	}
	f.fault("%q is not a duration: a whole number and s, m, h, d or w, from 1s to ten years, "+
		"such as 90s, 4h, 30d", Shorten(text))
	return 0
}

// ParseDuration reads 90s, 15m, 4h, 30d or 2w, from a second to ten years, as
// seconds.
func ParseDuration(text string) (seconds int64, ok bool) {
	digits := countDigits(text)
	if digits == 0 || digits > 9 || len(text) != digits+1 || text[0] == '0' {
		return 0, false
	}
	v, err := strconv.ParseInt(text[:digits], 10, 64)
	if err != nil {
		return 0, false
	}
	switch text[digits] {
	case 's':
	case 'm':
		v *= 60
	case 'h':
		v *= 3600
	case 'd':
		v *= 24 * 3600
	case 'w':
		v *= 7 * 24 * 3600
	default:
		return 0, false
	}
	return v, v <= int64(longestDuration/time.Second)
}

// moment reads a time with its zone and gives milliseconds since 1970; 0 with
// a fault. Years 1971 to 2199, so that 0 never means a time.
func (f field) moment() int64 {
	text := f.text()
	if text == "" {
		return 0
	}
	var t time.Time
	if err := t.UnmarshalText([]byte(text)); err != nil { // stricter than time.Parse
		f.fault("%q is not a time with a zone, such as 2026-11-22T10:00:00+08:00", Shorten(text))
		return 0
	}
	if y := t.UTC().Year(); y < 1971 || y > 2199 {
		f.fault("%q is not in the years 1971 to 2199", Shorten(text))
		return 0
	}
	return t.UnixMilli()
}

// minute reads HH:MM and gives minutes after midnight, at most most; -1 with a
// fault. 24:00 is the end of the day.
func (f field) minute(most int) int {
	text := f.text()
	if text == "" {
		return -1
	}
	if len(text) == 5 && text[2] == ':' && countDigits(text[:2]) == 2 && countDigits(text[3:]) == 2 {
		h, m := int(text[0]-'0')*10+int(text[1]-'0'), int(text[3]-'0')*10+int(text[4]-'0')
		if m < 60 && h*60+m <= most {
			return h*60 + m
		}
	}
	f.fault("%q is not a time of day from 00:00 to %02d:%02d", Shorten(text), most/60, most%60)
	return -1
}

// percent reads 12.5% and gives hundredths of a percent; -1 with a fault.
func (f field) percent() int {
	const whole = 10_000
	if f.node.Kind == NodeInt || f.node.Kind == NodeFloat {
		if !f.node.bad {
			f.fault("a percentage is expected, not the number %s: write %s%%",
				Shorten(f.node.Text), Shorten(f.node.Text))
		}
		return -1
	}
	text := f.text()
	if text == "" {
		return -1
	}
	digits, ok := strings.CutSuffix(text, "%")
	front, back, point := strings.Cut(digits, ".")
	ok = ok && len(front) > 0 && len(front) <= 3 && len(back) <= 2 && point == (back != "") &&
		countDigits(front) == len(front) && countDigits(back) == len(back) &&
		(front[0] != '0' || front == "0")
	if ok {
		v, err := strconv.Atoi(front + (back + "00")[:2])
		if err == nil && v <= whole {
			return v
		}
	}
	f.fault("%q is not a percentage from 0%% to 100%% with at most two decimals", Shorten(text))
	return -1
}

// percentRange reads [0%, 50%].
func (f field) percentRange() Range {
	if !f.expect(NodeList, "a range such as [0%, 50%]") {
		return Range{}
	}
	ends := f.items(len(f.node.List))
	if len(ends) != 2 {
		f.fault("a range has two ends, such as [0%%, 50%%]")
		return Range{}
	}
	r := Range{ends[0].percent(), ends[1].percent()}
	if r.From < 0 || r.Until < 0 {
		return Range{}
	}
	if r.From >= r.Until {
		f.fault("the range [%s, %s] is empty", ends[0].node.Text, ends[1].node.Text)
		return Range{}
	}
	return r
}

func (r Range) String() string {
	return fmt.Sprintf("[%s, %s]", hundredths(r.From), hundredths(r.Until))
}

func hundredths(v int) string {
	return strconv.FormatFloat(float64(v)/100, 'f', -1, 64) + "%"
}

// zone reads an IANA zone name that this build knows; "" with a fault.
func (f field) zone() string {
	text := f.text()
	if text == "" {
		return ""
	}
	if _, err := time.LoadLocation(text); err != nil || text == "Local" {
		f.fault("%q is not a time zone, such as Asia/Shanghai", Shorten(text))
		return ""
	}
	return text
}

// locale reads a language tag such as zh-CN.
func (f field) locale() string {
	text := f.text()
	if text == "" || isLocale(text) {
		return text
	}
	f.fault("%q is not a language, such as en or zh-CN", Shorten(text))
	return ""
}

// isLocale takes a language of two or three letters and up to four subtags.
func isLocale(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) > 5 || len(parts[0]) < 2 || len(parts[0]) > 3 || !allLetters(parts[0]) {
		return false
	}
	for _, p := range parts[1:] {
		if p == "" || len(p) > 8 {
			return false
		}
		for i := range len(p) {
			if (p[i] < '0' || p[i] > '9') && !allLetters(p[i:i+1]) {
				return false
			}
		}
	}
	return true
}

func allLetters(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}
