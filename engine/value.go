package engine

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// Bounds of values from outside.
const (
	maxString    = 64 << 10
	maxListItems = 256
	maxExactInt  = 1 << 53 // JSON integers beyond it are not exact everywhere
)

// values converts what a caller wrote into typed values. Its buffer holds what
// must be encoded anew (lists); it is reset per line.
type values struct{ buf []byte }

// typed converts v to the declared type. The result borrows v's bytes or the
// buffer. The Problem has no field; the caller adds it.
func (vs *values) typed(v *RawValue, typ definition.AttrType, allowed []string) (
	storage.Value, *Problem,
) {
	switch typ {
	case definition.TypeBool:
		if v.Kind == RawBool {
			return boolValue(v.Bool), nil
		}
	case definition.TypeInt:
		return intValue(v)
	case definition.TypeFloat:
		return floatValue(v)
	case definition.TypeString:
		if v.Kind == RawString {
			return stringValue(v.Text, allowed)
		}
	case definition.TypeDate:
		if v.Kind == RawString {
			return dateValue(v.Text)
		}
	case definition.TypeTime:
		if v.Kind == RawString {
			return timeValue(v.Text)
		}
	case definition.TypeList:
		if v.Kind == RawList {
			return vs.listValue(v.List)
		}
	case definition.TypeSemver:
		if v.Kind == RawString && validSemver(v.Text) {
			return storage.Value{Kind: storage.KindSemver, Bytes: v.Text}, nil
		}
	}
	return storage.Value{}, wrongType("want " + typ.String() + ", got " + v.Kind.String())
}

// inferred types a value that nobody declared.
func (vs *values) inferred(v *RawValue) (storage.Value, *Problem) {
	switch v.Kind {
	case RawBool:
		return boolValue(v.Bool), nil
	case RawNumber:
		if slices.ContainsFunc(v.Text, func(c byte) bool { return c == '.' || c == 'e' || c == 'E' }) {
			return floatValue(v)
		}
		return intValue(v)
	case RawString:
		return stringValue(v.Text, nil)
	case RawList:
		return vs.listValue(v.List)
	}
	return storage.Value{}, wrongType("an attribute is a bool, number, string or list of strings")
}

func wrongType(detail string) *Problem {
	return &Problem{Class: ProblemInvalid, Code: "wrong_type", Detail: detail}
}

func boolValue(b bool) storage.Value {
	v := storage.Value{Kind: storage.KindBool}
	if b {
		v.Num = 1
	}
	return v
}

func intValue(v *RawValue) (storage.Value, *Problem) {
	if v.Kind != RawNumber {
		return storage.Value{}, wrongType("want int, got " + v.Kind.String())
	}
	n, err := strconv.ParseInt(string(v.Text), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(v.Text), 64)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > maxExactInt {
			return storage.Value{}, wrongType("want a whole number of at most 2^53")
		}
		n = int64(f)
	}
	if n > maxExactInt || n < -maxExactInt {
		return storage.Value{}, wrongType("integers beyond 2^53 are not exact; send a string")
	}
	return storage.Value{Kind: storage.KindInt, Num: uint64(n)}, nil
}

func floatValue(v *RawValue) (storage.Value, *Problem) {
	if v.Kind != RawNumber {
		return storage.Value{}, wrongType("want float, got " + v.Kind.String())
	}
	f, err := strconv.ParseFloat(string(v.Text), 64)
	if err != nil || math.IsInf(f, 0) {
		return storage.Value{}, wrongType("the number does not fit a float64")
	}
	return storage.Value{Kind: storage.KindFloat, Num: math.Float64bits(f)}, nil
}

func stringValue(text []byte, allowed []string) (storage.Value, *Problem) {
	if len(text) > maxString {
		return storage.Value{}, wrongType("a string holds at most 64 KiB")
	}
	if len(allowed) > 0 && !slices.Contains(allowed, string(text)) {
		return storage.Value{}, &Problem{
			Class: ProblemInvalid, Code: "unknown_value",
			Detail: "not one of the declared values" + suggestion(string(text), allowed),
		}
	}
	return storage.Value{Kind: storage.KindString, Bytes: text}, nil
}

// suggestion names the nearest allowed word, if one is near.
func suggestion(word string, among []string) string {
	if s := definition.Suggest(word, among); s != "" {
		return "; did you mean " + strconv.Quote(s) + "?"
	}
	return ""
}

func dateValue(text []byte) (storage.Value, *Problem) {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return storage.Value{}, wrongType("want a date like 2026-11-22")
	}
	return storage.Value{Kind: storage.KindDate, Num: uint64(t.Unix() / 86400)}, nil
}

func timeValue(text []byte) (storage.Value, *Problem) {
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return storage.Value{}, wrongType("want an RFC 3339 time with its zone")
	}
	return storage.Value{Kind: storage.KindTime, Num: uint64(t.UnixMilli())}, nil
}

func (vs *values) listValue(list [][]byte) (storage.Value, *Problem) {
	if len(list) > maxListItems {
		return storage.Value{}, wrongType("a list holds at most 256 strings")
	}
	from := len(vs.buf)
	for _, s := range list {
		vs.buf = binary.AppendUvarint(vs.buf, uint64(len(s)))
		vs.buf = append(vs.buf, s...)
	}
	if len(vs.buf)-from > maxString {
		return storage.Value{}, wrongType("a list holds at most 64 KiB")
	}
	return storage.Value{Kind: storage.KindList, Bytes: vs.buf[from:len(vs.buf):len(vs.buf)]}, nil
}

// validSemver accepts MAJOR[.MINOR[.PATCH]] with an optional -pre and +build.
func validSemver(text []byte) bool {
	core := text
	for i, c := range text {
		if c == '-' || c == '+' {
			core = text[:i]
			break
		}
	}
	dots, digits := 0, 0
	for _, c := range core {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c == '.' && digits > 0:
			dots, digits = dots+1, 0
		default:
			return false
		}
	}
	return digits > 0 && dots <= 2 && len(text) <= 64
}

// String returns the JSON name of k.
func (k RawKind) String() string {
	switch k {
	case RawNull:
		return "null"
	case RawBool:
		return "bool"
	case RawNumber:
		return "number"
	case RawString:
		return "string"
	case RawList:
		return "list"
	}
	return "object"
}
