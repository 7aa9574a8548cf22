package decide

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// effort scales the random tests: TACT_EFFORT, by default 1.
func effort() float64 {
	if x, err := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64); err == nil && x > 0 {
		return x
	}
	return 1
}

// seeds runs f for a number of seeds; with TACT_SEED for that one.
func seeds(t *testing.T, n int, f func(seed uint64)) {
	t.Helper()
	if s, err := strconv.ParseUint(os.Getenv("TACT_SEED"), 10, 64); err == nil {
		f(s)
		return
	}
	for i := range max(min(n, 20), int(float64(n)*effort())) {
		f(uint64(i))
		if t.Failed() {
			t.Fatalf("TACT_SEED=%d", i)
		}
	}
}

// crowded is a plan whose first n bits are taken.
func crowded(set *definition.Set, n int) *Plan {
	b := rule.NewBuilder(nil)
	for i := range n {
		b.Consent(storage.Name(1_000_000+i), 0)
	}
	return &Plan{Program: b.Program(), Workspace: Workspace{Def: &set.Workspace}}
}

// TestEqualToModel (law 1 and 3): over random catalogues, people, requests,
// confirms, releases, reactions and times Pick gives what the plain model
// gives: picks, scores, keys, reasons and the trace.
func TestEqualToModel(t *testing.T) {
	w := newWorld(t)
	now, kept := startMs, 0
	seeds(t, 5000, func(seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := randomCatalogue(r)
		c.fix(now)
		w.plan, w.plain = nil, r.IntN(4)             // an index from so many candidates on
		w.shares = func(p *rule.Program) []float32 { // any: they change no answer
			shares := make([]float32, r.IntN(len(p.UserAtoms)+1))
			for i := range shares {
				shares[i] = r.Float32()
			}
			return shares
		}
		if seed%3 == 0 { // the catalogue's bits lie on several pages
			w.plan = crowded(c.set, 500+r.IntN(600))
		}
		if faults := w.compile(c.set, storage.UnixMsec(now)); len(faults) > 0 {
			t.Fatalf("%+v", faults)
		}
		w.grants = w.grants[:0]
		f := randomFacts(r, fmt.Sprint("u", seed))
		if r.IntN(10) == 0 {
			f = &facts{id: one(r, "", f.id)} // nobody, or an id without a row
		} else {
			w.load(f, storage.UnixMsec(now))
		}
		m := &model{catalogue: c}
		s := &session{world: w, m: m, f: f, r: r}
		for range 6 {
			now += one(r, int64(0), 0, 500, 500, 61_000, 61_000, 3_600_000, 86_400_000) *
				int64(1+r.IntN(3))
			s.now = now
			s.step(t)
			if t.Failed() {
				return
			}
		}
		now += 1000
		kept += s.kept
	})
	if effort() >= 1 && kept < 100 && os.Getenv("TACT_SEED") == "" {
		t.Errorf("only %d items were kept: the cases are too narrow", kept)
	}
}

// load stores a person as the model has it.
func (w *world) load(f *facts, now storage.UnixMsec) {
	ord := w.create(f.id, now)
	var p storage.Patch
	if x, ok := f.attrs["age"]; ok {
		p.Attrs = append(p.Attrs, storage.AttrValue{
			ID:    w.name(storage.DictAttribute, "age"),
			Value: storage.Value{Kind: storage.KindInt, Num: uint64(int64(x))},
		})
	}
	if x, ok := f.attrs["like"]; ok {
		p.Attrs = append(p.Attrs, storage.AttrValue{
			ID:    w.name(storage.DictAttribute, "like"),
			Value: storage.Value{Kind: storage.KindFloat, Num: math.Float64bits(x)},
		})
	}
	for tag, held := range f.tags {
		if held {
			p.TagsAdd = append(p.TagsAdd, storage.TagValue{ID: w.name(storage.DictTag, tag)})
		}
	}
	for key, granted := range f.consents {
		purpose, ch, _ := strings.Cut(key, " ")
		n, _ := strconv.Atoi(ch)
		p.Consents = append(p.Consents, storage.Consent{
			Purpose: w.name(storage.DictPurpose, purpose), Channel: uint8(n), Granted: granted, At: 1,
		})
	}
	var blacklist uint16
	for ch, on := range f.blacklist {
		if on {
			blacklist |= 1 << ch
		}
	}
	p.Blacklist = &blacklist
	if f.addresses[definition.ChannelSMS] {
		p.Addresses = []storage.Address{{
			Channel: uint8(definition.ChannelSMS), Values: [][]byte{[]byte("x")},
		}}
	}
	if f.zone != "" {
		zone := w.name(storage.DictZone, f.zone)
		p.Zone = &zone
	}
	w.patch(ord, now, &p)
}

// session is one person over some steps, in the store and in the model.
type session struct {
	*world
	m   *model
	f   *facts
	r   *rand.Rand
	now int64

	kept int // items given again
}

func (s *session) step(t *testing.T) {
	t.Helper()
	if len(s.grants) > 0 && s.r.IntN(3) == 0 {
		s.outcome()
	}
	req, over, ask := s.request()
	s.listed = 0
	for ch, on := range s.f.listed {
		if on {
			s.listed |= 1 << ch
		}
	}
	_, live := s.people[s.f.id]
	live = live && s.r.IntN(4) > 0
	from := len(s.grants)
	s.identityKey, s.deviceKey = s.f.identity, s.f.device
	got := s.pick(req, s.f.id, storage.UnixMsec(s.now), over, live)
	want := s.m.decide(s.f, ask)
	if a, b := s.describe(req, got), describeModel(want, req.Explain); a != b {
		for _, c := range s.m.set.Caps {
			t.Logf("cap %+v", *c)
		}
		t.Logf("uses %+v", s.m.uses)
		for _, o := range s.m.set.Offers {
			t.Logf("offer %+v", *o)
		}
		t.Logf("trace %v now %v", want.trace, storageTime(s.now))
		t.Errorf("now %d person %+v\nrequest %+v\noverlay %+v\nPick:\n%s\nmodel:\n%s", s.now, s.f, ask,
			over, a, b)
		return
	}
	s.checkUntil(t, got, ask)
	if !live {
		return
	}
	sec := s.now / 1000
	for k, it := range want.items { // every item of a known person is one grant
		if len(it.held) > 0 {
			s.m.open = append(s.m.open, modelOpen{
				grant: from + k, placement: ask.slots[it.slot].placement, offer: it.offer,
				expires: sec + it.hold,
			})
		}
		for _, key := range it.held {
			s.use(key, sec+it.hold, from+k, sec+it.hold+300)
		}
		for _, key := range it.used {
			s.use(key, sec, -1, 0)
		}
	}
}

func (s *session) use(key string, at int64, grant int, until int64) {
	c, dim, _ := strings.Cut(key, " ")
	s.m.uses = append(s.m.uses, modelUse{cap: c, dim: dim, at: at, grant: grant, until: until})
}

func (s *session) capOf(id string) *definition.Cap {
	return byID(s.m.set.Caps, id, func(c *definition.Cap) string { return c.ID })
}

// outcome confirms, releases or reacts to a random grant, in both.
func (s *session) outcome() {
	n := s.grants[s.r.IntN(len(s.grants))].root
	g := &s.grants[n]
	sec := s.now / 1000
	way := s.r.IntN(3)
	if sec >= int64(g.expires)+int64(g.item.Grace) {
		way = 0 // whether a late confirm finds its reservation is the store's affair
	}
	switch way {
	case 0:
		s.react(n, definition.CountClick, storage.UnixMsec(s.now), s.f)
		o := s.m.offerOf(s.plan.Offers[g.item.Offer].ID)
		placement := s.plan.Placements[g.placement].ID
		for _, c := range s.m.set.Caps {
			if c.Suppress != nil {
				ch := definition.Channel(g.item.Channel)
				for _, dim := range s.m.countersOf(s.f, c, o, ch, placement) {
					s.use(c.ID+"#suppress "+dim, sec, -1, 0)
				}
			}
			held := c.Scope == definition.ScopeTotal && c.Hold > 0
			if c.CountOn&definition.CountClick == 0 || held {
				continue
			}
			for _, dim := range s.m.countersOf(s.f, c, o, definition.Channel(g.item.Channel), placement) {
				if c.Window.Until == 0 || sec < c.Window.Until {
					s.use(c.ID+" "+dim, sec, -1, 0)
				}
			}
		}
	case 1:
		s.resolve(n, 0, storage.UnixMsec(s.now))
		s.m.uses = slices.DeleteFunc(s.m.uses, func(u modelUse) bool { return u.grant == n })
	case 2:
		on := one(s.r, definition.CountImpression, definition.CountSend)
		s.resolve(n, on, storage.UnixMsec(s.now))
		at := min(max(sec, int64(g.granted)), int64(g.expires))
		for i := range s.m.uses {
			u := &s.m.uses[i]
			if u.grant == n && sec < u.until && s.capOf(u.cap).CountOn&on != 0 {
				u.grant, u.at = -1, at
			}
		}
	}
}

// request makes a random request, for Pick and for the model.
func (s *session) request() (*Request, *Overlay, *modelRequest) {
	r := s.r
	req := &Request{Explain: r.IntN(2) == 0, Dedupe: Dedupe(r.IntN(3))}
	ask := &modelRequest{
		dedupe: req.Dedupe, now: s.now, full: map[string]bool{}, stopped: map[string]bool{},
		exclude: map[string]bool{}, noHold: r.IntN(8) == 0,
	}
	over := &Overlay{NoReserve: ask.noHold}
	some := func() (ids []string, at []int32) {
		for i := range s.plan.Offers {
			if r.IntN(3) == 0 {
				ids, at = append(ids, s.plan.Offers[i].ID), append(at, int32(i))
			}
		}
		return ids, at
	}
	for i := range 1 + r.IntN(3) {
		p := int32(r.IntN(len(s.plan.Placements)))
		if n := len(s.grants); n > 0 && r.IntN(3) == 0 {
			p = s.grants[n-1].placement // a reload
		}
		slot := SlotRequest{Placement: p, Policy: -1, Count: r.IntN(4)}
		a := modelAsk{placement: s.plan.Placements[p].ID, count: slot.Count}
		if r.IntN(4) == 0 {
			slot.Policy = int32(r.IntN(len(s.plan.Policies)))
			a.policy = s.plan.Policies[slot.Policy].ID
		}
		if r.IntN(5) == 0 {
			a.allow, slot.Allow = some()
			if slot.Allow == nil {
				slot.Allow, a.noAllow = []int32{}, true
			}
		}
		if r.IntN(5) == 0 {
			a.block, slot.Block = some()
		}
		if r.IntN(6) == 0 {
			o := r.IntN(len(s.plan.Offers))
			over.Excluded = append(over.Excluded, Exclusion{int32(i), int32(o)})
			ask.exclude[fmt.Sprint(i, " ", s.plan.Offers[o].ID)] = true
		}
		req.Slots, ask.slots = append(req.Slots, slot), append(ask.slots, a)
	}
	if r.IntN(8) == 0 {
		o := r.IntN(len(s.plan.Offers))
		over.Stopped = append(over.Stopped, int32(o))
		ask.stopped[s.plan.Offers[o].ID] = true
	}
	s.f.page = one(r, "", "home", "cart")
	if s.f.page != "" {
		req.Context = []rule.ContextValue{{
			Key:   s.plan.Names.Context["page"].ID,
			Value: storage.Value{Kind: storage.KindString, Bytes: []byte(s.f.page)},
		}}
	}
	req.Words = make([]uint64, s.plan.Program.RequestWords)
	s.plan.Program.EvalRequest(req.Context, req.Words)
	s.fill(over, ask)
	return req, over, ask
}

// fill makes some totals full.
func (s *session) fill(over *Overlay, ask *modelRequest) {
	for i := range s.plan.Caps {
		c := &s.plan.Caps[i]
		if c.Scope != definition.ScopeTotal || s.r.IntN(2) == 0 {
			continue
		}
		o := int32(s.r.IntN(len(s.plan.Offers)))
		for k := range s.plan.dimensions(c, o) {
			dim, ok := s.plan.dimension(c, o, definition.ChannelWeb, 0, k)
			if ok {
				key := storage.CounterKey{Cap: c.Counter, Dim: dim}
				over.AddFull(key, 0, 0)
				ask.full[c.ID+" "+s.dimText(c, dim)] = true
			}
		}
	}
}

func (w *world) dimText(c *Cap, dim uint32) string {
	key := uint32(0)
	switch c.Scope {
	case definition.ScopeIdentity:
		key = w.identityKey
	case definition.ScopeDevice:
		key = w.deviceKey
	}
	for plain := uint32(0); key != 0; plain++ {
		if mixDim(key, plain) == dim {
			person := *c
			person.Scope = definition.ScopePerson
			return w.dimText(&person, plain) + fmt.Sprint("@", key)
		}
	}
	kind := map[definition.CapPer]storage.DictKind{
		definition.PerOffer: storage.DictOffer, definition.PerOfferGroup: storage.DictOfferGroup,
		definition.PerCampaign: storage.DictCampaign, definition.PerPlacement: storage.DictPlacement,
	}[c.Per]
	switch {
	case kind != 0:
		return w.store.NameOf(kind, storage.Name(dim))
	case c.Per == definition.PerChannel:
		return definition.Channel(dim - 1).String()
	}
	return "all"
}

// describe prints what the model can say about a result.
func (s *session) describe(req *Request, out *Result) string {
	var b strings.Builder
	for i, slot := range out.Slots {
		reason := ""
		if slot.Kind == SlotNone {
			reason = slot.Reason.String()
		}
		fmt.Fprintf(&b, "slot %d %s\n", i, reason)
	}
	for _, it := range out.Items {
		score := it.Score
		if it.Fallback || s.plan.Policies[out.Slots[it.Slot].Policy].Def.By == definition.RankOrder {
			score = 0
		}
		keys := func(first, n int32) (out2 []string) {
			for _, k := range out.Keys[first : first+n] {
				at, _ := s.plan.CapByCounter(k.Key.Cap)
				c := &s.plan.Caps[at]
				out2 = append(out2, c.ID+" "+s.dimText(c, k.Key.Dim))
			}
			slices.Sort(out2)
			return out2
		}
		fmt.Fprintf(&b, "item %d %s %v %v held %v used %v\n", it.Slot,
			s.plan.Treatments[it.Treatment].Key,
			score, it.Fallback, keys(it.FirstKey, it.KeyCount),
			keys(it.FirstDecisionKey, it.DecisionKeyCount))
		if it.KeyCount > 0 || it.Kept.Number != 0 {
			fmt.Fprintf(&b, "life %d kept %v\n", it.Hold, it.Kept.Number != 0)
			if it.Kept.Number != 0 {
				s.kept++
			}
		}
	}
	if req.Explain {
		var lines []string
		for _, l := range out.Trace {
			if !l.Fallback {
				lines = append(lines, fmt.Sprintf("%d %s %s\n", l.Slot, s.plan.Offers[l.Offer].ID,
					l.Reason))
			}
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	return b.String()
}

func describeModel(out *modelResult, explain bool) string {
	var b strings.Builder
	for i, reason := range out.reasons {
		fmt.Fprintf(&b, "slot %d %s\n", i, reason)
	}
	for _, it := range out.items {
		slices.Sort(it.held)
		slices.Sort(it.used)
		fmt.Fprintf(&b, "item %d %s/%s %v %v held %v used %v\n", it.slot, it.offer, it.treatment,
			it.score, it.fallback, it.held, it.used)
		if len(it.held) > 0 || it.kept {
			fmt.Fprintf(&b, "life %d kept %v\n", it.hold, it.kept)
		}
	}
	if explain {
		var lines []string
		for key, reason := range out.trace {
			lines = append(lines, fmt.Sprintf("%s %s\n", key, reason))
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	return b.String()
}

// checkUntil: a cap that refuses says when it frees: it refuses a second
// before and not at that second, when nothing else happens.
func (s *session) checkUntil(t *testing.T, got *Result, ask *modelRequest) {
	t.Helper()
	for _, l := range got.Trace {
		c := l.Cap
		if c < 0 || s.plan.Caps[c].Scope == definition.ScopeTotal || len(ask.slots) > 1 ||
			got.Slots[l.Slot].Count > 0 {
			continue
		}
		run := &modelRun{model: s.m, f: s.f, req: ask, out: &modelResult{}}
		p, o := s.m.placementOf(ask.slots[0].placement), s.m.offerOf(s.plan.Offers[l.Offer].ID)
		refuses := func(at int64) bool {
			_, by := run.only(p, o, at, s.plan.Caps[c].ID)
			return by != ""
		}
		until := int64(l.Until)
		if l.Until == Never {
			if !refuses(s.now/1000 + 50*366*86400) {
				t.Errorf("now %d: cap %s of %s frees, but says never", s.now, s.plan.Caps[c].ID, o.ID)
			}
			continue
		}
		if !refuses(until-1) || refuses(until) {
			t.Errorf("now %d: cap %+v of %s says until %d: a second before %v, then %v; uses %+v", s.now,
				s.plan.Caps[c].Def, o.ID, until, refuses(until-1), refuses(until), s.m.uses)
		}
	}
}

func storageTime(ms int64) string { return time.UnixMilli(ms).UTC().String() }
