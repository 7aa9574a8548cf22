package wire

// ParseTime reads an RFC 3339 time with zone, from the year 0001 to 9999, and
// gives milliseconds since 1970-01-01 UTC; a finer fraction (up to nine digits)
// is cut. It does not allocate.
//
// Source: RFC 3339, section 5.6; leap seconds (:60) are refused.
func ParseTime(s []byte) (ms int64, ok bool) {
	if len(s) < len("2006-01-02T15:04:05Z") || s[4] != '-' || s[7] != '-' ||
		s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	year := number(s[0:4])
	month, day := number(s[5:7]), number(s[8:10])
	hour, minute, second := number(s[11:13]), number(s[14:16]), number(s[17:19])
	if year < 1 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, false
	}
	rest := s[19:]
	milli, rest, ok := fraction(rest)
	if !ok {
		return 0, false
	}
	offset, ok := zoneOffset(rest)
	if !ok {
		return 0, false
	}
	seconds := daysSinceEpoch(year, month, day)*86400 +
		int64(hour)*3600 + int64(minute)*60 + int64(second) - int64(offset)*60
	return seconds*1000 + int64(milli), true
}

// fraction reads an optional ".digits" as milliseconds.
func fraction(s []byte) (milli int, rest []byte, ok bool) {
	if s[0] != '.' {
		return 0, s, true
	}
	n := 1
	for n < len(s) && isDigit(s[n]) {
		if n <= 3 {
			milli = milli*10 + int(s[n]-'0')
		}
		n++
	}
	if n == 1 || n > 10 || n == len(s) {
		return 0, nil, false
	}
	for i := n; i <= 3; i++ {
		milli *= 10
	}
	return milli, s[n:], true
}

// zoneOffset reads Z or ±hh:mm as minutes east of UTC.
func zoneOffset(s []byte) (minutes int, ok bool) {
	if len(s) == 1 && s[0] == 'Z' {
		return 0, true
	}
	if len(s) != 6 || (s[0] != '+' && s[0] != '-') || s[3] != ':' {
		return 0, false
	}
	h, m := number(s[1:3]), number(s[4:6])
	if h < 0 || h > 23 || m < 0 || m > 59 {
		return 0, false
	}
	minutes = h*60 + m
	if s[0] == '-' {
		minutes = -minutes
	}
	return minutes, true
}

// number reads digits; -1 when one of them is not.
func number(s []byte) int {
	n := 0
	for _, c := range s {
		if !isDigit(c) {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSinceEpoch counts the days from 1970-01-01 to a date of the proleptic
// Gregorian calendar.
//
// Source: H. Hinnant, "chrono-compatible low-level date algorithms".
func daysSinceEpoch(year, month, day int) int64 {
	y := int64(year)
	if month <= 2 {
		y--
	}
	era := y / 400 // year >= 1, so y >= 0
	yoe := y - era*400
	doy := (153*int64((month+9)%12)+2)/5 + int64(day) - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}

// dateOf is the inverse of daysSinceEpoch.
func dateOf(days int64) (year, month, day int) {
	z := days + 719468
	era := z / 146097
	if z < 0 {
		era = (z - 146096) / 146097
	}
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp+2)%12 + 1
	year = int(yoe + era*400)
	if month <= 2 {
		year++
	}
	return year, month, day
}
