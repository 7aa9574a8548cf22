package eventlog

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// world makes records like those of a shop, and knows the keys of its people.
type world struct {
	rng   *rand.Rand
	now   int64
	frame uint64
	gone  map[uint32]bool
	// odd makes strange records too.
	odd bool
}

func newWorld(seed uint64) *world {
	return &world{rng: rand.New(rand.NewPCG(seed, 7)), now: 1_790_000_000_000, gone: map[uint32]bool{}}
}

func testKey(group uint16, ord uint32) (key [16]byte) {
	binary.LittleEndian.PutUint32(key[:], ord+1)
	binary.LittleEndian.PutUint16(key[8:], group)
	return key
}

func (w *world) keyOf(group uint16, ord uint32) ([16]byte, bool) {
	return testKey(group, ord), !w.gone[ord]
}

func (w *world) uuid() string {
	a, b := w.rng.Uint64(), w.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a>>32, a>>16&0xFFFF, a&0xFFF, b>>48&0xFFF,
		b&0xFFFFFFFFFFFF)
}

// properties of a bought or looked at product.
func (w *world) properties() string {
	pages := []string{"/home", "/home/spring", "/cart", "/search?q=shoes", "/product/detail"}
	return fmt.Sprintf(`{"amount":%d.%02d,"currency":"CNY","new_product":%t,"sku":"SKU-%04d","page":"%s"}`,
		w.rng.IntN(900), w.rng.IntN(100), w.rng.IntN(2) == 0, w.rng.IntN(800), pages[w.rng.IntN(5)])
}

// event is one line of a busy shop of 60,000 people in this group.
func (w *world) event() Record {
	w.now += int64(w.rng.IntN(4))
	return Record{
		Kind: 3, Type: uint32(1 + w.rng.IntN(6)), Ord: uint32(w.rng.IntN(60_000)), Config: 7,
		Time: w.now, Occurred: w.now - int64(w.rng.IntN(200)), Clear: []byte{0},
		Text: []byte(w.uuid()), Raw: []byte(w.properties()),
		Dedup: w.rng.Uint64() | 1, Body: w.rng.Uint32(),
	}
}

// strange is a record of any shape.
func (w *world) strange() Record {
	texts := []string{
		"", "a", "order-000123", "0", "007", "x9", w.uuid(), strings.Repeat("9", 30),
		"SKU-1", "名前-12", strings.Repeat("long", 40),
	}
	raws := []string{
		"", "{}", `{"a":1}`, `{"a":-0}`, `{"a":1.50,"b":[1,{"c":"},"}],"c":null}`, `{"a":1e9}`,
		`{"a":"x\"y","":""}`, `{"big":123456789012345678901}`, `{"t":true,"f":false}`, "[1]", "nonsense",
		`{"a":0.001,"b":-12.25,"c":-0.5,"d":00,"e":1.}`, `{"a" :1}`, w.properties(),
	}
	r := w.event()
	r.Ord = uint32(w.rng.IntN(12))
	if w.rng.IntN(6) == 0 {
		r.Ord = NoOrd
	}
	r.Kind = uint8(1 + w.rng.IntN(14))
	r.Config = uint32(w.rng.IntN(3))
	r.Text, r.Raw = []byte(texts[w.rng.IntN(len(texts))]), []byte(raws[w.rng.IntN(len(raws))])
	if w.rng.IntN(3) == 0 {
		r.Personal = []byte("private " + w.uuid())
	}
	r.Clear = make([]byte, w.rng.IntN(40))
	if r.Ord == NoOrd {
		r.Text, r.Raw, r.Personal = nil, nil, nil
	}
	if w.rng.IntN(4) == 0 {
		r.Occurred, r.Dedup, r.Body = r.Time, 0, 0
	}
	return r
}

// fill adds n records in frames to a builder and returns what must be read back.
func (w *world) fill(t testing.TB, b *Builder, n int) []Record {
	t.Helper()
	var want []Record
	for i := 0; i < n; {
		w.frame += 1 + uint64(w.rng.IntN(2))
		b.Frame(w.frame, 3)
		for index := range min(w.rng.IntN(20), n-i) {
			r := w.event()
			if w.odd {
				r = w.strange()
			}
			key := testKey(b.group, r.Ord)
			secret := &key
			if w.odd && w.rng.IntN(9) == 0 {
				secret = nil
			}
			if err := b.Add(&r, secret); err != nil {
				t.Fatal(err)
			}
			if secret == nil && r.personal() {
				r.Text, r.Raw, r.Personal, r.Lost = nil, nil, nil, true
			}
			r.Group, r.Frame, r.Epoch, r.Index = b.group, w.frame, 3, uint32(index)
			want = append(want, r)
			i++
		}
	}
	return want
}

func same(a, b *Record) bool {
	return fmt.Sprintf("%+v", plain(a)) == fmt.Sprintf("%+v", plain(b))
}

// plain makes nil and empty one.
func plain(r *Record) Record {
	c := *r
	for _, b := range []*[]byte{&c.Clear, &c.Text, &c.Raw, &c.Personal} {
		*b = append([]byte{}, *b...)
	}
	return c
}

func testLog(t testing.TB, fs vfs.FS, stateBytes []byte) *Log {
	t.Helper()
	l, err := Open(fs, "store/log", Options{Groups: 4, Key: [16]byte{1}, SegmentBytes: 1 << 20}, stateBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// write adds blocks in one pass and returns the state.
func write(t testing.TB, l *Log, blocks ...*Builder) []byte {
	t.Helper()
	p := l.Begin()
	for _, b := range blocks {
		if err := p.Add(b); err != nil {
			t.Fatal(err)
		}
		p.Logged(b.group, b.frames[len(b.frames)-1].number)
	}
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	state := p.State()
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	return state
}

func scan(l *Log, q Query, keyOf KeyOf) ([]Record, error) {
	var got []Record
	err := l.Scan(&q, keyOf, func(r *Record) error {
		got = append(got, plain(r))
		return nil
	})
	return got, err
}

func compare(t testing.TB, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !same(&got[i], &want[i]) {
			t.Fatalf("record %d:\n got %+v\nwant %+v\n got %q %q\nwant %q %q", i, got[i], want[i],
				got[i].Text, got[i].Raw, want[i].Text, want[i].Raw)
		}
	}
}

// What is added is read back, byte for byte, from a log opened anew too.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(seed)
		w.odd = true
		fs := vfs.NewMem()
		l := testLog(t, fs, nil)
		var want []Record
		var state []byte
		for range 3 {
			var b Builder
			b.Reset(2, Effects)
			want = append(want, w.fill(t, &b, 1+w.rng.IntN(700))...)
			state = write(t, l, &b)
		}
		for _, l := range []*Log{l, testLog(t, fs, state)} {
			got, err := scan(l, Query{Personal: true}, w.keyOf)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, want)
			if err := l.Verify(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A scan by time, type, kind and person yields what a filter over all yields.
func TestScanAgainstFilter(t *testing.T) {
	w := newWorld(1)
	w.odd = true
	l := testLog(t, vfs.NewMem(), nil)
	var want []Record
	for group := range uint16(3) {
		for range 3 {
			var b Builder
			b.Reset(group, Effects)
			want = append(want, w.fill(t, &b, 300)...)
			write(t, l, &b)
		}
	}
	f := func(q Query) {
		t.Helper()
		got, err := scan(l, q, w.keyOf)
		if err != nil {
			t.Fatal(err)
		}
		var match []Record
		for _, r := range want {
			if (q.From == 0 || r.Time >= q.From) && (q.Until == 0 || r.Time < q.Until) &&
				(len(q.Types) == 0 || slices.Contains(q.Types, r.Type)) &&
				(q.Kinds == 0 || q.Kinds>>r.Kind&1 == 1) &&
				(!q.Person || r.Group == q.Group && r.Ord == q.Ord) {
				if !q.Personal {
					r.Text, r.Raw, r.Personal = nil, nil, nil
				}
				match = append(match, r)
			}
		}
		slices.SortStableFunc(got, func(a, b Record) int { return int(a.Group) - int(b.Group) })
		compare(t, got, match)
	}
	mid := want[len(want)/2].Time
	f(Query{})
	f(Query{Personal: true})
	f(Query{From: mid, Personal: true})
	f(Query{Until: mid})
	f(Query{From: mid, Until: mid + 100, Personal: true})
	f(Query{Types: []uint32{2, 5}, Personal: true})
	f(Query{Types: []uint32{99}})
	f(Query{Kinds: 1<<3 | 1<<9})
	for ord := range uint32(14) {
		f(Query{Person: true, Group: 1, Ord: ord, Personal: true})
	}
	f(Query{Stream: Effects, Person: true, Group: 2, Ord: 1 << 20})
}

// Find yields the records of a frame, and knows frames without any.
func TestFind(t *testing.T) {
	w := newWorld(3)
	l := testLog(t, vfs.NewMem(), nil)
	var b Builder
	b.Reset(1, Decisions)
	want := w.fill(t, &b, 200)
	b.Frame(w.frame+5, 3)
	frames := map[uint64]bool{}
	for _, f := range b.frames {
		frames[f.number] = true
	}
	write(t, l, &b)
	for number := range w.frame + 8 {
		var got []Record
		found, err := l.Find(Decisions, 1, number, func(r *Record) error {
			got = append(got, plain(r))
			return nil
		}, w.keyOf)
		if err != nil || found != frames[number] {
			t.Fatalf("frame %d: found %v %v", number, found, err)
		}
		var match []Record
		for _, r := range want {
			if r.Frame == number {
				match = append(match, r)
			}
		}
		compare(t, got, match)
	}
}

// Without a person's key nothing the person said can be read, and nothing else
// has changed; and none of it lies open in the file.
func TestKeyThrownAway(t *testing.T) {
	w := newWorld(4)
	fs := vfs.NewMem()
	l := testLog(t, fs, nil)
	var b Builder
	b.Reset(0, Effects)
	b.Frame(1, 1)
	var want []Record
	for i := range 400 {
		r := w.event()
		r.Ord = uint32(i % 40)
		mark := fmt.Sprintf("mark-of-%d-%s", r.Ord, "everybody")
		r.Text = []byte(mark)
		r.Raw = []byte(`{"` + mark + `":"` + mark + `","city":"` + mark + `"}`)
		r.Personal = []byte(mark)
		key := testKey(0, r.Ord)
		if err := b.Add(&r, &key); err != nil {
			t.Fatal(err)
		}
		r.Frame, r.Epoch, r.Index = 1, 1, uint32(i)
		want = append(want, r)
	}
	write(t, l, &b)
	for _, name := range files(t, fs) {
		if strings.Contains(string(readFile(t, fs, name)), "mark-of") {
			t.Fatalf("%s holds a mark", name)
		}
	}
	w.gone[7] = true
	for i := range want {
		if want[i].Ord == 7 {
			want[i].Text, want[i].Raw, want[i].Personal, want[i].Lost = nil, nil, nil, true
		}
	}
	got, err := scan(l, Query{Personal: true}, w.keyOf)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, want)
}

// What seven people share is no entry of a table, what eight do is one, with first sights
// and without; many that only one has hide little of what many share, and add nothing.
func TestSharedBy(t *testing.T) {
	times := 100
	f := func(people, others, sights int, least, most int) {
		t.Helper()
		c := census{map[string]*share{}, make([]sight, sights)}
		for i := range times {
			c.addString([]byte("value"), uint32(i%people))
			for j := range others {
				c.addString(fmt.Appendf(nil, "x%dx", i*others+j), uint32(i))
			}
		}
		if got := len(c.table()); got < least || got > most {
			t.Errorf("%d people, %d sights: %d entries, want %d to %d", people, sights, got, least, most)
		}
		if n := len(c.seen); sights > 0 && n > 1+times*others/20 {
			t.Errorf("%d strings are counted of %d that one person has", n, times*others)
		}
	}
	for _, sights := range []int{0, 1, 1 << 10} {
		f(1, 0, sights, 0, 0)
		f(7, 0, sights, 0, 0)
		f(8, 0, sights, 1, 1)
		f(50, 0, sights, 1, 1)
		f(7, 10, sights, 0, 0)
	}
	f(8, 10, 0, 1, 1)
	f(20, 10, 1<<10, 1, 1)
	times = 8 // each once
	f(8, 0, 1<<10, 1, 1)
}

// parseUUID takes UUIDs as they are written canonically (RFC 9562, section 4), and nothing else of that length.
func TestParseUUID(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var id [16]byte
		for i := range id {
			id[i] = byte(random.Uint32())
		}
		text := appendUUID(nil, id[:])
		if got, ok := parseUUID(text); !ok || got != id {
			t.Fatalf("%s: %x %v", text, got, ok)
		}
		at := random.IntN(len(text))
		for c := range 256 {
			other := bytes.Clone(text)
			other[at] = byte(c)
			got, ok := parseUUID(other)
			if ok != (regularUUID(other)) || ok && !bytes.Equal(appendUUID(nil, got[:]), other) {
				t.Fatalf("%q: %x %v", other, got, ok)
			}
		}
		if _, ok := parseUUID(text[:at]); ok {
			t.Fatalf("%s is taken", text[:at])
		}
	}
}

func regularUUID(s []byte) bool {
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !bytes.ContainsRune([]byte("0123456789abcdef"), rune(c)) {
			return false
		}
	}
	return len(s) == 36
}

func files(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	names, err := fs.List("store/log")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open("store/log/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create("store/log/"+name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(slices.Clone(b)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A flipped bit in any byte, a cut at any length and a swapped file are noticed:
// by Verify always, and by a scan, which never yields another answer.
func TestDamageIsNoticed(t *testing.T) {
	w := newWorld(5)
	w.odd = true
	fs := vfs.NewMem()
	l := testLog(t, fs, nil)
	var state []byte
	var want []Record
	for range 2 {
		var b Builder
		b.Reset(0, Effects)
		want = append(want, w.fill(t, &b, 60)...)
		state = write(t, l, &b)
	}
	name := files(t, fs)[0]
	whole := readFile(t, fs, name)
	look := func(what string) {
		t.Helper()
		l, err := Open(fs, "store/log", Options{Groups: 4, Key: [16]byte{1}}, state)
		if err == nil {
			if err = l.Verify(); err == nil {
				t.Fatalf("%s: not noticed", what)
			}
			got, fault := scan(l, Query{Personal: true}, w.keyOf)
			if fault == nil {
				compare(t, got, want) // a byte that this scan does not need
			} else if !errors.Is(fault, ErrCorrupt) && !errors.Is(fault, ErrNewerFormat) {
				t.Fatalf("%s: scan: %v", what, fault)
			}
			_ = l.Close()
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range whole {
		if i > 300 && i%23 != 0 && os.Getenv("TACT_EFFORT") == "" {
			continue
		}
		bad := slices.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		writeFile(t, fs, name, bad)
		look(fmt.Sprintf("bit of byte %d", i))
	}
	for n := 0; n < len(whole); n += 97 {
		writeFile(t, fs, name, whole[:n])
		look(fmt.Sprintf("cut to %d", n))
		zeros := slices.Clone(whole)
		clear(zeros[n:min(n+97, len(whole))])
		if slices.Equal(zeros, whole) {
			continue
		}
		writeFile(t, fs, name, zeros)
		look(fmt.Sprintf("zeros from %d", n))
	}
	if err := fs.Remove("store/log/" + name); err != nil {
		t.Fatal(err)
	}
	look("a missing file")
}

// A state with any flipped bit or cut is refused.
func TestStateDamage(t *testing.T) {
	l := testLog(t, vfs.NewMem(), nil)
	var b Builder
	b.Reset(0, Decisions)
	newWorld(1).fill(t, &b, 10)
	state := write(t, l, &b)
	for i := range state {
		bad := slices.Clone(state)
		bad[i] ^= 1 << (i % 8)
		if _, err := parseState(bad); err == nil {
			t.Fatalf("bit of byte %d is not noticed", i)
		}
		if _, err := parseState(state[:i]); err == nil {
			t.Fatalf("a cut to %d bytes is not noticed", i)
		}
	}
}

// An aborted pass leaves nothing that is read, and the next one writes on.
func TestAbort(t *testing.T) {
	w := newWorld(6)
	fs := vfs.NewMem()
	l := testLog(t, fs, nil)
	var b Builder
	b.Reset(0, Effects)
	want := w.fill(t, &b, 50)
	write(t, l, &b)
	b.Reset(0, Effects)
	at := w.frame
	w.fill(t, &b, 50)
	p := l.Begin()
	if err := p.Add(&b); err != nil {
		t.Fatal(err)
	}
	if err := p.Abort(); err != nil {
		t.Fatal(err)
	}
	w.frame = at
	b.Reset(0, Effects)
	want = append(want, w.fill(t, &b, 50)...)
	state := write(t, l, &b)
	for _, l := range []*Log{l, testLog(t, fs, state)} {
		got, err := scan(l, Query{Personal: true}, w.keyOf)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, want)
	}
}

// writeTen writes ten blocks of n effects, each so many ms after the one before.
func (w *world) writeTen(t *testing.T, l *Log, n int, after int64) {
	t.Helper()
	for range 10 {
		var b Builder
		b.Reset(0, Effects)
		w.fill(t, &b, n)
		write(t, l, &b)
		w.now += after
	}
}

// Segments leave oldest first, by age and by bytes; their files go, and the
// figures say so.
func TestRetire(t *testing.T) {
	w := newWorld(8)
	fs := vfs.NewMem()
	l, err := Open(fs, "store/log", Options{Groups: 4, SegmentBytes: 2000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.writeTen(t, l, 100, 1000)
	retire := func(k Keep) StreamStats {
		t.Helper()
		p := l.Begin()
		p.Retire([Streams]Keep{k, k})
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := p.Commit(); err != nil {
			t.Fatal(err)
		}
		if n := len(files(t, fs)); n != l.Stats()[Effects].Segments {
			t.Fatalf("%d files of %d segments", n, l.Stats()[Effects].Segments)
		}
		return l.Stats()[Effects]
	}
	first := l.Stats()[Effects]
	if first.Segments != 10 {
		t.Fatalf("%d segments", first.Segments)
	}
	segments := l.snapshot(Effects)
	s := retire(Keep{Since: segments[3].until + 1})
	if s.Segments != 6 || s.GoneDays != 4 || s.GoneUntil != segments[3].until || s.From != segments[4].from {
		t.Fatalf("%+v", s)
	}
	s = retire(Keep{Bytes: segments[8].size + segments[9].size})
	if s.Segments != 2 || s.GoneSize != 4 || s.GoneDays != 4 {
		t.Fatalf("%+v", s)
	}
	if s = retire(Keep{Bytes: 1}); s.Segments != 1 {
		t.Fatalf("%+v: the segment being written stays", s)
	}
	if _, err := scan(l, Query{}, w.keyOf); err != nil {
		t.Fatal(err)
	}
}

// A stream that fills its segments slowly begins a new one in time, so that what is old
// can leave.
func TestSegmentAge(t *testing.T) {
	w := newWorld(9)
	l, err := Open(vfs.NewMem(), "store/log", Options{
		Groups: 4, SegmentAge: [Streams]int64{Effects: 100_000},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.writeTen(t, l, 20, 50_000)
	segments := l.snapshot(Effects)
	if len(segments) < 4 {
		t.Fatalf("%d segments", len(segments))
	}
	for i, g := range segments {
		if g.records == 0 || g.until-g.from >= 150_000 {
			t.Errorf("segment %d: %d records over %d ms", i, g.records, g.until-g.from)
		}
	}
}

// A segment that holds no record, left behind by a start, goes; nothing is said to
// be missing then.
func TestRetireEmpty(t *testing.T) {
	fs := vfs.NewMem()
	o := Options{Groups: 4}
	l, err := Open(fs, "store/log", o, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b Builder
	b.Reset(0, Decisions)
	b.Frame(1, 1)
	kept := write(t, l, &b)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(fs, "store/log", o, kept); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := l.Begin()
	leave, held := p.Retire([Streams]Keep{})
	if err := errors.Join(p.Sync(), p.Commit()); err != nil {
		t.Fatal(err)
	}
	s := l.Stats()[Decisions]
	if leave != 1 || held != 0 || s.Segments != 0 || s.GoneDays != 0 || len(files(t, fs)) != 0 {
		t.Errorf("%d left of which %d held something, %+v", leave, held, s)
	}
}

// Whatever the power leaves of the files, the state that was durable is read back
// whole.
func TestPowerLoss(t *testing.T) {
	seeds := 40
	if v := os.Getenv("TACT_EFFORT"); v != "" {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = max(1, int(2000*f))
	}
	for seed := range uint64(seeds) {
		w := newWorld(seed)
		fs := lossy.New()
		if err := fs.MkdirAll("store", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syncFolder(fs, ""); err != nil {
			t.Fatal(err)
		}
		var state []byte
		var want []Record
		for range 4 {
			l := testLog(t, fs, state)
			got, err := scan(l, Query{Personal: true}, w.keyOf)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			compare(t, got, want)
			for range w.rng.IntN(3) {
				var b Builder
				b.Reset(0, Effects)
				want = append(want, w.fill(t, &b, 1+w.rng.IntN(60))...)
				state = write(t, l, &b)
			}
			var b Builder
			b.Reset(0, Effects)
			p := l.Begin()
			at := w.frame
			w.fill(t, &b, 30)
			if err := p.Add(&b); err != nil {
				t.Fatal(err)
			}
			w.frame = at
			fs = fs.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: w.rng.IntN(100), RNG: rand.New(rand.NewPCG(seed, w.rng.Uint64())),
			})
		}
	}
}

// The log of a shop is at least five times smaller than the lines it came from.
func TestFiveTimesSmallerThanLines(t *testing.T) {
	w := newWorld(9)
	var b Builder
	b.Reset(0, Effects)
	records := w.fill(t, &b, BlockRecords/2)
	lines := 0
	for i := range records {
		r := &records[i]
		line, err := json.Marshal(map[string]any{
			"type": "product_viewed", "user_id": fmt.Sprintf("user-%07d", r.Ord),
			"event_id": string(r.Text), "properties": json.RawMessage(r.Raw),
			"occurred_at": time.UnixMilli(r.Occurred).UTC().Format("2006-01-02T15:04:05.000Z"),
		})
		if err != nil {
			t.Fatal(err)
		}
		lines += len(line) + 1
	}
	fs := vfs.NewMem()
	l := testLog(t, fs, nil)
	write(t, l, &b)
	size := l.Stats()[Effects].Bytes
	t.Logf("%d events: %.1f bytes as a line, %.1f in the log: %.2f times smaller", len(records),
		float64(lines)/float64(len(records)), float64(size)/float64(len(records)),
		float64(lines)/float64(size))
	for _, c := range l.mu.blocks[1][0].columns {
		t.Logf("column %2d: %6.2f bytes a record, %6.2f before", c.id,
			float64(c.stored)/float64(len(records)), float64(c.raw)/float64(len(records)))
	}
	if float64(lines) < 5*float64(size) {
		t.Errorf("%d bytes of lines, %d in the log", lines, size)
	}
}

// cpu returns the CPU time of the process: on a busy machine the clock on the
// wall says nothing.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perSecond reports n records an iteration by the CPU time since start.
func perSecond(b *testing.B, n int, start time.Duration) {
	b.Helper()
	used := cpu(b) - start
	b.ReportMetric(float64(n)*float64(b.N)/used.Seconds(), "events/cpu-s")
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/float64(n), "cpu-ns/event")
}

func BenchmarkAdd(b *testing.B) {
	w := newWorld(1)
	var builder Builder
	builder.Reset(0, Effects)
	w.fill(b, &builder, BlockRecords/2)
	l := testLog(b, vfs.NewMem(), nil)
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		if _, _, err := l.pack.pack(nil, &builder, 0); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, BlockRecords/2, start)
}

func BenchmarkScan(b *testing.B) {
	f := func(name string, q Query) {
		b.Run(name, func(b *testing.B) {
			w := newWorld(1)
			var builder Builder
			builder.Reset(0, Effects)
			w.fill(b, &builder, BlockRecords/2)
			l := testLog(b, vfs.NewMem(), nil)
			write(b, l, &builder)
			b.ReportAllocs()
			start := cpu(b)
			for b.Loop() {
				if err := l.Scan(&q, w.keyOf, func(*Record) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, BlockRecords/2, start)
		})
	}
	f("plain", Query{})
	f("personal", Query{Personal: true})
	f("type", Query{Types: []uint32{3}, Personal: true})
	f("person", Query{Person: true, Ord: 77, Personal: true})
}
