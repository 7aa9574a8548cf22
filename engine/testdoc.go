package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"tact/engine/content"
	"tact/engine/decide"
	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// runTests runs every `kind: test` document of a snapshot. A test is decided
// outside every experiment and holdout, but for what it assigns.
func runTests(snap *Snapshot) []TestOutcome {
	out := make([]TestOutcome, 0, len(snap.Set.Tests))
	for _, def := range snap.Set.Tests {
		t := testRun{snap: snap, def: def}
		out = append(out, t.run())
	}
	return out
}

// testRun is one test on its way.
type testRun struct {
	snap *Snapshot
	def  *definition.Test
	work decideWork
}

func (t *testRun) run() TestOutcome {
	o := TestOutcome{ID: t.def.ID, Pos: t.def.Pos, Expected: t.expected()}
	if err := t.decide(); err != nil {
		o.Got = err.Error()
		return o
	}
	o.Got = t.got()
	o.Passed = t.passed()
	if !o.Passed {
		o.Trace = t.trace()
	}
	return o
}

func (t *testRun) expected() string {
	x := &t.def.Expect
	switch {
	case x.NoDecision != "":
		return "no_decision " + x.NoDecision
	case x.Fallback != "":
		return "fallback " + x.Fallback
	}
	s := "offer " + x.Offer
	if x.Treatment != "" {
		s += " treatment " + x.Treatment
	}
	if x.Content != nil {
		s += " content " + string(x.Content.AppendJSON(nil))
	}
	return s
}

// decide picks for the test's user.
func (t *testRun) decide() error {
	w := &t.work
	w.snap, w.now = t.snap, storage.UnixMsec(t.def.AtMs)
	plan := t.snap.Plan
	placement, ok := plan.PlacementByID([]byte(t.def.Placement))
	if !ok {
		return fmt.Errorf("no placement %q", t.def.Placement)
	}
	w.slots = []decide.SlotRequest{{Placement: placement, Policy: -1}}
	req := &DecideRequest{}
	if t.def.Context != nil {
		for _, k := range t.def.Context.Keys {
			req.Context = append(req.Context, NamedValue{[]byte(k.Name), rawOf(k.Value)})
		}
	}
	if err := w.prepareContext(req); err != nil {
		return err
	}
	for experiment, variant := range t.def.Assign {
		req.Assign = append(req.Assign, NamedValue{
			[]byte(experiment), RawValue{Kind: RawString, Text: []byte(variant)},
		})
	}
	if err := w.prepareForce(req); err != nil {
		return err
	}
	if err := t.person(); err != nil {
		return err
	}
	w.over.NoExperiments = true
	w.request = decide.Request{Slots: w.slots, Words: w.words, Context: w.context, Explain: true}
	at := decide.Moment{Ms: w.now, Instant: storage.Instant{Now: toSec(w.now)}}
	plan.Pick(&w.request, &w.person, &at, &w.over, &w.result)
	return nil
}

// person builds the test's user.
func (t *testRun) person() error {
	w := &t.work
	doc, err := userDocOf(t.def.User)
	if err != nil {
		return err
	}
	names := t.snap.names(w.now)
	r := resolver{names: names, snap: t.snap}
	if err := r.resolvePatch(doc); err != nil {
		return err
	}
	if list := t.def.User.Get("segments"); list != nil {
		for _, n := range list.List {
			id, ok := t.snap.segments[n.Text]
			if !ok {
				return fmt.Errorf("%s: no segment %q", n.Pos, n.Text)
			}
			r.patch.SegmentsAdd = append(r.patch.SegmentsAdd, id)
		}
	}
	profile, err := storage.BuildProfile(&r.patch, r.names.now())
	if err != nil {
		return err
	}
	w.id = append(w.id[:0], doc.UserID...)
	home := t.snap.Plan.Workspace.Zone
	w.who = rule.Who{ID: w.id, Profile: profile, Zone: home, Home: home, Now: w.now}
	if w.who.Tail, w.who.Activity, err = t.history(names); err != nil {
		return err
	}
	w.person = decide.Person{
		HasID: len(w.id) > 0, Known: len(w.id) > 0, ID: w.id, Profile: profile,
	}
	if len(doc.Timezone) > 0 {
		zone, err := loadZone(string(doc.Timezone))
		if err != nil {
			return err
		}
		w.person.Zone, w.who.Zone = zone, zone
	}
	w.known = true
	w.readClock()
	program := t.snap.Plan.Program
	w.sizeBits(program)
	program.EvalUser(&w.who, 0, w.bits)
	return nil
}

// names resolves names for a check without a store, as compile did.
func (s *Snapshot) names(now storage.UnixMsec) *nameSource {
	mint := s.mint
	return &nameSource{
		lookup: func(k storage.DictKind, name []byte) (storage.Name, bool) {
			id, err := mint(k, string(name))
			return id, err == nil
		},
		intern: mint,
		zone: func(name string) (storage.Name, error) {
			if _, err := loadZone(name); err != nil {
				return 0, err
			}
			return mint(storage.DictZone, name)
		},
		now: func() storage.UnixMsec { return now },
	}
}

// item returns the one item of the test's slot, or nil.
func (t *testRun) item() *decide.Item {
	if len(t.work.result.Items) == 0 {
		return nil
	}
	return &t.work.result.Items[0]
}

func (t *testRun) got() string {
	it := t.item()
	if it == nil {
		return "no_decision " + t.work.result.Slots[0].Reason.String()
	}
	plan := t.snap.Plan
	if it.Fallback {
		return "fallback " + plan.Offers[it.Offer].ID
	}
	s := "offer " + plan.Offers[it.Offer].ID + " treatment " + plan.Treatments[it.Treatment].ID
	text, err := t.message(it)
	if err != nil {
		return s + " content: " + err.Error()
	}
	if t.def.Expect.Content != nil {
		s += " content " + string(text)
	}
	return s
}

// message renders the item's content.
func (t *testRun) message(it *decide.Item) ([]byte, error) {
	w := &t.work
	msg := &t.snap.messages[it.Treatment]
	args := make([]content.Value, 0, len(msg.sources))
	for _, src := range msg.sources {
		v := content.Value{Kind: src.Type}
		switch src.Space {
		case content.SpaceUserID:
			v.Set, v.Bytes = true, w.id
		case content.SpaceUserAttr:
			a, ok := w.person.Profile.Attr(storage.Name(src.ID))
			v = content.Value{Set: ok, Kind: definition.AttrType(a.Kind), Num: a.Num, Bytes: a.Bytes}
		case content.SpaceContext:
			for _, c := range w.context {
				if c.Key == storage.Name(src.ID) {
					v = content.Value{
						Set: true, Kind: definition.AttrType(c.Value.Kind), Num: c.Value.Num,
						Bytes: c.Value.Bytes,
					}
				}
			}
		}
		args = append(args, v)
	}
	w.scratch.Zone = w.who.Zone
	return msg.template.Append(nil, args, &w.scratch)
}

func (t *testRun) passed() bool {
	x, it, plan := &t.def.Expect, t.item(), t.snap.Plan
	switch {
	case x.NoDecision != "":
		return it == nil && t.work.result.Slots[0].Reason.String() == x.NoDecision
	case it == nil:
		return false
	case x.Fallback != "":
		return it.Fallback && plan.Offers[it.Offer].ID == x.Fallback
	}
	if it.Fallback || plan.Offers[it.Offer].ID != x.Offer ||
		(x.Treatment != "" && plan.Treatments[it.Treatment].ID != x.Treatment) {
		return false
	}
	text, err := t.message(it)
	if err != nil || x.Content == nil {
		return err == nil
	}
	return contains(text, x.Content)
}

// contains tells whether a rendered message holds what a test expects: a text
// equal to a string, or a JSON value of which want is a subset.
func contains(text []byte, want *definition.Node) bool {
	if want.Kind == definition.NodeString {
		return string(text) == want.Text
	}
	var got, expected any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&got) != nil {
		return false
	}
	d = json.NewDecoder(bytes.NewReader(want.AppendJSON(nil)))
	d.UseNumber()
	return d.Decode(&expected) == nil && subset(expected, got)
}

func subset(want, got any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		for k, v := range w {
			if !ok || !subset(v, g[k]) {
				return false
			}
		}
		return ok
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !subset(w[i], g[i]) {
				return false
			}
		}
		return true
	}
	return want == got
}

// trace describes the verdict on every candidate.
func (t *testRun) trace() []string {
	plan := t.snap.Plan
	var lines []string
	for _, line := range t.work.result.Trace {
		parts := []string{plan.Offers[line.Offer].ID + ":"}
		switch {
		case line.Rank > 0:
			parts = append(parts, fmt.Sprintf("won rank %d", line.Rank))
		default:
			parts = append(parts, line.Reason.String())
		}
		if line.Stage != decide.StageNone {
			parts = append(parts, "by "+line.Stage.String())
		}
		if line.Cap >= 0 {
			parts = append(parts, "cap "+plan.Caps[line.Cap].ID)
		}
		if line.Experiment >= 0 {
			parts = append(parts, "experiment "+plan.Experiments[line.Experiment].ID)
		}
		if line.Fallback {
			parts = append(parts, "(fallback)")
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	return lines
}
