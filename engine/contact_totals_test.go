package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

// protectWorld has caps of every kind of window, each on an offer and a placement of its own.
func protectWorld() string {
	windows := map[string]string{
		"day": "{calendar: day, zone: workspace}", "roll": "{rolling: 6h}", "life": "lifetime",
		"then": `{between: ["2026-01-01T00:00:00Z", "2026-12-01T00:00:00Z"]}`,
	}
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: Asia/Shanghai\n---\n" +
		"{kind: attribute, id: allowed, type: int}\n")
	for id, window := range windows {
		for _, scope := range []string{"person", "total"} {
			name := scope + "_" + id
			fmt.Fprintf(&b, `---
{kind: offer, id: %[1]s, group: %[1]s, message_class: marketing,
 treatments: [{id: t, channel: web, content: {type: text, body: x}}]}
---
{kind: decision_policy, id: %[1]s, candidates: {offers: {groups: [%[1]s]}}, ranking: {by: product}}
---
{kind: placement, id: %[1]s, channel: web, policy: %[1]s, sticky: none}
---
{kind: cap, id: %[1]s, scope: %[2]s, per: offer, applies_to: {offers: {ids: [%[1]s]}},
 count_on: impression, window: %[3]s, limit: 3}
`, name, scope, window)
		}
	}
	return b.String()
}

// After an older copy is opened under protect, contact-state names every cap that
// refuses for it, of people and of all, without an offer being named; what it says of
// the end is the second from which a decision gives the offer again.
func TestProtectionIsShown(t *testing.T) {
	b := newBed(t, protectWorld())
	b.user(UserDoc{UserID: []byte("ann")})
	state := func() *ContactView {
		t.Helper()
		v, err := b.e.ContactState([]byte("ann"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := state(); len(v.Protected) != 0 || b.e.ProtectedCaps() != 0 {
		t.Errorf("protected before: %+v, %d caps", v.Protected, b.e.ProtectedCaps())
	}
	if err := b.e.Close(); err != nil {
		t.Fatal(err)
	}
	older := storage.OlderCopy{Caps: storage.CapsProtect, Newest: storage.UnixMsec(b.m.wall)}
	if err := storage.MarkOlderCopy(b.dir, older, storage.Options{FS: b.fs}); err != nil {
		t.Fatal(err)
	}
	b.open()
	v := state()
	if len(v.Protected) != 8 || b.e.ProtectedCaps() != 8 {
		t.Fatalf("protected: %+v, %d caps", v.Protected, b.e.ProtectedCaps())
	}
	totals := 0
	for _, c := range v.Caps {
		if c.Scope == "total" {
			totals++
		}
		if !c.Protected || c.Reason == "" || c.ProtectedUntil != c.Until {
			t.Errorf("counter %+v", c)
		}
	}
	if totals != 4 || v.Truncated {
		t.Errorf("%d totals, truncated %v", totals, v.Truncated)
	}
	// In rising order of the ends: each refuses a second before, and not at it.
	for len(v.Protected) > 0 {
		next := v.Protected[0]
		for _, p := range v.Protected {
			if next.Until == 0 || p.Until != 0 && p.Until < next.Until {
				next = p
			}
		}
		if next.Until == 0 {
			break
		}
		wait := int64(next.Until)*1000 - int64(b.e.Now())
		b.m.pass(time.Duration(wait-1000) * time.Millisecond)
		if got := b.ask(b.decideReq("ann", next.CapID)); strings.Contains(got, next.CapID) {
			t.Errorf("%s is given before its end: %s", next.CapID, got)
		}
		b.m.pass(time.Second)
		got := b.ask(b.decideReq("ann", next.CapID))
		if over := strings.HasSuffix(next.CapID, "_then"); !over && !strings.Contains(got, next.CapID) {
			t.Errorf("%s is not given at its end: %s", next.CapID, got)
		}
		left := state()
		for _, p := range left.Protected {
			if p.CapID == next.CapID {
				t.Errorf("%s is protected beyond its end", next.CapID)
			}
		}
		if len(left.Protected) >= len(v.Protected) {
			t.Fatalf("%+v after %+v", left.Protected, v.Protected)
		}
		v = left
	}
	for _, p := range v.Protected {
		if !strings.HasSuffix(p.CapID, "_life") {
			t.Errorf("%s does not end", p.CapID)
		}
	}
	if len(v.Protected) != 2 {
		t.Errorf("at the end: %+v", v.Protected)
	}
}

// Without an offer contact-state lists the totals, those that are used first, and
// says when there are more.
func TestContactStateListsTotals(t *testing.T) {
	var world strings.Builder
	world.WriteString(capWorld + "scope: total\nper: all\ncount_on: decision\n" +
		"window: lifetime\nlimit: 2\n---\n{kind: cap, id: each, scope: total, per: offer, " +
		"count_on: decision, window: {rolling: 1d}, limit: 7}\n")
	for i := range maxTotalsShown {
		fmt.Fprintf(&world, "---\n{kind: offer, id: o%d, group: g, message_class: marketing, value: 0.5,\n"+
			" treatments: [{id: t, channel: web, content: {type: text, body: x}}]}\n", i)
	}
	b := newBed(t, world.String())
	b.user(UserDoc{UserID: []byte("ann")})
	b.ask(b.decideReq("ann", "spot"))
	v, err := b.e.ContactState([]byte("ann"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Caps) != maxTotalsShown || !v.Truncated {
		t.Fatalf("%d totals, truncated %v", len(v.Caps), v.Truncated)
	}
	found := map[string]CounterView{}
	for _, c := range v.Caps {
		if c.Used > 0 {
			found[c.CapID] = c
		}
	}
	if c := found["each"]; c.Dimension != "a" || c.Limit != 7 || c.Spent != 1 || c.Reason != "" {
		t.Errorf("each: %+v", c)
	}
	if c := found["c"]; c.Used != 1 || c.Limit != 2 {
		t.Errorf("c: %+v", c)
	}
	b.ask(b.decideReq("ann", "spot"))
	if v, err = b.e.ContactState([]byte("ann"), nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Caps {
		if c.CapID == "c" && (c.Reason != "capped_total" || c.Used != 2) {
			t.Errorf("a full total: %+v", c)
		}
	}
}
