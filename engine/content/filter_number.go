package content

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"
)

// number applies an arithmetic filter. Two whole numbers give a whole number,
// otherwise the result is a float. Sums, products, exact quotients and
// rounding are done in decimal while 18 digits suffice, as Liquid does with
// BigDecimal: 19.9 times 3 is 59.7, not 59.699999999999996. A text counts as
// the number it starts with, and as 0 when there is none; nil and booleans
// count as 0; whole numbers beyond 64 bits are refused (Ruby's are unbounded).
//
// Source: Shopify/liquid lib/liquid/standardfilters.rb, Utils.to_number.
func (r *render) number(c *call, in value, args [2]value) (value, error) {
	x, err := numberOf(in)
	if err != nil {
		return value{}, err
	}
	y, err := numberOf(args[0])
	if err != nil {
		return value{}, err
	}
	switch c.filter {
	case filterAbs:
		if x.kind == kindFloat {
			return floatValue(math.Abs(x.float())), nil
		}
		if x.int() == math.MinInt64 {
			return value{}, errRange
		}
		return intValue(max(x.int(), -x.int())), nil
	case filterAtLeast:
		if lessNumber(x, y) {
			return y, nil
		}
		return x, nil
	case filterAtMost:
		if lessNumber(y, x) {
			return y, nil
		}
		return x, nil
	case filterRound:
		return roundNumber(x, wholeOf(y), roundHalfAway)
	case filterCeil:
		return roundNumber(x, 0, roundUp)
	case filterFloor:
		return roundNumber(x, 0, roundDown)
	}
	if x.kind == kindInt && y.kind == kindInt {
		return wholeArithmetic(c.filter, x.int(), y.int())
	}
	return decimalArithmetic(c.filter, x, y)
}

// numberOf reads a value as a whole number or a float.
func numberOf(v value) (value, error) {
	switch v.kind {
	case kindInt, kindFloat:
		return v, nil
	case kindDate, kindTime:
		return value{}, errNotOne
	case kindText:
		return parseNumber(v.text)
	}
	return intValue(0), nil
}

// parseNumber reads "12", " -3.50 ", and "12 apples" as 12.
func parseNumber(text []byte) (value, error) {
	text = bytes.TrimSpace(text)
	end := 0
	if end < len(text) && (text[end] == '-' || text[end] == '+') {
		end++
	}
	first := end
	end = skipDigits(text, end)
	if end == first {
		return intValue(0), nil
	}
	if end < len(text) && text[end] == '.' {
		if last := skipDigits(text, end+1); last == len(text) && last > end+1 {
			f, err := strconv.ParseFloat(string(text), 64)
			if err != nil {
				return value{}, errRange
			}
			return floatValue(f), nil
		}
	}
	i, err := strconv.ParseInt(string(text[:end]), 10, 64)
	if err != nil {
		return value{}, errRange
	}
	return intValue(i), nil
}

func skipDigits(text []byte, i int) int {
	for i < len(text) && text[i] >= '0' && text[i] <= '9' {
		i++
	}
	return i
}

// wholeOf gives a number without its fraction, bounded to 32 bits.
func wholeOf(v value) int {
	if v.kind == kindInt {
		return int(min(max(v.int(), math.MinInt32), math.MaxInt32))
	}
	return int(min(max(v.float(), math.MinInt32), math.MaxInt32))
}

// positionOf reads the length or position that an edit takes: a whole number, or
// a text that is one. Liquid refuses everything else too.
func positionOf(v value) (int, error) {
	if v.kind == kindText && isDigits(bytes.TrimPrefix(v.text, []byte("-"))) {
		var err error
		if v, err = parseNumber(v.text); err != nil {
			return 0, err
		}
	}
	if v.kind != kindInt {
		return 0, errInteger
	}
	return wholeOf(v), nil
}

func lessNumber(x, y value) bool {
	if x.kind == kindInt && y.kind == kindInt {
		return x.int() < y.int()
	}
	return asFloat(x) < asFloat(y)
}

func asFloat(v value) float64 {
	if v.kind == kindInt {
		return float64(v.int())
	}
	return v.float()
}

// wholeArithmetic computes with whole numbers: a quotient is rounded down, and
// a remainder has the sign of the divisor, as in Ruby.
func wholeArithmetic(f filter, x, y int64) (value, error) {
	switch f {
	case filterMinus:
		if z := x - y; (z < x) == (y > 0) {
			return intValue(z), nil
		}
		return value{}, errRange
	case filterPlus:
		if z := x + y; (z > x) == (y > 0) {
			return intValue(z), nil
		}
		return value{}, errRange
	case filterTimes:
		z, ok := timesInt(x, y)
		if !ok {
			return value{}, errRange
		}
		return intValue(z), nil
	}
	if y == 0 {
		return value{}, errDivision
	}
	if x == math.MinInt64 && y == -1 {
		return value{}, errRange
	}
	quotient, rest := x/y, x%y
	if rest != 0 && (rest < 0) != (y < 0) {
		quotient, rest = quotient-1, rest+y
	}
	if f == filterModulo {
		return intValue(rest), nil
	}
	return intValue(quotient), nil
}

func timesInt(x, y int64) (int64, bool) {
	hi, lo := bits.Mul64(magnitude(x), magnitude(y))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if (x < 0) != (y < 0) {
		return -int64(lo), true
	}
	return int64(lo), true
}

func magnitude(x int64) uint64 {
	if x < 0 {
		return -uint64(x)
	}
	return uint64(x)
}

// decimal is digits × 10^exponent.
type decimal struct {
	digits   int64
	exponent int
}

// decimalOf reads a number as the shortest decimal that stands for it.
func decimalOf(v value) decimal {
	if v.kind == kindInt {
		return decimal{digits: v.int()}
	}
	var buffer [32]byte
	text := strconv.AppendFloat(buffer[:0], v.float(), 'e', -1, 64) // -d.ddde±xx
	var d decimal
	negative, behind := false, false
	i := 0
	for ; text[i] != 'e'; i++ {
		switch c := text[i]; {
		case c == '-':
			negative = true
		case c == '.':
			behind = true
		default:
			d.digits = d.digits*10 + int64(c-'0') // at most 17 digits
			if behind {
				d.exponent--
			}
		}
	}
	exponent, _ := strconv.Atoi(string(text[i+1:])) // written by AppendFloat just above
	d.exponent += exponent
	if negative {
		d.digits = -d.digits
	}
	return d
}

// float returns the float64 nearest to d.
func (d decimal) float() float64 {
	// Both the digits and the power are exact floats, so one rounding remains.
	if magnitude(d.digits) < 1<<53 && d.exponent >= -22 && d.exponent <= 22 {
		if d.exponent < 0 {
			return float64(d.digits) / math.Pow10(-d.exponent)
		}
		return float64(d.digits) * math.Pow10(d.exponent)
	}
	var buffer [40]byte
	text := strconv.AppendInt(buffer[:0], d.digits, 10)
	text = append(text, 'e')
	text = strconv.AppendInt(text, int64(d.exponent), 10)
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return math.Inf(1) // refused by the caller as out of range
	}
	return f
}

// decimalArithmetic computes plus, minus, times, divided_by and modulo when one
// side is a float: exactly in decimal when the digits fit, else in float64.
func decimalArithmetic(f filter, x, y value) (value, error) {
	if (f == filterDividedBy || f == filterModulo) && asFloat(y) == 0 {
		return value{}, errDivision
	}
	if d, ok := exactArithmetic(f, decimalOf(x), decimalOf(y)); ok {
		return checkFloat(d.float())
	}
	a, b := asFloat(x), asFloat(y)
	switch f {
	case filterPlus:
		return checkFloat(a + b)
	case filterMinus:
		return checkFloat(a - b)
	case filterTimes:
		return checkFloat(a * b)
	case filterDividedBy:
		return checkFloat(a / b)
	}
	rest := math.Mod(a, b)
	if rest != 0 && (rest < 0) != (b < 0) {
		rest += b
	}
	return checkFloat(rest)
}

// exactArithmetic computes in decimal; false means that the digits do not fit.
func exactArithmetic(f filter, x, y decimal) (decimal, bool) {
	switch f {
	case filterTimes:
		digits, ok := timesInt(x.digits, y.digits)
		return decimal{digits, x.exponent + y.exponent}, ok
	case filterDividedBy:
		return exactQuotient(x, y)
	}
	x, y, ok := aligned(x, y)
	if !ok {
		return decimal{}, false
	}
	v, err := wholeArithmetic(f, x.digits, y.digits)
	return decimal{v.int(), x.exponent}, err == nil
}

// exactQuotient divides when the quotient ends: 0.3 / 0.1, 10 / 4.0.
func exactQuotient(x, y decimal) (decimal, bool) {
	for y.digits != -1 || x.digits != math.MinInt64 {
		if x.digits%y.digits == 0 {
			return decimal{x.digits / y.digits, x.exponent - y.exponent}, true
		}
		var ok bool
		if x.digits, ok = timesInt(x.digits, 10); !ok {
			return decimal{}, false
		}
		x.exponent--
	}
	return decimal{}, false
}

// aligned brings two decimals to one exponent.
func aligned(x, y decimal) (decimal, decimal, bool) {
	lift := func(d decimal, exponent int) (decimal, bool) {
		if d.digits == 0 {
			return decimal{0, exponent}, true
		}
		for d.exponent > exponent {
			var ok bool
			if d.digits, ok = timesInt(d.digits, 10); !ok {
				return d, false
			}
			d.exponent--
		}
		return d, true
	}
	exponent := min(x.exponent, y.exponent)
	x, okX := lift(x, exponent)
	y, okY := lift(y, exponent)
	return x, y, okX && okY
}

// rounding says which way a number goes.
type rounding uint8

const (
	roundHalfAway rounding = iota // a half and more away from zero
	roundUp
	roundDown
)

// roundNumber rounds to the given digits behind the point (before it when
// negative). Without digits behind the point the result is a whole number.
func roundNumber(x value, places int, way rounding) (value, error) {
	if x.kind == kindInt && places >= 0 {
		return x, nil
	}
	d := decimalOf(x)
	if d.exponent < -places {
		d = decimal{dropDigits(d.digits, -places-d.exponent, way), -places}
	}
	if places > 0 {
		return checkFloat(d.float())
	}
	for d.exponent > 0 && d.digits != 0 {
		var ok bool
		if d.digits, ok = timesInt(d.digits, 10); !ok {
			return value{}, errRange
		}
		d.exponent--
	}
	return intValue(d.digits), nil
}

// dropDigits divides by 10^drop, drop > 0, and rounds.
func dropDigits(digits int64, drop int, way rounding) int64 {
	power := uint64(math.MaxUint64) // above twice any magnitude: everything is rest
	if drop < 20 {
		power = 1
		for range drop {
			power *= 10
		}
	}
	kept, rest := magnitude(digits)/power, magnitude(digits)%power
	switch {
	case way == roundHalfAway && rest >= power-rest,
		way == roundUp && rest > 0 && digits > 0,
		way == roundDown && rest > 0 && digits < 0:
		kept++
	}
	if digits < 0 {
		return -int64(kept)
	}
	return int64(kept)
}
