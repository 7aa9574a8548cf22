package decide

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// TestScripts runs testdata: commands with the answers they must give.
//
//	publish           the documents below replace the plan
//	user ID [zone=…]  one fact a line: attr NAME VALUE | tag NAME [VALUE] |
//	                  segment ID | consent PURPOSE CHANNEL yes|no |
//	                  blacklist CHANNEL | address CHANNEL
//	decide [user=ID] at=TIME slots=(PLACEMENT[:POLICY][*COUNT], …)
//	       [context=(k=v, …)] [allow=…] [block=…] [dedupe=none|group] [live]
//	       [explain] [full=(CAP/OFFER, …)] [exclude=(SLOT/OFFER, …)]
//	       [stopped=…] [noreserve] [assign=(EXPERIMENT/VARIANT)] [noexperiments]
//	confirm N on=impression at=TIME | release N at=TIME | react N on=click at=TIME
//
// A TIME is RFC 3339, or 15:04[:05] of 2 March 2026 (a Monday), UTC.
func TestScripts(t *testing.T) {
	runScripts(t, func(t *testing.T) func(*testing.T, *command) string {
		return (&script{world: newWorld(t)}).run
	})
}

type script struct{ *world }

func (s *script) run(t *testing.T, c *command) string {
	t.Helper()
	if s.plan == nil && c.name != "publish" {
		return "no plan\n"
	}
	switch c.name {
	case "publish":
		if faults := s.publish(c.input, scriptTime(t, "00:00")); faults != "" {
			return faults
		}
		return "ok\n"
	case "user":
		return s.user(t, c)
	case "decide":
		return s.decide(t, c)
	case "confirm", "release", "react":
		n, err := strconv.Atoi(c.args[0].key)
		if err != nil || n >= len(s.grants) {
			t.Fatalf("%s: no grant %s", c.at, c.args[0].key)
		}
		var on definition.CountOn
		if word := c.one("on"); word != "" {
			on = countOnOf(t, word)
		}
		at := scriptTime(t, c.one("at"))
		if c.name == "react" {
			s.react(n, on, at, &facts{})
		} else {
			s.resolve(n, on, at)
		}
		return "ok\n"
	}
	t.Fatalf("%s: unknown command %s", c.at, c.name)
	return ""
}

func scriptTime(t testing.TB, text string) storage.UnixMsec {
	t.Helper()
	for _, layout := range []string{"15:04", "15:04:05", "15:04:05.000"} {
		if at, err := time.Parse(layout, text); err == nil {
			h, m, sec := at.Clock()
			return storage.UnixMsec(time.Date(2026, 3, 2, h, m, sec, at.Nanosecond(),
				time.UTC).UnixMilli())
		}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatalf("time %q: %v", text, err)
	}
	return storage.UnixMsec(at.UnixMilli())
}

func countOnOf(t testing.TB, word string) definition.CountOn {
	t.Helper()
	for i, w := range []string{
		"impression", "send", "delivered", "decision", "click", "accept", "convert", "reject",
		"dismiss",
	} {
		if w == word {
			return 1 << i
		}
	}
	t.Fatalf("unknown outcome %q", word)
	return 0
}

func channelOf(t testing.TB, word string) uint8 {
	t.Helper()
	for ch := range definition.ChannelCount {
		if ch.String() == word {
			return uint8(ch)
		}
	}
	t.Fatalf("unknown channel %q", word)
	return 0
}

// user makes or changes a person.
func (s *script) user(t *testing.T, c *command) string {
	t.Helper()
	now := scriptTime(t, "00:00")
	ord := s.create(c.args[0].key, now)
	var p storage.Patch
	if zone := c.one("zone"); zone != "" {
		id := s.name(storage.DictZone, zone)
		p.Zone = &id
	}
	var blacklist uint16
	for _, line := range strings.Split(c.input, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "attr":
			p.Attrs = append(p.Attrs, storage.AttrValue{
				ID: s.plan.Names.Attributes[f[1]].ID, Value: s.value(t, f[1], f[2]),
			})
		case "tag":
			tag := storage.TagValue{ID: s.name(storage.DictTag, f[1])}
			if len(f) > 2 {
				tag.Value = s.name(storage.DictTagValue, f[2])
			}
			p.TagsAdd = append(p.TagsAdd, tag)
		case "segment":
			p.SegmentsAdd = append(p.SegmentsAdd, s.name(storage.DictSegment, f[1]))
		case "consent":
			p.Consents = append(p.Consents, storage.Consent{
				Purpose: s.name(storage.DictPurpose, f[1]), Channel: channelOf(t, f[2]),
				Granted: f[3] == "yes", At: now,
			})
		case "blacklist":
			blacklist |= 1 << channelOf(t, f[1])
			p.Blacklist = &blacklist
		case "address":
			p.Addresses = append(p.Addresses, storage.Address{
				Channel: channelOf(t, f[1]), Values: [][]byte{[]byte("x")},
			})
		default:
			t.Fatalf("%s: unknown fact %q", c.at, line)
		}
	}
	s.patch(ord, now, &p)
	return "ok\n"
}

// value reads a value of an attribute as its type says.
func (s *script) value(t *testing.T, attribute, text string) storage.Value {
	t.Helper()
	switch s.plan.Names.Attributes[attribute].Type {
	case definition.TypeInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return storage.Value{Kind: storage.KindInt, Num: uint64(n)}
	case definition.TypeFloat:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return storage.Value{Kind: storage.KindFloat, Num: math.Float64bits(x)}
	case definition.TypeDate:
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return storage.Value{Kind: storage.KindDate, Num: uint64(at.Unix() / 86400)}
	}
	return storage.Value{Kind: storage.KindString, Bytes: []byte(text)}
}

func (s *script) offers(t *testing.T, ids []string) []int32 {
	t.Helper()
	out := []int32{}
	for _, id := range ids {
		if id == "" {
			continue
		}
		at, ok := s.plan.OfferByID([]byte(id))
		if !ok {
			t.Fatalf("no offer %q", id)
		}
		out = append(out, at)
	}
	return out
}

func (s *script) request(t *testing.T, c *command) *Request {
	t.Helper()
	req := &Request{Explain: c.has("explain")}
	switch c.one("dedupe") {
	case "none":
		req.Dedupe = DedupeNone
	case "group":
		req.Dedupe = DedupeOfferGroup
	}
	for _, text := range c.all("slots") {
		ask := SlotRequest{Policy: -1}
		if at, n, ok := strings.Cut(text, "*"); ok {
			text = at
			ask.Count, _ = strconv.Atoi(n)
		}
		placement, policy, ok := strings.Cut(text, ":")
		if ok {
			if ask.Policy, ok = s.plan.PolicyByID([]byte(policy)); !ok {
				ask.Policy = 99
			}
		}
		if ask.Placement, ok = s.plan.PlacementByID([]byte(placement)); !ok {
			ask.Placement = 99
		}
		if c.has("allow") {
			ask.Allow = s.offers(t, c.all("allow"))
		}
		ask.Block = s.offers(t, c.all("block"))
		req.Slots = append(req.Slots, ask)
	}
	for _, kv := range c.all("context") {
		k, v, _ := strings.Cut(kv, "=")
		req.Context = append(req.Context, rule.ContextValue{
			Key:   s.plan.Names.Context[k].ID,
			Value: storage.Value{Kind: storage.KindString, Bytes: []byte(v)},
		})
	}
	req.Words = make([]uint64, s.plan.Program.RequestWords)
	s.plan.Program.EvalRequest(req.Context, req.Words)
	return req
}

func (s *script) overlay(t *testing.T, c *command) *Overlay {
	t.Helper()
	over := &Overlay{NoReserve: c.has("noreserve"), NoExperiments: c.has("noexperiments")}
	for _, text := range c.all("full") {
		id, offer, _ := strings.Cut(text, "/")
		key := storage.CounterKey{Cap: s.name(storage.DictCap, id)}
		if i, ok := s.plan.CapByName(key.Cap); ok {
			key.Cap = s.plan.Caps[i].Counter
		}
		if offer != "" {
			key.Dim = uint32(s.name(storage.DictOffer, offer))
		}
		over.FullTotals = append(over.FullTotals, key)
	}
	for _, text := range c.all("exclude") {
		slot, offer, _ := strings.Cut(text, "/")
		n, _ := strconv.Atoi(slot)
		over.Excluded = append(over.Excluded, Exclusion{int32(n), s.offers(t, []string{offer})[0]})
	}
	over.Stopped = s.offers(t, c.all("stopped"))
	for _, text := range c.all("assign") {
		id, variant, _ := strings.Cut(text, "/")
		e, ok := s.plan.ExperimentByID([]byte(id))
		v, ok2 := s.plan.VariantByID(e, []byte(variant))
		if !ok || !ok2 {
			t.Fatalf("no variant %q", text)
		}
		over.Assign = append(over.Assign, Assign{e, v})
	}
	return over
}

func (s *script) decide(t *testing.T, c *command) string {
	t.Helper()
	req, over := s.request(t, c), s.overlay(t, c)
	now := scriptTime(t, c.one("at"))
	out := s.pick(req, c.one("user"), now, over, c.has("live"))
	return s.show(req, out, c.has("keys"))
}

// show prints a result.
func (s *script) show(req *Request, out *Result, keys bool) string {
	var b strings.Builder
	for i, slot := range out.Slots {
		place := "?"
		if at := req.Slots[i].Placement; int(at) < len(s.plan.Placements) {
			place = s.plan.Placements[at].ID
		}
		if slot.Kind == SlotNone {
			fmt.Fprintf(&b, "%s: none %s", place, slot.Reason)
			if slot.Until != 0 {
				fmt.Fprintf(&b, " until %s", showSec(slot.Until))
			}
			b.WriteByte('\n')
		}
		for _, it := range out.Items[slot.First : slot.First+slot.Count] {
			kind := ""
			if it.Fallback {
				kind = "fallback "
			}
			fmt.Fprintf(&b, "%s: %s%s score=%.6g", place, kind, s.plan.Treatments[it.Treatment].Key,
				it.Score)
			if keys {
				s.showKeys(&b, out, &it)
			}
			b.WriteByte('\n')
		}
	}
	for _, c := range out.Capped {
		fmt.Fprintf(&b, "capped %s by %s until %s\n", s.plan.Offers[c.Offer].ID,
			s.plan.Caps[c.Cap].ID, showSec(c.Until))
	}
	for _, a := range out.Assignments {
		e := &s.plan.Experiments[a.Experiment]
		fmt.Fprintf(&b, "assigned %s/%s\n", e.ID, e.Variants[a.Variant].ID)
	}
	for _, l := range out.Trace {
		s.showTrace(&b, &l)
	}
	return b.String()
}

func (s *script) showKeys(b *strings.Builder, out *Result, it *Item) {
	fmt.Fprintf(b, " hold=%d grace=%d", it.Hold, it.Grace)
	list := func(title string, keys []storage.HeldKey) {
		if len(keys) == 0 {
			return
		}
		var texts []string
		for _, k := range keys {
			id := s.store.NameOf(storage.DictCap, k.Key.Cap)
			if i, ok := s.plan.CapByCounter(k.Key.Cap); ok {
				id = s.plan.Caps[i].ID
			}
			text := fmt.Sprintf("%s/%s", id, s.dim(k))
			if k.Total {
				text += fmt.Sprintf("@%d", k.Window)
			}
			texts = append(texts, text)
		}
		fmt.Fprintf(b, " %s=%s", title, strings.Join(texts, ","))
	}
	list("held", out.Keys[it.FirstKey:it.FirstKey+it.KeyCount])
	list("used", out.Keys[it.FirstDecisionKey:it.FirstDecisionKey+it.DecisionKeyCount])
}

// dim prints a dimension as the cap means it.
func (s *script) dim(k storage.HeldKey) string {
	at, _ := s.plan.CapByCounter(k.Key.Cap)
	id := storage.Name(k.Key.Dim)
	switch s.plan.Caps[at].Per {
	case definition.PerOffer:
		return s.store.NameOf(storage.DictOffer, id)
	case definition.PerOfferGroup:
		return s.store.NameOf(storage.DictOfferGroup, id)
	case definition.PerCampaign:
		return s.store.NameOf(storage.DictCampaign, id)
	case definition.PerPlacement:
		return s.store.NameOf(storage.DictPlacement, id)
	case definition.PerChannel:
		return definition.Channel(k.Key.Dim - 1).String()
	}
	return "all"
}

func (s *script) showTrace(b *strings.Builder, l *TraceLine) {
	fmt.Fprintf(b, "  %d %s", l.Slot, s.plan.Offers[l.Offer].ID)
	if l.Fallback {
		b.WriteString(" (fallback)")
	}
	if l.Rank > 0 {
		fmt.Fprintf(b, " rank %d", l.Rank)
	} else {
		fmt.Fprintf(b, " %s", l.Reason)
	}
	if l.Stage != StageNone {
		fmt.Fprintf(b, " %s", l.Stage)
	}
	if l.Cap >= 0 {
		fmt.Fprintf(b, " %s until %s", s.plan.Caps[l.Cap].ID, showSec(l.Until))
	}
	if l.Quiet >= 0 {
		fmt.Fprintf(b, " %s", cmp.Or(s.plan.Quiet[l.Quiet].ID, "workspace"))
		if l.Until != 0 {
			fmt.Fprintf(b, " until %s", showSec(l.Until))
		}
	}
	if l.Experiment >= 0 {
		fmt.Fprintf(b, " %s", s.plan.Experiments[l.Experiment].ID)
	}
	if l.Holdout >= 0 {
		fmt.Fprintf(b, " %s", s.plan.Holdouts[l.Holdout].ID)
	}
	b.WriteByte('\n')
}

func showSec(at storage.UnixSec) string {
	if at == Never {
		return "never"
	}
	return time.Unix(int64(at), 0).UTC().Format("2006-01-02T15:04:05")
}
