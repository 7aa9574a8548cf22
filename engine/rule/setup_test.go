package rule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"tact/engine/definition"
	"tact/storage"
)

// effort multiplies the number of random worlds: 1, or 30 × TACT_EFFORT when that
// is set and more.
func effort() int { return max(1, int(30*share())) }

// share is TACT_EFFORT: which part of the full length is asked for; 0 = unset.
func share() float64 {
	x, err := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64)
	if err != nil || x < 0 {
		return 0
	}
	return x
}

// run counts triples (rule, person, time) until the goal, or until the time of the
// test is nearly over: the test fails then, unless it is one of -short.
type run struct {
	t          *testing.T
	goal, done int
}

// newRun: 10^4 triples, or full × TACT_EFFORT when that is more.
func newRun(t *testing.T, full float64) *run {
	return &run{t: t, goal: max(10_000, int(full*share()))}
}

func (r *run) more() bool {
	r.t.Helper()
	if r.done >= r.goal {
		r.t.Logf("%d triples", r.done)
		return false
	}
	if end, ok := r.t.Deadline(); ok && time.Until(end) < 20*time.Second {
		if !testing.Short() {
			r.t.Errorf("cut short: %d of %d triples: give more -timeout", r.done, r.goal)
		}
		r.t.Logf("cut short: %d of %d triples", r.done, r.goal)
		return false
	}
	return true
}

func testNames() *Names {
	return &Names{
		Attributes: map[string]Attribute{
			"age":        {ID: 1, Type: definition.TypeInt},
			"price":      {ID: 2, Type: definition.TypeFloat},
			"gender":     {ID: 3, Type: definition.TypeString, Values: []string{"female", "male"}},
			"city":       {ID: 4, Type: definition.TypeString},
			"subscribed": {ID: 5, Type: definition.TypeBool},
			"birthday":   {ID: 6, Type: definition.TypeDate},
			"joined":     {ID: 7, Type: definition.TypeTime},
			"interests":  {ID: 8, Type: definition.TypeList},
			"app":        {ID: 9, Type: definition.TypeSemver},
			"illness":    {ID: 10, Type: definition.TypeString, Sensitive: true},
		},
		Tags: map[string]Tag{
			"churn": {ID: 1, Former: []storage.Name{4}},
			"city_tier": {
				ID: 2, Former: []storage.Name{5, 7},
				Values: map[string]storage.Name{"1": 1, "2": 2, "3": 3},
			},
			"complaint": {ID: 3},
		},
		Renamed: map[string]string{"leaving": "churn", "town": "city_tier"},
		Tiers: map[string]Tier{"rfm": {ID: 6, Levels: []Level{
			{"low", 3}, {"mid", 1}, {"high", 4},
		}}},
		Segments: map[string]storage.Name{"uploaded": 1, "friends": 2},
		Events: map[string]Event{
			"order": {ID: 1, Properties: map[string]Property{
				"amount":        {ID: 1, Type: definition.TypeFloat, Indexed: true},
				"new":           {ID: 2, Type: definition.TypeBool, Indexed: true},
				"sku":           {ID: 3, Type: definition.TypeString, Indexed: true},
				"qty":           {ID: 4, Type: definition.TypeInt, Indexed: true},
				"note":          {ID: 5, Type: definition.TypeString},
				"items[].sku":   {ID: 6, Type: definition.TypeString, Indexed: true, Each: true},
				"items[].price": {ID: 7, Type: definition.TypeFloat, Indexed: true, Each: true},
				"due":           {ID: 8, Type: definition.TypeDate, Indexed: true},
				"slot":          {ID: 9, Type: definition.TypeTime, Indexed: true},
			}},
			"visit": {ID: 2}, "open": {ID: 3},
		},
		Outcomes: map[string]storage.Name{"impression": 11, "click": 12},
		Offers: []OfferName{
			{"coupon", 1, "growth/a", map[string]string{"season": "autumn"}},
			{"points", 2, "growth/b", map[string]string{"season": "autumn", "kind": "loyal"}},
			{"story", 3, "brand", nil},
		},
		Placements: []string{"cart", "home_hero", "daily_sms"},
		Context: map[string]ContextKey{
			"page":  {ID: 1, Type: definition.TypeString},
			"hour":  {ID: 2, Type: definition.TypeInt},
			"os":    {ID: 3, Type: definition.TypeSemver},
			"fast":  {ID: 4, Type: definition.TypeBool},
			"at":    {ID: 5, Type: definition.TypeTime},
			"born":  {ID: 6, Type: definition.TypeDate},
			"langs": {ID: 7, Type: definition.TypeList},
			"total": {ID: 8, Type: definition.TypeFloat},
		},
	}
}

func mustNode(t testing.TB, text string) *definition.Node {
	t.Helper()
	n, err := definition.NodeFromJSON([]byte(text), "rule.json")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return n
}

func mustParse(t testing.TB, text string) *Tree {
	t.Helper()
	tree, faults := Parse(mustNode(t, text), testNames(), "rule")
	if len(faults) > 0 {
		t.Fatalf("%s: %+v", text, faults)
	}
	return tree
}

// system is a Program with the conditions of some trees.
type system struct {
	program *Program
	conds   []Cond
}

// Cond is a draft of a tree that is finished at once.
func (b *Builder) Cond(t *Tree) (Cond, error) {
	d, err := NewDraft(t)
	if err != nil {
		return Cond{}, err
	}
	return b.Finish(d)
}

func build(t testing.TB, previous *Program, trees ...*Tree) system {
	t.Helper()
	b := NewBuilder(previous)
	var s system
	for _, tree := range trees {
		c, err := b.Cond(tree)
		if err != nil {
			t.Fatal(err)
		}
		s.conds = append(s.conds, c)
	}
	s.program = b.Program()
	return s
}

// narrow says whether every tree can be compiled: none has too many alternatives
// of conditions on the request.
func narrow(t testing.TB, trees ...*Tree) bool {
	t.Helper()
	for _, tree := range trees {
		if _, err := NewDraft(tree); err != nil {
			if !errors.Is(err, ErrTooWide) {
				t.Fatal(err)
			}
			return false
		}
	}
	return true
}

// fresh judges everything anew.
func (s *system) fresh(w *Who, ctx []ContextValue) (user [PageWords]uint64, request []uint64) {
	s.program.EvalUser(w, 0, user[:])
	var again [PageWords]uint64 // over one reading of the tail
	shared := *w
	shared.Scratch = &Scratch{}
	if s.program.EvalUser(&shared, 0, again[:]); again != user {
		panic("one reading of the tail says something else")
	}
	request = make([]uint64, s.program.RequestWords)
	s.program.EvalRequest(ctx, request)
	s.program.EvalClock(w, ctx, request)
	return user, request
}

// rowOf is the row of a person of one page.
func rowOf(user [PageWords]uint64, request []uint64) []uint64 {
	return MakeRow(nil, user[:], 1, request)
}

// holds judges one tree by bits, by Naive, and when it asks nothing of a request as
// a tree that stands by itself, which must agree.
func holds(t testing.TB, tree *Tree, w *Who, ctx []ContextValue) bool {
	t.Helper()
	s := build(t, nil, tree)
	user, request := s.fresh(w, ctx)
	got, want := s.conds[0].Holds(rowOf(user, request)), tree.Naive(w, ctx)
	if got != want {
		t.Fatalf("%s: bits say %v, naive says %v", tree.Explain(nil, nil, ""), got, want)
	}
	if standing := tree.Standing(); !standing.Reads().Request {
		if got, _ := standing.Judge(w); got != want {
			t.Fatalf("%s: standing says %v, naive says %v", tree.Explain(nil, nil, ""), got, want)
		}
	}
	return got
}

func val(kind storage.ValueKind, n int64) storage.Value {
	return storage.Value{Kind: kind, Num: uint64(n)}
}

func text(kind storage.ValueKind, s string) storage.Value {
	return storage.Value{Kind: kind, Bytes: []byte(s)}
}

func floatValue(f float64) storage.Value {
	return storage.Value{Kind: storage.KindFloat, Num: math.Float64bits(f)}
}

func listValue(elements ...string) storage.Value {
	v := storage.Value{Kind: storage.KindList}
	for _, e := range elements {
		v.Bytes = binary.AppendUvarint(v.Bytes, uint64(len(e)))
		v.Bytes = append(v.Bytes, e...)
	}
	return v
}

func date(t testing.TB, s string) storage.Value {
	t.Helper()
	day, ok := parseDate(s)
	if !ok {
		t.Fatalf("%q is no date", s)
	}
	return val(storage.KindDate, day)
}

func moment(t testing.TB, s string) storage.UnixMsec {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return storage.UnixMsec(at.UnixMilli())
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// draw makes random rules and people whose values often meet.
type draw struct {
	*rand.Rand
	now storage.UnixMsec
}

// newDraw starts in the days around a leap day.
func newDraw(seed uint64) draw {
	d := draw{Rand: rand.New(rand.NewPCG(seed, 7))}
	d.now = 1_708_992_000_000 + storage.UnixMsec(d.IntN(5*dayMs)) // 2024-02-27
	return d
}

func (d draw) one(words ...string) string { return words[d.IntN(len(words))] }

func (d draw) quoted(n int, words ...string) string {
	var all []string
	for range n {
		all = append(all, strconv.Quote(d.one(words...)))
	}
	return "[" + strings.Join(all, ",") + "]"
}

func drawnTexts() []string {
	return []string{
		"", "a", "Ann", "ANNA", "straße", "STRASSE", "Kelvin", "\u212Aelvin", "小雨",
		"ſam", "Sam", "x\xffy",
	}
}

func literals() []string {
	return []string{"a", "Ann", "ANNA", "straße", "Kelvin", "小雨", "sam", "an", "E"}
}

func versions() []string {
	return []string{"1", "1.2", "1.10.0", "1.10.0-beta.2", "1.10.0-beta.11", "2.0.0+x", "2.0.0-1"}
}

func (d draw) day() string {
	at := time.UnixMilli(int64(d.now)).UTC().AddDate(-d.IntN(4), -d.IntN(3), d.IntN(5)-2)
	return at.Format("2006-01-02")
}

func (d draw) rule(depth int) string {
	if depth == 0 || d.IntN(4) == 0 {
		return d.atom()
	}
	safety := ""
	if d.IntN(6) == 0 {
		safety = `"safety":true,`
	}
	switch d.IntN(3) {
	case 0:
		return `{` + safety + `"not":` + d.rule(depth-1) + `}`
	default:
		var parts []string
		for range 1 + d.IntN(4) {
			parts = append(parts, d.rule(depth-1))
		}
		return `{` + safety + `"` + d.one("all", "any") + `":[` + strings.Join(parts, ",") + `]}`
	}
}

func (d draw) atom() string {
	sign := d.one("", "", "not_")
	switch d.IntN(21) {
	case 20:
		return d.slot()
	case 19:
		return d.number(`"context":"`+d.one("hour_of_week", "hour_of_day", "day_of_week")+`"`,
			"0", "5", "20", "90")
	case 0:
		return `{"tag":"churn"}`
	case 1:
		return `{"tag":"city_tier","` + sign + `in":` + d.quoted(1+d.IntN(2), "1", "2", "3") + `}`
	case 2:
		return d.tier()
	case 3:
		return `{"segment":"uploaded"}`
	case 4:
		return fmt.Sprintf(`{"percent":["%d%%","%d.5%%"],"salt":"s%d"}`, d.IntN(40), 40+
			d.IntN(50), d.IntN(3))
	case 5, 6:
		return d.number(`"attribute":"age"`, "18", "17", "30", "-5", "9223372036854775807")
	case 7:
		return d.number(d.one(`"attribute":"price"`, `"context":"total"`), "0.5", "18", "-0.0",
			"1e300", "30")
	case 8:
		return d.strings(`"attribute":"city"`, literals())
	case 9:
		return `{"attribute":"interests","` + d.one("in", "not_in") + `":` + d.quoted(2,
			literals()...) +
			`,"fold":` + d.one("true", "false") + `}`
	case 10:
		return d.number(d.one(`"attribute":"app"`, `"context":"os"`), `"1"`, `"1.10.0"`,
			`"1.10.0-beta.3"`, `"2.0.0-0"`)
	case 11:
		return d.strings(`"context":"page"`, literals())
	case 12:
		return `{"attribute":"` + d.one("age", "city", "illness", "birthday", "app") +
			`","is_set":` + d.one("true", "false") + `}`
	case 16, 17, 18:
		return d.event()
	case 13:
		return `{"attribute":"subscribed","is":` + d.one("true", "false") + `}`
	}
	return d.timed()
}

func (d draw) slot() string {
	if d.IntN(2) == 0 {
		return d.strings(`"context":"channel"`, []string{"web", "sms"})
	}
	return d.strings(`"context":"placement"`, testNames().Placements)
}

func (d draw) tier() string {
	switch d.IntN(4) {
	case 0:
		return `{"tag":"city_tier"}`
	case 1:
		return `{"tier":"rfm","` + d.one("in", "not_in") + `":` + d.quoted(2, "low", "mid", "high") +
			`}`
	}
	return d.number(`"tier":"rfm"`, `"low"`, `"mid"`, `"high"`)
}

func (d draw) number(subject string, values ...string) string {
	switch d.IntN(4) {
	case 0:
		return `{` + subject + `,"in":[` + d.one(values...) + `,` + d.one(values...) + `]}`
	case 1:
		return `{` + subject + `,"is_not":` + d.one(values...) + `}`
	case 2:
		return `{` + subject + `,"gte":` + d.one(values...) + `,"lt":` + d.one(values...) + `}`
	}
	return `{` + subject + `,"` + d.one("is", "gt", "lte", "gte") + `":` + d.one(values...) + `}`
}

func (d draw) strings(subject string, words []string) string {
	fold := `,"fold":` + d.one("true", "false") + `}`
	switch d.IntN(4) {
	case 0:
		return `{` + subject + `,"` + d.one("in", "not_in") + `":` + d.quoted(1+d.IntN(3),
			words...) + fold
	case 1:
		return `{` + subject + `,"matches":"` + d.one("^A.*", "a+n", "(x|y)", "雨$", ".") + `"` +
			fold
	}
	word := d.one("is", "is_not", "starts_with", "ends_with", "contains")
	return `{` + subject + `,"` + word + `":` + strconv.Quote(d.one(words...)) + fold
}

// timed draws a comparison of a date or a time that depends on now or the zone.
func (d draw) timed() string {
	subject := `{` + d.one(`"attribute":"birthday"`, `"attribute":"joined"`, `"attribute":"birthday"`,
		`"attribute":"joined"`, `"context":"born"`, `"context":"at"`) + `,`
	n := strconv.Itoa(d.IntN(4))
	switch d.IntN(8) {
	case 0:
		return subject + `"within_` + d.one("last", "next") + `":"` + d.one("1d", "3d", "2w",
			"52w") + `"}`
	case 1:
		return `{` + d.one(`"attribute":"joined"`, `"context":"at"`) + `,"within_` + d.one("last", "next") + `":"` + d.one("90s",
			"36h", "1d", "400d") + `"}`
	case 2:
		return subject + `"years_since":{"` + d.one("is", "gt", "gte", "lt", "lte", "is_not") +
			`":` + n + `}}`
	case 3:
		return subject + `"months_since":{"between":[` + n + `,1` + n + `],"not_in":[3,` + n + `]}}`
	case 4:
		return subject + `"anniversary":{"before":"` + d.one("0d", "3d", "182d") + `","after":"` +
			d.one("0d", "1d", "182d") + `"}}`
	case 5:
		return subject + `"` + d.one("before", "after", "is", "is_not", "gte", "lt") + `":"` +
			d.day() + `"}`
	case 6:
		return subject + `"in":["` + d.day() + `","` + d.day() + `"]}`
	}
	return `{"attribute":"joined","` + d.one("before", "after", "gte", "lte") + `":"` + d.day() +
		`T10:00:00.5+08:00"}`
}

func zones() []string {
	return []string{
		"UTC", "Asia/Shanghai", "America/New_York", "America/St_Johns", "Pacific/Apia", "Asia/Beirut",
		"America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Cairo", "America/Havana",
	}
}

// patch draws a person: every value is missing now and then, and sometimes of
// another type than declared.
func (d draw) patch() *storage.Patch {
	p := &storage.Patch{}
	set := func(id storage.Name, values ...storage.Value) {
		if d.IntN(4) > 0 {
			p.Attrs = append(p.Attrs, storage.AttrValue{ID: id, Value: values[d.IntN(len(values))]})
		}
	}
	odd := val(storage.KindBool, 1)
	if d.IntN(2) == 0 {
		odd = text(storage.KindString, "18")
	}
	some := func(kind storage.ValueKind, words []string) (all []storage.Value) {
		for _, w := range words {
			all = append(all, text(kind, w))
		}
		return append(all, odd)
	}
	span := int64(d.IntN(1000)) * int64(d.IntN(dayMs))
	at := int64(d.now) + span*int64(1-2*d.IntN(2))
	set(1, val(storage.KindInt, 17), val(storage.KindInt, 18), val(storage.KindInt, -5), odd)
	set(2, floatValue(0.5), floatValue(math.Copysign(0, -1)), val(storage.KindInt, 18),
		floatValue(1e300), odd)
	set(3, text(storage.KindString, "female"), odd)
	set(4, some(storage.KindString, drawnTexts())...)
	set(5, val(storage.KindBool, 0), val(storage.KindBool, 1), val(storage.KindInt, 1))
	set(6, val(storage.KindDate, FloorDiv(at, dayMs)), val(storage.KindDate, 11016),
		odd) // 2000-02-29
	set(7, val(storage.KindTime, at), val(storage.KindTime, int64(d.now)), odd)
	set(8, listValue(), listValue("a", "Ann"), listValue("Kelvin", "小雨", "sam"), odd)
	set(9, some(storage.KindSemver, append(versions(), "one"))...)
	set(10, text(storage.KindString, "yes"), odd)
	for id := storage.Name(1); id <= 7; id++ {
		if d.IntN(2) == 0 {
			tag := storage.TagValue{ID: id}
			if id == 2 || id >= 5 {
				tag.Value = storage.Name(d.IntN(5))
			}
			if d.IntN(2) == 0 {
				tag.Expires = storage.UnixSec(int64(d.now)/1000 + int64(d.IntN(2000)-500))
			}
			p.TagsAdd = append(p.TagsAdd, tag)
		}
	}
	if d.IntN(2) == 0 {
		p.SegmentsAdd = []storage.Name{1}
	}
	return p
}

func (d draw) context() (ctx []ContextValue) {
	add := func(key storage.Name, values ...storage.Value) {
		if d.IntN(4) > 0 {
			ctx = append(ctx, ContextValue{key, values[d.IntN(len(values))]})
		}
	}
	add(1, text(storage.KindString, "Ann"), text(storage.KindString, "小雨"), val(storage.KindInt, 3))
	add(3, text(storage.KindSemver, "1.10.0-beta.3"), text(storage.KindSemver, "2"),
		text(storage.KindString, "2"))
	at := int64(d.now) + int64(d.IntN(9)-4)*dayMs/3
	add(5, val(storage.KindTime, at), val(storage.KindInt, at))
	add(6, val(storage.KindDate, FloorDiv(at, dayMs)), val(storage.KindDate, 11016),
		val(storage.KindDate, FloorDiv(at, dayMs)-int64(d.IntN(1000))))
	add(8, floatValue(18), val(storage.KindInt, 30), floatValue(math.NaN()))
	add(1, text(storage.KindString, "a"))
	slots := [][]ContextValue{
		nil, SlotContext("cart", definition.ChannelWeb), SlotContext("daily_sms", definition.ChannelSMS),
	}
	return append(ctx, slots[d.IntN(len(slots))]...)
}
