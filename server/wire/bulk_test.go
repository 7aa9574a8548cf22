package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"tact/engine"
	"tact/engine/definition"
	"tact/storage"
)

func TestDecideBatchBody(t *testing.T) {
	read := func(src string) (q DecideBatch) {
		t.Helper()
		var d Decoder
		if f := d.DecideBatch([]byte(src), &q); f != nil {
			t.Fatalf("%s: %v", src, f)
		}
		return q
	}
	a := read(`{"users":["u1"],"request_id":"x","placements":[{"placement_id":"p"}],"mode":"live"}`)
	b := read(`{"mode": "live", "placements":[{"placement_id":"p"}],"users":["u2"],"request_id":"y"}`)
	if a.Request.BodyHash != b.Request.BodyHash || string(b.Prefix) != "y" {
		t.Error("what is asked for each person is the same, its hash is not")
	}
	c := read(`{"users":["u1"],"request_id":"x","placements":[{"placement_id":"q"}],"mode":"live"}`)
	if a.Request.BodyHash == c.Request.BodyHash {
		t.Error("another placement, the same hash")
	}
}

// Everything that is accepted is JSON, names exactly one way of saying who, and
// at most as many users as may be; a body that is cut is refused.
func FuzzBulkBodies(f *testing.F) {
	f.Add([]byte(`{"users":["u1"],"offers":[],"gates":["caps","consent"],"explain":true}`), 9)
	f.Add([]byte(`{"rule":{"all":[{"tag":"x"}]},"format":"ndjson","attributes":["a"],"limit":3}`), 20)
	f.Add([]byte(`{"members":{"ordinals":"a.1","roaring":"AAAA","crc32c":"00000000"}}`), 30)
	f.Add([]byte(`{"cursor":"c","placements":[{"placement_id":"p"}],"request_id":"r"}`), 30)
	f.Fuzz(func(t *testing.T, src []byte, cut int) {
		var d Decoder
		var q Eligibility
		var b DecideBatch
		check := func(p *Population) {
			ways := 0
			for _, way := range []bool{
				p.HasUsers, len(p.Cursor) > 0,
				p.Query.Rule != nil || p.Query.Segment != "" || p.Query.Offer != nil || p.Members != nil,
			} {
				if way {
					ways++
				}
			}
			if ways != 1 || len(p.Users) > MaxUsers || !json.Valid(src) {
				t.Errorf("accepted %q", src)
			}
		}
		first := d.Eligibility(src, &q)
		if first == nil {
			check(&q.Population)
		}
		second := d.DecideBatch(src, &b)
		if second == nil {
			check(&b.Population)
		}
		if cut < 0 || cut >= len(src) || src[len(src)-1] != '}' {
			return
		}
		if first == nil && d.Eligibility(src[:cut], &q) == nil ||
			second == nil && d.DecideBatch(src[:cut], &b) == nil {
			t.Errorf("accepts %q and its start %q", src, src[:cut])
		}
	})
}

func TestBulkLines(t *testing.T) {
	f := func(got []byte, want string) {
		t.Helper()
		if string(got) != want+"\n" || !json.Valid(got) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	head := []byte("{\"x\":1}\n")
	f(AppendID(nil, []byte(`u"1`)), `"u\"1"`)
	f(AppendID(nil, []byte("\x00email\x00a@b.c")), `{"identity":{"type":"email","value":"a@b.c"}}`)
	f(AppendBulkEnd(head, &BulkEnd{Users: 3, Failed: 1})[len(head):],
		`{"done":true,"users":3,"failed":1}`)
	f(AppendOrdinal(nil, 1<<32|5, []byte("u")), `{"ordinal":4294967301,"user_id":"u"}`)
	f(AppendBulkError(nil, nil, LineError{Code: "c"}), `{"error":{"code":"c"}}`)
	columns := []engine.ExportColumn{
		{Name: "age", Type: definition.TypeInt},
		{Name: "no", Type: definition.TypeString},
		{Name: "vip", Tag: true, Type: definition.TypeBool},
		{Name: "tier", Tag: true, Type: definition.TypeString},
		{Name: "gone", Tag: true, Type: definition.TypeBool},
	}
	cells := []engine.Cell{
		{Set: true, Value: storage.Value{Kind: storage.KindInt, Num: 7}},
		{},
		{Set: true, Value: storage.Value{Kind: storage.KindBool, Num: 1}},
		{Set: true, Value: storage.Value{Kind: storage.KindString, Bytes: []byte("2")}},
		{Set: true, Value: storage.Value{Kind: storage.KindBool}},
	}
	f(AppendPerson(nil, []byte("u"), columns, cells),
		`{"user_id":"u","attributes":{"age":7},"tags":["vip",{"tag":"tier","is":"2"}]}`)
}

// Every type goes to Parquet and comes back; memory is given out row group by
// row group.
func TestParquetTypes(t *testing.T) {
	kinds := []definition.AttrType{
		definition.TypeBool, definition.TypeInt, definition.TypeFloat, definition.TypeString,
		definition.TypeDate, definition.TypeTime, definition.TypeList, definition.TypeSemver,
	}
	var columns []engine.ExportColumn
	for _, k := range kinds {
		columns = append(columns, engine.ExportColumn{Name: k.String(), Type: k})
	}
	columns = append(columns, engine.ExportColumn{Name: "vip", Tag: true, Type: definition.TypeBool})
	value := func(k definition.AttrType, num uint64, b string) engine.Cell {
		return engine.Cell{Set: true, Value: storage.Value{
			Kind: storage.ValueKind(k), Num: num, Bytes: []byte(b),
		}}
	}
	full := []engine.Cell{
		value(definition.TypeBool, 1, ""), value(definition.TypeInt, uint64(math.MaxUint64), ""),
		value(definition.TypeFloat, math.Float64bits(0.5), ""), value(definition.TypeString, 0, "小雨"),
		value(definition.TypeDate, 20000, ""), value(definition.TypeTime, 1_700_000_000_123, ""),
		value(definition.TypeList, 0, "\x01a\x02bc"), value(definition.TypeSemver, 0, "1.2.3"),
		value(definition.TypeBool, 1, ""),
	}
	empty := make([]engine.Cell, len(columns))
	empty[6] = value(definition.TypeList, 0, "")
	p := NewParquet(&BulkHead{At: 1, Revision: 2, Ordinals: "o.1"}, columns)
	const rows = parquetRows + 10
	var file []byte
	for i := range rows {
		cells := full
		if i%2 == 1 {
			cells = empty
		}
		if err := p.Add([]byte("u"), cells); err != nil {
			t.Fatal(err)
		}
		file = p.Take(file)
	}
	taken := len(file) // the first row group, before the file is ended
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	file = p.Take(file)
	read, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil || read.NumRows() != rows || len(read.RowGroups()) != 2 || taken < 1000 {
		t.Fatalf("%v, taken %d", err, taken)
	}
	if v, _ := read.Lookup("tact.ordinals"); v != "o.1" {
		t.Errorf("metadata %q", v)
	}
	var text strings.Builder
	reader := parquet.NewReader(bytes.NewReader(file))
	buf := make([]parquet.Row, 2)
	if n, err := reader.ReadRows(buf); n != 2 {
		t.Fatal(n, err)
	}
	for _, row := range buf {
		for _, v := range row {
			if !v.IsNull() {
				text.WriteString(v.String() + " ")
			}
		}
		text.WriteString("| ")
	}
	want := "true 20000 0.5 -1 a bc 1.2.3 小雨 1700000000123 true u | u | "
	if text.String() != want {
		t.Errorf("rows %q, want %q", text.String(), want)
	}
}
