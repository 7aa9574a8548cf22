package eventlog

import (
	"bytes"
	"errors"
	"testing"
)

// fuzzBlock makes a block out of any bytes, with checksums that hold: the first
// bytes are numbers of the header, the rest are columns, each id u8, length u8.
func fuzzBlock(in []byte) (header, []byte) {
	r := reader{b: in}
	h := header{
		stream: Effects, group: 1, records: uint32(r.u8()), first: uint64(r.u8()), from: 1000,
	}
	h.last = h.first + uint64(r.u8())
	var body []byte
	for len(r.b) > 0 && len(h.columns) < maxColumns {
		c := column{id: r.u8(), stored: uint32(r.u8())}
		stored := r.take(uint64(c.stored))
		c.stored = uint32(len(stored))
		c.raw, c.crc = c.stored, checkSum(stored)
		if c.id&0x80 != 0 { // compressed, or said to be
			c.id &= 0x7F
			c.raw += 100
		}
		h.columns = append(h.columns, c)
		body = append(body, stored...)
	}
	return h, body
}

// Columns of any bytes are read or refused: no panic, no endless walk.
func FuzzBlock(f *testing.F) {
	f.Add([]byte{1, 5, 0, columnFrames, 3, 0, 0, 1, columnKinds, 1, 3, columnFlags, 1, 3})
	w := newWorld(2)
	w.odd = true
	var b Builder
	b.Reset(1, Effects)
	w.fill(f, &b, 20)
	l := testLog(f, nil, nil)
	if _, h, err := l.pack.pack(nil, &b, 0); err == nil {
		seed := []byte{byte(h.records), byte(h.first), byte(h.last - h.first)}
		for id, col := range l.pack.columns {
			if len(col) > 0 && len(col) < 256 {
				seed = append(append(seed, byte(id), byte(len(col))), col...)
			}
		}
		f.Add(seed)
	}
	u, err := newUnpacker(&[16]byte{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, body := fuzzBlock(in)
		again, err := parseHeader(h.append(nil))
		if err != nil {
			t.Skip()
		}
		read := func(dst []byte, at int64) error { return readAt(bytes.NewReader(body), dst, at) }
		n := 0
		to := handler{
			keyOf: func(_ uint16, ord uint32) (k [16]byte, ok bool) { return k, ord%2 == 0 },
			f:     func(*Record) error { n++; return nil },
		}
		err = u.scan(&blockAt{header: again}, &Query{Personal: true}, read, to)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if n > int(again.records) {
			t.Fatalf("%d records of %d", n, again.records)
		}
	})
}

// A header of any bytes is refused or written back as it was.
func FuzzHeader(f *testing.F) {
	h := header{stream: Decisions, group: 3, records: 9, first: 4, last: 6, types: []uint32{1, 7}}
	h.columns = []column{{id: 1, raw: 10, stored: 5, crc: 9}}
	f.Add(h.append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 4 { // let the checksum hold
			in = sealed(in[:len(in)-4])
		}
		if h, err := parseHeader(in); err == nil {
			if again := h.append(nil); len(again) > len(in) {
				t.Fatalf("%x became %x", in, again)
			}
		}
	})
}

// A state of any bytes is refused or written back as it was.
func FuzzState(f *testing.F) {
	s := state{next: 3, logged: []uint64{1, 2}, segments: []segment{{number: 2, size: 99}}}
	f.Add(s.append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 4 {
			in = sealed(in[:len(in)-4])
		}
		if s, err := parseState(in); err == nil && !bytes.Equal(s.append(nil), in) {
			t.Fatalf("%x became %x", in, s.append(nil))
		}
	})
}

func sealed(b []byte) []byte {
	c := checkSum(b)
	return append(b[:len(b):len(b)], byte(c), byte(c>>8), byte(c>>16), byte(c>>24))
}

// What is coded is decoded as it was, and any bytes decode to an end.
func FuzzText(f *testing.F) {
	for _, s := range []string{
		`{"a":1.50,"b":"SKU-0012","c":[1,"}"],"d":null,"e":true}`, `{"a":-0.00}`, `{"":""}`, "order-77",
		`{"a":18446744073709551615,"b":0.000000000000000001}`, `{"a":"\\","b":"\""}`,
		"0190aaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", `{"":""0}`,
	} {
		f.Add([]byte(s), []byte{tagDecimal, 200, 3})
	}
	f.Fuzz(func(t *testing.T, text, coded []byte) {
		table := [][]byte{[]byte("SKU-"), []byte("order-"), []byte("b")}
		c := coder{values: map[string]uint32{}}
		for i, s := range table {
			c.values[string(s)] = uint32(i)
		}
		d := decoder{values: table}
		d.in.b = c.appendString(nil, text)
		if got := d.string(nil); d.in.bad || len(d.in.b) > 0 || !bytes.Equal(got, text) {
			t.Fatalf("%q became %q", text, got)
		}
		var o object
		if o.parse(text) {
			var part []byte
			for _, v := range o.values {
				part = c.appendValue(part, v)
			}
			d.in = reader{b: part}
			got := d.object(nil, o.keys)
			if d.in.bad || len(d.in.b) > 0 || !bytes.Equal(got, text) {
				t.Fatalf("%q became %q", text, got)
			}
		}
		d.in = reader{b: coded}
		for len(d.in.b) > 0 {
			if out := d.value(nil); len(out) > len(coded)+64 {
				t.Fatalf("%d bytes out of %d", len(out), len(coded))
			}
		}
	})
}
