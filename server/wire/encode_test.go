package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tact/engine"
	"tact/engine/definition"
)

func sampleDecision() *engine.Decision {
	d := &engine.Decision{
		HasID: true, UserID: []byte("u1"), DecidedAt: 1763776801005, Revision: 12,
		Slots: []engine.SlotReply{
			{Key: []byte("hero"), First: 0, Count: 1},
			{Key: []byte("side"), First: 1, Count: 1, Fallback: true},
			{Key: []byte("foot\n"), Reason: "capped_user", Reasons: []engine.ReasonCount{
				{Reason: "capped_user", N: 2}, {Reason: "ineligible", N: 17},
			}},
		},
		Items: []engine.ItemReply{{
			OfferID: "new_user_coupon", TreatmentID: "web_banner", Rank: 1, Score: 1.25,
			Propensity: 0.1, Probability: 1, Channel: "web", ContentType: "json",
			Content: []byte(`{"title":"小雨"}`), Token: []byte("tok"), Reserved: true,
			ExpiresAt: 1763777401000,
		}, {
			OfferID: "brand", TreatmentID: "t", Rank: 1, Probability: 1, Channel: "sms",
			ContentType: "text", Content: []byte("a \"b\"\x01"),
		}},
		Assignments: []engine.AssignmentReply{{ExperimentID: "hero_copy", VariantID: "bold"}},
		Capped:      []engine.CappedReply{{CapID: "weekly", OfferID: "x", Until: 1763777401}},
		Degraded:    []string{"identity_conflict"},
		Trace: []engine.TraceReply{
			{Key: []byte("hero"), OfferID: "new_user_coupon"},
			{Key: []byte("hero"), OfferID: "x", Reason: "capped_user", Detail: "weekly"},
		},
	}
	d.ID = [16]byte{0x01, 0x9a, 15: 0xff}
	d.Items[0].Reservation.Epoch, d.Items[0].Reservation.Number = 3, 0x2000000000000a
	return d
}

func TestAppendDecision(t *testing.T) {
	d := sampleDecision()
	want := `{"decision_id":"019a00000000000000000000000000ff","user_id":"u1",` +
		`"decided_at":"2025-11-22T02:00:01.005Z","config_version":12,"placements":{` +
		`"hero":{"items":[{"offer_id":"new_user_coupon","treatment_id":"web_banner","rank":1,` +
		`"score":1.25,"propensity":0.1,"probability":1,"channel":"web",` +
		`"content":{"title":"小雨"},"tracking_token":"tok",` +
		`"reservation":{"id":"00000003002000000000000a","expires_at":"2025-11-22T02:10:01.000Z"}}]},` +
		`"side":{"fallback":{"offer_id":"brand","treatment_id":"t","rank":1,"score":0,` +
		`"propensity":0,"probability":1,"channel":"sms","content":"a \"b\"\u0001"}},` +
		`"foot\n":{"no_decision":{"reason":"capped_user","reasons":{"capped_user":2,` +
		`"ineligible":17}}}},"assignments":[{"experiment_id":"hero_copy","variant_id":"bold"}],` +
		`"capped":[{"cap_id":"weekly","offer_id":"x","until":"2025-11-22T02:10:01.000Z"}],` +
		`"degraded":["identity_conflict"],"trace":[` +
		`{"key":"hero","offer_id":"new_user_coupon","won":true},` +
		`{"key":"hero","offer_id":"x","reason":"capped_user","detail":"weekly"}]}`
	if got := string(AppendDecision(nil, d)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	dry := &engine.Decision{Slots: []engine.SlotReply{{Key: []byte("p"), Reason: "inactive"}}}
	want = `{"decided_at":"1970-01-01T00:00:00.000Z","config_version":0,` +
		`"placements":{"p":{"no_decision":{"reason":"inactive"}}}}`
	if got := string(AppendDecision(nil, dry)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendDecisionDoesNotAllocate(t *testing.T) {
	d := sampleDecision()
	buf := AppendDecision(nil, d)
	if n := testing.AllocsPerRun(200, func() { buf = AppendDecision(buf[:0], d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever text and number goes in comes back through encoding/json.
func FuzzAppend(f *testing.F) {
	f.Add("小雨\x00\"\\\u2028", 1e-7)
	f.Add("a\xffb", 1.5e300)
	f.Fuzz(func(t *testing.T, s string, x float64) {
		var text string
		if err := json.Unmarshal(appendString(nil, s), &text); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); !sameText(text, want, s) {
			t.Fatalf("got %q, want %q", text, want)
		}
		if string(appendString(nil, s)) != string(appendString(nil, []byte(s))) {
			t.Fatal("strings and bytes differ")
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return
		}
		var back float64
		if err := json.Unmarshal(appendFloat(nil, x), &back); err != nil || back != x {
			t.Fatalf("%v came back as %v (%v)", x, back, err)
		}
	})
}

// sameText: ToValidUTF8 makes one mark of a run of bad bytes, we make one each.
func sameText(got, want, source string) bool {
	if strings.ContainsRune(source, '\uFFFD') || got == want {
		return true
	}
	collapsed := got
	for strings.Contains(collapsed, "\uFFFD\uFFFD") {
		collapsed = strings.ReplaceAll(collapsed, "\uFFFD\uFFFD", "\uFFFD")
	}
	return collapsed == want
}

func TestAppendUser(t *testing.T) {
	var u engine.UserView
	u.UserID, u.Timezone = "u1", "Asia/Shanghai"
	u.Identities = append(u.Identities, struct{ Type, Value string }{"email", "a@b"})
	add := func(name string, kind definition.AttrType, number uint64, text string) {
		u.Attributes = slices.Grow(u.Attributes, 1)[:len(u.Attributes)+1]
		last := &u.Attributes[len(u.Attributes)-1]
		last.Name, last.Value.Num, last.Value.Bytes = name, number, []byte(text)
		setKind(&last.Value.Kind, kind)
	}
	minusDay := int64(-1)
	add("b", definition.TypeBool, 1, "")
	add("i", definition.TypeInt, ^uint64(4), "")
	add("f", definition.TypeFloat, math.Float64bits(0.5), "")
	add("s", definition.TypeString, 0, "小\"雨")
	add("d", definition.TypeDate, uint64(minusDay), "")
	add("t", definition.TypeTime, 1500, "")
	add("l", definition.TypeList, 0, "\x01a\x02bc")
	add("v", definition.TypeSemver, 0, "1.10.0")
	u.Segments = []string{"loyal"}
	got := string(AppendUser(nil, &u))
	want := `{"user_id":"u1","visitor":false,"identities":[{"type":"email","value":"a@b"}],` +
		`"attributes":{"b":true,"i":-5,"f":0.5,"s":"小\"雨","d":"1969-12-31",` +
		`"t":"1970-01-01T00:00:01.500Z","l":["a","bc"],"v":"1.10.0"},"tags":[],` +
		`"segments":["loyal"],"consents":[],"blacklist":[],"addresses":{},` +
		`"timezone":"Asia/Shanghai","events":[]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// setKind stores a kind in a field of another package's type.
func setKind[T ~uint8](dst *T, kind definition.AttrType) { *dst = T(kind) }

func TestAppendLine(t *testing.T) {
	f := func(res engine.LineResult, err LineError, want string) {
		t.Helper()
		if got := string(AppendLine(nil, 7, res, err)); got != want+"\n" {
			t.Errorf("got  %swant %s", got, want)
		}
	}
	f(engine.LineResult{}, LineError{}, `{"line":7,"status":"applied"}`)
	f(engine.LineResult{Status: engine.LineDuplicate}, LineError{},
		`{"line":7,"status":"duplicate"}`)
	f(engine.LineResult{Flags: engine.FlagClockClamped | engine.FlagRepeat}, LineError{},
		`{"line":7,"status":"applied","flags":["clock_clamped","repeat_impression"]}`)
	f(engine.LineResult{Status: engine.LineRejected}, LineError{"wrong_type", "event", "no"},
		`{"line":7,"status":"rejected","error":{"code":"wrong_type","field":"event","detail":"no"}}`)
}

// Every document is one valid JSON value, also behind bytes that are there already.
func TestAppendIsAlwaysOneValue(t *testing.T) {
	faults := []definition.Fault{{Message: "m", Field: "f"}}
	tests := []engine.TestOutcome{{ID: "a", Expected: "x", Got: "y", Trace: []string{"l"}}, {Passed: true}}
	rows := []engine.StatsRow{{OfferID: "o", What: "click", N: math.MaxUint64, Value: 1}, {}}
	revs := []engine.RevisionView{{Number: 2, Of: 1}, {}}
	for i, doc := range []func(dst []byte) []byte{
		func(b []byte) []byte { return AppendDecision(b, sampleDecision()) },
		func(b []byte) []byte { return AppendUser(b, &engine.UserView{}) },
		func(b []byte) []byte { return AppendStats(b, rows) },
		func(b []byte) []byte { return AppendRevisions(b, revs) },
		func(b []byte) []byte { return AppendFiles(b, 1, []definition.File{{}, {Name: "n"}}) },
		func(b []byte) []byte { return AppendCheck(b, faults, tests) },
		func(b []byte) []byte { return AppendPublished(b, &revs[0], tests) },
		func(b []byte) []byte { return AppendResult(b, engine.LineResult{}) },
		func(b []byte) []byte {
			return AppendProblem(b, &Problem{Status: 400, Title: "t", Faults: faults, Tests: tests})
		},
	} {
		alone, behind := doc(nil), doc([]byte("\n"))
		var v any
		if err := json.Unmarshal(alone, &v); err != nil {
			t.Errorf("document %d: %v: %s", i, err, alone)
		}
		if !reflect.DeepEqual(append([]byte("\n"), alone...), behind) {
			t.Errorf("document %d differs behind other bytes: %s", i, behind)
		}
	}
}

func TestReadySaysItsNotes(t *testing.T) {
	f := func(want string, notes ...string) {
		t.Helper()
		if got := string(AppendReady(nil, notes)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	f(`{"ready":true}`)
	f(`{"ready":true,"notes":["a","b\"c"]}`, "a", `b"c`)
}

// Numbers, times and texts are written as the standard library writes them.
func TestAppendLikeTheLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 9))
	number := func(f float64) {
		t.Helper()
		want, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var back float64
		got := appendFloat(nil, f)
		if err := json.Unmarshal(got, &back); err != nil || back != f || len(got) > len(want)+1 {
			t.Fatalf("%v: %s, the library has %s", f, got, want)
		}
		if a := math.Abs(f); (a == 0 || a >= 1e-6 && a < 1e21) && string(got) != string(want) {
			t.Fatalf("%v: %s, the library has %s", f, got, want)
		}
	}
	for range 200_000 {
		n := float64(random.Int64N(1 << (1 + random.IntN(60))))
		number(n / math.Pow(10, float64(random.IntN(9))))
		number(-n / 1e4)
		number(random.NormFloat64() * math.Pow(10, float64(random.IntN(40)-20)))
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1, 0.1, 1e-4, 1e-5, 1e15, 1e11, 99999999999.9999} {
		number(f)
	}
	for range 20_000 {
		ms := minMsec + random.Int64N(maxMsec-minMsec)
		want := time.UnixMilli(ms).UTC().Format("\"2006-01-02T15:04:05.000Z\"")
		if got := string(appendTime(nil, ms)); got != want {
			t.Fatalf("%d: %s, want %s", ms, got, want)
		}
		text := make([]rune, random.IntN(40))
		for i := range text {
			text[i] = rune(random.IntN([]int{128, 0x250, 0x10000}[random.IntN(3)]))
		}
		var back string
		s := string(text)
		got := appendString(nil, s)
		if err := json.Unmarshal(got, &back); err != nil || back != s {
			t.Fatalf("%q: %s, %v", s, got, err)
		}
		if other := appendString(nil, []byte(s)); string(other) != string(got) {
			t.Fatalf("%q: %s and %s", s, got, other)
		}
		raw := make([]byte, random.IntN(40))
		var runes []rune
		for i := range raw {
			raw[i] = byte(random.Uint32N(128))
			if random.IntN(8) == 0 {
				raw[i] += 128
			}
		}
		for _, r := range string(raw) { // each byte that is not valid becomes U+FFFD
			runes = append(runes, r)
		}
		got = appendString(nil, raw)
		if err := json.Unmarshal(got, &back); err != nil || back != string(runes) || !utf8.Valid(got) {
			t.Fatalf("%q: %s, %v", raw, got, err)
		}
	}
}

// BenchmarkAppendDecision writes the reply of one placement with one item.
func BenchmarkAppendDecision(b *testing.B) {
	d := engine.Decision{
		HasID: true, UserID: []byte("u123456"), DecidedAt: 1_790_000_000_123, Revision: 17,
		Slots: []engine.SlotReply{{Key: []byte("home_banner"), Count: 1}},
		Items: []engine.ItemReply{{
			OfferID: "offer_0123", TreatmentID: "offer_0123_banner", Rank: 1, Score: 12.34,
			Propensity: 0.37, Probability: 1, Channel: "banner",
			Content: []byte("Something for you, Ann, at 12.50 until Sunday"),
			Token:   bytes.Repeat([]byte("aZ0_"), 40),
		}},
	}
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst = AppendDecision(dst[:0], &d)
	}
}
