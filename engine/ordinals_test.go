package engine

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// The bitmap that goes out is what the library reads, and comes back as the same
// people.
func TestOrdinals(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(500)
	p := b.people(PeopleQuery{Rule: ruleNode(t, `{"attribute":"age","gte":100}`)})
	data, crc, err := p.AppendRoaring([]byte("head"))
	if err != nil {
		t.Fatal(err)
	}
	data = data[4:]
	read := roaring64.New()
	if _, err := read.ReadFrom(bytes.NewReader(data)); err != nil || read.GetCardinality() != 400 {
		t.Fatalf("the library reads %d people: %v", read.GetCardinality(), err)
	}
	at := read.Iterator()
	_ = b.e.EachPerson(p, PeoplePos{}, func(pos PeoplePos, _ []byte) bool {
		got := at.Next()
		if back, ok := PosOf(got); got != pos.Ordinal() || !ok || back != pos {
			t.Fatalf("ordinal %d, want %d", got, pos.Ordinal())
		}
		return true
	})
	list := OrdinalList{Map: []byte(b.e.OrdinalMap()), CRC32: crc, Data: data}
	back, err := b.e.ReadOrdinals(&list, "members")
	if err != nil || !slices.Equal(b.idsOf(back), b.idsOf(p)) {
		t.Fatalf("came back as %d people: %v", back.Count(), err)
	}
	a := b.audience(AudienceQuery{Members: back, Rule: ruleNode(t, `{"attribute":"age","lt":200}`)})
	if a.Count() != 100 {
		t.Errorf("of the members %d, want 100", a.Count())
	}
	f := func(field string, l OrdinalList) {
		t.Helper()
		_, err := b.e.ReadOrdinals(&l, "members")
		var p *Problem
		if !errors.As(err, &p) || p.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	resum := func(data []byte) OrdinalList {
		return OrdinalList{Map: list.Map, Data: data, CRC32: castagnoli(data)}
	}
	f("members.ordinals", OrdinalList{Map: []byte("other.1"), CRC32: crc, Data: data})
	f("members.crc32c", OrdinalList{Map: list.Map, CRC32: crc + 1, Data: data})
	f("members.roaring", resum(nil))
	f("members.roaring", resum(data[:len(data)-1]))
	f("members.roaring", resum(append(slices.Clone(data), 0)))
	beyond := &People{Groups: []GroupPeople{{Group: 1, Ords: roaring.BitmapOf(1 << 20)}}}
	data, _, _ = beyond.AppendRoaring(nil)
	f("members.roaring", resum(data))
	beyond.Groups[0] = GroupPeople{Group: 9, Ords: roaring.BitmapOf(1)}
	data, _, _ = beyond.AppendRoaring(nil)
	f("members.roaring", resum(data))
}

// A container that says it has more ordinals than its runs have is refused.
func TestRunContainerCount(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(2000)
	p := b.people(PeopleQuery{})
	for i := range p.Groups {
		p.Groups[i].Ords = p.Groups[i].Ords.Clone()
		p.Groups[i].Ords.RunOptimize()
	}
	data, crc, err := p.AppendRoaring(nil)
	if err != nil {
		t.Fatal(err)
	}
	list := OrdinalList{Map: []byte(b.e.OrdinalMap()), CRC32: crc, Data: data}
	if back, err := b.e.ReadOrdinals(&list, "members"); err != nil || back.Count() != p.Count() {
		t.Fatalf("as it came: %v", err)
	}
	// n u64 | group u32 | cookie u32 | flags u8 | key u16 | count - 1 u16
	if data[12] != 0x3b || data[16]&1 == 0 {
		t.Fatal("the first container is none of runs")
	}
	for _, by := range []byte{1, 0xff} {
		wrong := slices.Clone(data)
		wrong[19] += by
		list.Data, list.CRC32 = wrong, castagnoli(wrong)
		var p *Problem
		if _, err := b.e.ReadOrdinals(&list, "members"); !errors.As(err, &p) || p.Code != "bad_bitmap" {
			t.Errorf("a count off by %d: %v", int8(by), err)
		}
	}
}

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Any bytes as a bitmap, with the right sum: refused or read, never a panic, and
// what is read is what is there.
func FuzzOrdinals(f *testing.F) {
	e, err := Open("store", Options{Storage: storage.Options{Groups: 4, FS: vfs.NewMem()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = e.Close() })
	batch := e.Begin()
	for i := range 200 {
		batch.User(&UserDoc{UserID: fmt.Append(nil, i)})
	}
	p, err := e.People(f.Context(), &PeopleQuery{})
	if err != nil {
		f.Fatal(err)
	}
	data, _, err := p.AppendRoaring(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:20])
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x3b, 0x30, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 9, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := e.ReadOrdinals(&OrdinalList{
			Map: []byte(e.OrdinalMap()), Data: data, CRC32: castagnoli(data),
		}, "m")
		if err != nil {
			return
		}
		for i := range p.Groups {
			if n := p.Groups[i].Ords.GetCardinality(); n > 200 {
				t.Errorf("%d people of 200", n)
			}
		}
	})
}

func TestExport(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(300)
	b.user(UserDoc{
		UserID: []byte("u7"), Tags: []TagDoc{{Name: []byte("city_tier"), Is: []byte("2")}},
		Attributes: []NamedValue{{[]byte("first_name"), text("小雨")}},
	})
	names := func(s string) (out [][]byte) {
		for n := range strings.FieldsSeq(s) {
			out = append(out, []byte(n))
		}
		return out
	}
	x, err := b.e.Export(names("age first_name"), names("complaint_open city_tier"))
	if err != nil {
		t.Fatal(err)
	}
	p := b.people(PeopleQuery{Rule: ruleNode(t, `{"attribute":"age","lt":10}`)})
	rows := map[string]string{}
	x.Each(p, PeoplePos{}, func(_ PeoplePos, id []byte, cells []Cell) bool {
		var s strings.Builder
		for _, c := range cells {
			fmt.Fprintf(&s, "%v %d %s|", c.Set, c.Value.Num, c.Value.Bytes)
		}
		rows[string(id)] = s.String()
		return true
	})
	if len(rows) != 10 || rows["u7"] != "true 7 |true 0 小雨|true 0 |true 0 2|" ||
		rows["u3"] != "true 3 |false 0 |true 1 |false 0 |" {
		t.Errorf("%v", rows)
	}
	for field, ask := range map[string][2]string{
		"attributes[1]": {"age first_nam", ""}, "tags[0]": {"", "age"},
	} {
		_, err := b.e.Export(names(ask[0]), names(ask[1]))
		var p *Problem
		if !errors.As(err, &p) || p.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
