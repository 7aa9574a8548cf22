package content

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// date writes a date or a time by an strftime pattern. Numbers are seconds
// since 1970; times are shown in the scratch's zone. A text is read as
// 2026-11-22, 2026/11/22 or one of these with a time of day and a zone; what
// cannot be read comes back as it is, and so does nil and an empty pattern,
// as in Liquid. There is no "now": a message has no clock.
func (r *render) date(in, pattern value) value {
	text := r.textOf(pattern)
	t, ok := r.timeOf(in)
	if !ok || len(text) == 0 {
		return in
	}
	begin := len(r.text)
	r.text = appendStrftime(r.text, text, t)
	return textValue(r.since(begin))
}

// timeOf reads a value as a time in the zone to write it in. false also for
// years outside 0 … 9999.
func (r *render) timeOf(v value) (time.Time, bool) {
	const farthest = 253402300800 // seconds at the start of the year 10000
	seconds, nanos := int64(0), int64(0)
	zone := r.zone
	switch v.kind {
	case kindDate:
		if v.int() > farthest/86400 || v.int() < -farthest/86400 {
			return time.Time{}, false
		}
		seconds, zone = v.int()*86400, time.UTC
	case kindTime:
		seconds, nanos = v.int()/1000, v.int()%1000*1e6
	case kindInt:
		seconds = v.int()
	case kindFloat:
		seconds = int64(min(max(math.Floor(v.float()), -farthest), farthest))
	case kindText:
		if n, err := parseNumber(v.text); err == nil && isDigits(v.text) {
			seconds = n.int()
			break
		}
		return parseTime(v.text)
	default:
		return time.Time{}, false
	}
	if seconds >= farthest || seconds < -62167219200 { // 0000-01-01
		return time.Time{}, false
	}
	t := time.Unix(seconds, nanos)
	if zone == nil {
		return t.UTC(), true
	}
	return t.In(zone), true
}

func isDigits(text []byte) bool {
	return len(text) > 0 && skipDigits(text, 0) == len(text)
}

// parseTime reads 2026-11-22 with an optional time of day (T09:30, :30, .5) and
// an optional zone (Z, +08:00, +0800); without one it is UTC.
func parseTime(text []byte) (time.Time, bool) {
	var f fields
	f.rest = bytes.TrimSpace(text)
	year := f.number(4, 4)
	separator := f.oneOf("-/")
	month := f.number(1, 2)
	if separator == 0 || f.oneOf("-/") != separator {
		return time.Time{}, false
	}
	day := f.number(1, 2)
	var hour, minute, second, nanos, east int
	if len(f.rest) > 0 {
		if f.oneOf("T ") == 0 {
			return time.Time{}, false
		}
		hour = f.number(1, 2)
		if f.oneOf(":") == 0 {
			return time.Time{}, false
		}
		minute = f.number(2, 2)
		if f.oneOf(":") != 0 {
			second = f.number(2, 2)
			if f.oneOf(".") != 0 {
				nanos = f.fraction()
			}
		}
		east = f.zone()
	}
	if f.bad || len(f.rest) > 0 || month < 1 || month > 12 || day < 1 || day > 31 ||
		hour > 24 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC)
	if east == 0 {
		return t, true
	}
	return t.Add(-time.Duration(east) * time.Minute).In(time.FixedZone("", east*60)), true
}

// fields reads a text from the left; bad stays set after the first misfit.
type fields struct {
	rest []byte
	bad  bool
}

// number reads least to most digits.
func (f *fields) number(least, most int) int {
	n, i := 0, 0
	for ; i < most && i < len(f.rest) && f.rest[i] >= '0' && f.rest[i] <= '9'; i++ {
		n = n*10 + int(f.rest[i]-'0')
	}
	f.bad = f.bad || i < least
	f.rest = f.rest[i:]
	return n
}

// oneOf takes the next byte when it is one of those in set, else it gives 0.
func (f *fields) oneOf(set string) byte {
	if len(f.rest) == 0 || bytes.IndexByte([]byte(set), f.rest[0]) < 0 {
		return 0
	}
	c := f.rest[0]
	f.rest = f.rest[1:]
	return c
}

// fraction reads the digits behind the point as nanoseconds.
func (f *fields) fraction() int {
	nanos, scale, i := 0, 1e8, 0
	for ; i < len(f.rest) && f.rest[i] >= '0' && f.rest[i] <= '9'; i++ {
		nanos += int(float64(f.rest[i]-'0') * scale)
		scale /= 10
	}
	f.bad = f.bad || i == 0 || i > 9
	f.rest = f.rest[i:]
	return nanos
}

// zone reads minutes east of UTC.
func (f *fields) zone() int {
	f.oneOf(" ")
	sign := f.oneOf("Z+-")
	if sign == 0 || sign == 'Z' {
		return 0
	}
	minutes := f.number(2, 2) * 60
	f.oneOf(":")
	minutes += f.number(2, 2)
	f.bad = f.bad || minutes > 24*60
	if sign == '-' {
		return -minutes
	}
	return minutes
}

// appendStrftime writes t by a pattern. It knows the directives of
// strftimeField with the flag - (no padding); an unknown one stays as it is
// written (Compile refuses it in a pattern it can see).
//
// Source: Ruby's Time#strftime, which Liquid's date filter calls.
func appendStrftime[T []byte | string](dst []byte, pattern T, t time.Time) []byte {
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			dst = append(dst, pattern[i])
			continue
		}
		at, bare := i+1, false
		if at < len(pattern) && pattern[at] == '-' {
			at, bare = at+1, true
		}
		if at == len(pattern) {
			return append(dst, pattern[i:]...)
		}
		longer, ok := appendField(dst, pattern[at], bare, t)
		if !ok {
			longer = append(dst, pattern[i:at+1]...)
		}
		dst, i = longer, at
	}
	return dst
}

// appendField writes one directive; false when it is unknown.
func appendField(dst []byte, directive byte, bare bool, t time.Time) ([]byte, bool) {
	if width, number, ok := numericField(directive, t); ok {
		pad := byte('0')
		if directive == 'e' || directive == 'k' || directive == 'l' {
			pad = ' '
		}
		if bare {
			width = 0
		}
		return appendPadded(dst, number, width, pad), true
	}
	switch directive {
	case 'B':
		return append(dst, t.Month().String()...), true
	case 'b', 'h':
		return append(dst, t.Month().String()[:3]...), true
	case 'A':
		return append(dst, t.Weekday().String()...), true
	case 'a':
		return append(dst, t.Weekday().String()[:3]...), true
	case 'p':
		return append(dst, "AMPM"[t.Hour()/12*2:][:2]...), true
	case 'P':
		return append(dst, "ampm"[t.Hour()/12*2:][:2]...), true
	case 'F':
		return appendStrftime(dst, "%Y-%m-%d", t), true
	case 'T', 'X':
		return appendStrftime(dst, "%H:%M:%S", t), true
	case 'R':
		return appendStrftime(dst, "%H:%M", t), true
	case 'D', 'x':
		return appendStrftime(dst, "%m/%d/%y", t), true
	case 'c':
		return appendStrftime(dst, "%a %b %e %H:%M:%S %Y", t), true
	case 'Z':
		name, _ := t.Zone()
		return append(dst, name...), true
	case 'z':
		return appendZone(dst, t), true
	case '%':
		return append(dst, '%'), true
	}
	return dst, false
}

// numericField gives the number of a directive and its usual width.
func numericField(directive byte, t time.Time) (width, number int, ok bool) {
	switch directive {
	case 'Y':
		return 4, t.Year(), true
	case 'y':
		return 2, t.Year() % 100, true
	case 'm':
		return 2, int(t.Month()), true
	case 'd', 'e':
		return 2, t.Day(), true
	case 'H', 'k':
		return 2, t.Hour(), true
	case 'I', 'l':
		return 2, (t.Hour()+11)%12 + 1, true
	case 'M':
		return 2, t.Minute(), true
	case 'S':
		return 2, t.Second(), true
	case 'L':
		return 3, t.Nanosecond() / 1e6, true
	case 'j':
		return 3, t.YearDay(), true
	case 'U': // week of the year, the first Sunday starts week 1
		return 2, (t.YearDay() + 6 - int(t.Weekday())) / 7, true
	case 'W': // the same with Monday
		return 2, (t.YearDay() + 6 - (int(t.Weekday())+6)%7) / 7, true
	case 'u':
		return 1, (int(t.Weekday())+6)%7 + 1, true
	case 'w':
		return 1, int(t.Weekday()), true
	case 's':
		return 1, int(t.Unix()), true
	}
	return 0, 0, false
}

func appendPadded(dst []byte, number, width int, pad byte) []byte {
	begin := len(dst)
	for range width {
		dst = append(dst, pad)
	}
	var buffer [20]byte
	digits := strconv.AppendInt(buffer[:0], int64(number), 10)
	if len(digits) >= width {
		return append(dst[:begin], digits...)
	}
	copy(dst[len(dst)-len(digits):], digits)
	return dst
}

func appendZone(dst []byte, t time.Time) []byte {
	_, east := t.Zone()
	sign := byte('+')
	if east < 0 {
		sign, east = '-', -east
	}
	dst = append(dst, sign)
	dst = appendPadded(dst, east/3600, 2, '0')
	return appendPadded(dst, east/60%60, 2, '0')
}
