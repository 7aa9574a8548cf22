package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"tact/engine"
)

// read walks one value with the reader as the decoders do.
func read(src []byte) *Fault {
	var r reader
	r.reset(src)
	r.skip()
	return r.finish()
}

func TestReaderFaults(t *testing.T) {
	f := func(src, code, field string, offset int) {
		t.Helper()
		got := read([]byte(src))
		if got == nil {
			t.Fatalf("%q was accepted", src)
		}
		if got.Code != code || got.Field != field || got.Offset != offset {
			t.Errorf("%q: got %s field %q at %d, want %s field %q at %d",
				src, got.Code, got.Field, got.Offset, code, field, offset)
		}
	}
	f(``, CodeTruncated, "", 0)
	f(` `, CodeTruncated, "", 1)
	f(`{`, CodeTruncated, "", 1)
	f(`{"a"`, CodeTruncated, "a", 4)
	f(`{"a":`, CodeTruncated, "a", 5)
	f(`{"a":1`, CodeTruncated, "a", 6)
	f(`{"a":1,`, CodeTruncated, "a", 7)
	f(`{"a":1,}`, CodeInvalidJSON, "", 7)
	f(`{"a" 1}`, CodeInvalidJSON, "a", 5)
	f(`{"a":1 "b":2}`, CodeInvalidJSON, "", 7)
	f(`{a:1}`, CodeInvalidJSON, "", 1)
	f(`[1,]`, CodeInvalidJSON, "[0]", 3)
	f(`[1 2]`, CodeInvalidJSON, "[0]", 3)
	f(`[,1]`, CodeInvalidJSON, "[0]", 1)
	f(`{"a":[1,{"b":tru}]}`, CodeInvalidJSON, "a[1].b", 13)
	f(`{"a":[1,{"b":tru`, CodeTruncated, "a[1].b", 16)
	f(`1 2`, CodeTrailingBytes, "", 2)
	f(`01`, CodeTrailingBytes, "", 1)
	f(`-`, CodeTruncated, "", 1)
	f(`-x`, CodeInvalidJSON, "", 1)
	f(`1.`, CodeTruncated, "", 2)
	f(`1.e3`, CodeInvalidJSON, "", 2)
	f(`1e+`, CodeTruncated, "", 3)
	f(`+1`, CodeInvalidJSON, "", 0)
	f(`NaN`, CodeInvalidJSON, "", 0)
	f(`nul`, CodeTruncated, "", 3)
	f("\"a\nb\"", CodeInvalidJSON, "", 2)
	f(`"abc`, CodeTruncated, "", 4)
	f(`"\x"`, CodeInvalidJSON, "", 1)
	f(`"\u12g4"`, CodeInvalidJSON, "", 1)
	f(`"\ud800"`, CodeInvalidUTF8, "", 7)
	f(`"\ud800\u0041"`, CodeInvalidUTF8, "", 7)
	f(`"\udc00\ud800"`, CodeInvalidUTF8, "", 7)
	f("\"\xff\"", CodeInvalidUTF8, "", 0)
	f("\"\\n\xc3\"", CodeInvalidUTF8, "", 0)
	f("{\"\xff\":1}", CodeInvalidUTF8, "", 1)
	f(`{"a":1,"a":2}`, CodeDuplicate, "a", 10)
	f(`{"a":1,"\u0061":2}`, CodeDuplicate, "a", 15)
	f(`{"x":{"a":1,"b":2,"a":3}}`, CodeDuplicate, "x.a", 21)
	f(strings.Repeat("[", 33), CodeTooDeep, strings.Repeat("[0]", 32), 32)
	f("["+strings.Repeat("9", 65)+"]", CodeNumber, "[0]", 66)
}

// A member of another object, or of a closed one, is not a duplicate.
func TestReaderAccepts(t *testing.T) {
	f := func(src string) {
		t.Helper()
		if fault := read([]byte(src)); fault != nil {
			t.Errorf("%q: %v", src, fault)
		}
	}
	f(`{"a":{"a":1},"b":{"a":2}}`)
	f(` [ ] `)
	f(`{"":1," ":2}`)
	f(`"\ud83d\ude00 \u0000 \"\\\/\b\f\n\r\t"`)
	f(`-0.0e-10`)
	f(strings.Repeat("[", 32) + strings.Repeat("]", 32))
}

func TestReaderKeyLimit(t *testing.T) {
	object := func(n int) []byte {
		m := map[string]int{}
		for i := range n {
			m[string(rune('a'+i%26))+string(rune('0'+i/26))] = i
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if fault := read(object(MaxKeys)); fault != nil {
		t.Errorf("%d members: %v", MaxKeys, fault)
	}
	if fault := read(object(MaxKeys + 1)); fault == nil || fault.Code != CodeTooManyKeys {
		t.Errorf("%d members: %v", MaxKeys+1, fault)
	}
}

// FuzzReader: what we accept, encoding/json accepts, with the same text and the
// same compact form; what only encoding/json accepts, we refuse for one of the
// stated reasons.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,2.5e3,"x\u00e9\ud83d\ude00",null,true]}`, `"` + strings.Repeat("é", 20) + `"`,
		`{"a":1,"a":2}`, "\"\xff\"", `[[[[]]]]`, "\t{ \"a b\" : [ \"x y\" , { } ] }\n", `"\ud800"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var r reader
		r.reset(src)
		raw := bytes.Clone(r.raw())
		fault := r.finish()
		valid := json.Valid(src)
		if fault == nil {
			if !valid {
				t.Fatalf("accepted %q, encoding/json does not", src)
			}
			var want bytes.Buffer
			if err := json.Compact(&want, src); err != nil || !bytes.Equal(want.Bytes(), raw) {
				t.Fatalf("compact %q: got %q, want %q (%v)", src, raw, want.Bytes(), err)
			}
			compareStrings(t, src)
			return
		}
		if fault.Offset < 0 || fault.Offset > len(src) {
			t.Fatalf("%q: fault outside the input: %v at %d", src, fault, fault.Offset)
		}
		if !valid {
			return
		}
		switch fault.Code {
		case CodeTooDeep, CodeTooManyKeys, CodeDuplicate, CodeInvalidUTF8, CodeNumber:
		default:
			t.Fatalf("refused %q: %v, encoding/json accepts it", src, fault)
		}
	})
}

// compareStrings reads every string of src with both readers.
func compareStrings(t *testing.T, src []byte) {
	var want []string
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := tok.(type) {
		case string:
			want = append(want, v)
		case json.Number:
			want = append(want, string(v))
		}
	}
	var r reader
	r.reset(src)
	got := gather(&r, nil)
	if len(got) != len(want) {
		t.Fatalf("%q: got %q, want %q", src, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%q: got %q, want %q", src, got[i], want[i])
		}
	}
}

func gather(r *reader, dst []string) []string {
	switch c := r.peek(); {
	case c == '{':
		var o object
		r.object(&o)
		for r.member(&o) {
			dst = gather(r, append(dst, string(o.key)))
		}
	case c == '[':
		r.list()
		for r.element() {
			dst = gather(r, dst)
		}
	case c == '"':
		dst = append(dst, string(r.text()))
	case c == '-' || isDigit(c):
		dst = append(dst, string(r.literal("")))
	default:
		r.skip()
	}
	return dst
}

func TestValueKinds(t *testing.T) {
	f := func(src string, kind engine.RawKind, text string, list ...string) {
		t.Helper()
		var r reader
		r.reset([]byte(src))
		var v engine.RawValue
		r.value(&v)
		if fault := r.finish(); fault != nil {
			t.Fatalf("%q: %v", src, fault)
		}
		if v.Kind != kind || string(v.Text) != text || len(v.List) != len(list) {
			t.Fatalf("%q: got kind %d %q %q", src, v.Kind, v.Text, v.List)
		}
		for i := range list {
			if string(v.List[i]) != list[i] {
				t.Errorf("%q: element %d is %q", src, i, v.List[i])
			}
		}
	}
	f(`null`, engine.RawNull, "")
	f(`true`, engine.RawBool, "")
	f(`9007199254740993`, engine.RawNumber, "9007199254740993")
	f(`-1.50e+2`, engine.RawNumber, "-1.50e+2")
	f(`"a\tb"`, engine.RawString, "a\tb")
	f(`[]`, engine.RawList, "")
	f(`["a", "b\n"]`, engine.RawList, "", "a", "b\n")
	f(`["a\n", 1 ]`, engine.RawOther, `["a\n",1]`)
	f(`{ "a" : [ 1 , "x y" ] }`, engine.RawOther, `{"a":[1,"x y"]}`)
	f(`{"a":"\" }"}`, engine.RawOther, `{"a":"\" }"}`)
}

// ParseTime and appendTime against package time.
func TestTimes(t *testing.T) {
	for _, s := range []string{
		"1970-01-01T00:00:00Z", "2026-11-20T09:30:00+08:00", "2024-02-29T23:59:59.9999Z",
		"1969-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z",
		"2000-02-29T00:00:00-23:59", "1900-03-01T12:00:00.5+00:00", "2026-01-01T00:00:00.123456789Z",
	} {
		want, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := ParseTime([]byte(s))
		if !ok || got != want.UnixMilli() {
			t.Errorf("%s: got %d %v, want %d", s, got, ok, want.UnixMilli())
		}
		back := string(appendTime(nil, got))
		if text := want.UTC().Format(`"2006-01-02T15:04:05.000Z"`); back != text {
			t.Errorf("%s: got %s, want %s", s, back, text)
		}
	}
	for _, s := range []string{
		"", "2026-11-20", "2026-11-20T09:30:00", "2026-11-20 09:30:00Z", "2026-11-20T09:30:00z",
		"2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
		"2026-04-31T00:00:00Z", "2026-11-20T24:00:00Z", "2026-11-20T23:59:60Z",
		"2026-11-20T09:30:00.Z", "2026-11-20T09:30:00.1234567890Z", "2026-11-20T09:30:00+24:00",
		"2026-11-20T09:30:00+0800", "2026-11-20T09:30:00.5", "0000-01-01T00:00:00Z",
	} {
		if ms, ok := ParseTime([]byte(s)); ok {
			t.Errorf("%q was read as %d", s, ms)
		}
	}
}

func FuzzTime(f *testing.F) {
	f.Add("2026-11-20T09:30:00.123+08:00", int64(1))
	f.Fuzz(func(t *testing.T, s string, ms int64) {
		if got, ok := ParseTime([]byte(s)); ok {
			want, err := time.Parse(time.RFC3339Nano, s)
			if err != nil || want.UnixMilli() != got {
				t.Fatalf("%q: got %d, want %d (%v)", s, got, want.UnixMilli(), err)
			}
		}
		ms = max(minMsec, min(maxMsec, ms))
		text := appendTime(nil, ms)
		if back, ok := ParseTime(text[1 : len(text)-1]); !ok || back != ms {
			t.Fatalf("%d was written as %s and read as %d", ms, text, back)
		}
	})
}
