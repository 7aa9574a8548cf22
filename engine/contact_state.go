package engine

import (
	"cmp"
	"fmt"
	"slices"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// maxUsesShown bounds the uses of one counter that ContactState lists: 64, or 96
// counts, for each of the people that a merge has united.
const maxUsesShown = 1000

// ContactView is how every cap stands for one person, and what else may refuse to
// reach them. UserID is "" of a person known by an identity alone.
type ContactView struct {
	UserID string
	At     storage.UnixMsec
	Reach  ReachView
	Caps   []CounterView // by cap, then by dimension
	// Protected are the caps of which every counter refuses because the store was put
	// back as it was earlier, by id; Lost what may have been lost with the power and
	// counts on every cap that counts contacts, but where its outcome has come.
	Protected []ProtectedView
	Lost      []LostView
	Truncated bool // there are more totals than Caps holds
}

// ProtectedView says until when a cap refuses because what was used is not known; 0 =
// as long as there is the cap.
type ProtectedView struct {
	CapID string
	Until storage.UnixSec
}

// CounterView is one counter of a cap: what it counts per is Dimension (an offer,
// a group, a campaign, a channel, a placement; "" for `per: all`), with a hash of
// the identity or device behind it for those scopes. Reason is "" when one more
// use would be granted; else Until says when, 0 = never.
type CounterView struct {
	CapID, Scope, Per, Dimension string
	Currency                     string // of a budget in money: Limit and Used are minor units
	Limit, Used                  int64
	Spent, Held, Burnt           int64     // of a total, for everybody: see TotalView
	Uses                         []UseView // newest first, at most 1000
	Reserved                     []ReservedView
	Lost                         []LostView
	Rejections                   []UseView // that suppression counts
	Reason                       string
	Until                        storage.UnixSec
	// KnownSince is not 0 while something in the window is not known: uses at or
	// before it, which a smaller limit of before did not keep, or which lie behind
	// what `counts_from: history` could count. The cap refuses meanwhile.
	KnownSince storage.UnixSec
	// Protected: the cap is one of ContactView.Protected, until ProtectedUntil.
	Protected      bool
	ProtectedUntil storage.UnixSec
}

// UseView is a use that a counter still keeps. Count is 1, or more where a great
// limit keeps counts: then At is the latest moment they may have.
type UseView struct {
	At       storage.UnixSec
	Count    uint32
	InWindow bool
	// Decisions are those the uses came from. Every use that a limit up to 64 keeps
	// has its own, and the person's newest 32 have; fewer than Count are there for
	// uses that no decision made (events, history), those that a greater limit
	// counts, and those beyond the person's newest 4,096.
	Decisions []storage.DecisionID
}

// LostView is a use that may have been lost when the power was cut: see
// storage.StandIn. It counts as one at ExpiresAt.
type LostView struct {
	StartedAt, ExpiresAt storage.UnixSec
	InWindow             bool
}

// ReservedView is a use that is held.
type ReservedView struct {
	ID        storage.ReservationID
	OfferID   string
	GrantedAt storage.UnixSec
	ExpiresAt storage.UnixSec
	InWindow  bool
}

// ContactState says how every cap stands for a person: of an offer, where one is
// named, every counter that a decision would look at, on any of its placements;
// else every counter that knows something of the person. What a counter of the
// person says it has used is what stands in the window of Uses, Reserved and Lost
// together. Reach has the gates before the caps. It errors with a ProblemMissing for
// an unknown user, identity or offer. Of totals, without an offer, there are those that
// have a use in their window and then others, at most 1,000 together.
// Cost: caps × placements for an offer, with it held the person's group; else the
// counters of all totals, and a look at up to a million pairs of them and of offers.
func (e *Engine) ContactState(user, offer []byte) (*ContactView, error) {
	return e.ContactStateOf(PersonRef{UserID: user}, offer)
}

// ContactStateOf is ContactState of whoever whom names.
func (e *Engine) ContactStateOf(whom PersonRef, offer []byte) (*ContactView, error) {
	s := stateReader{e: e, offer: -1, seen: map[storage.CounterKey]bool{}}
	s.snap = e.snap.Load()
	if len(offer) > 0 {
		var ok bool
		if s.offer, ok = s.snap.Plan.OfferByID(offer); !ok {
			return nil, &Problem{
				Class: ProblemMissing, Code: "unknown_offer", Field: "offer",
				Detail: fmt.Sprintf("no offer %q is published", offer),
			}
		}
	}
	user, err := e.canonicalOf(whom)
	if err != nil {
		return nil, err
	}
	s.totals = e.totalsOf(s.snap)
	if s.offer < 0 {
		s.listTotals()
	}
	g := e.store.GroupOf(e.store.SlotOf(workspaceID, user))
	g.Lock()
	defer g.Unlock()
	ord, ok := g.Find(workspaceID, e.store.IndexHash(workspaceID, user), user)
	if !ok {
		return nil, &Problem{
			Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
			Detail: fmt.Sprintf("no user %q", user),
		}
	}
	if err := s.read(g, ord, user); err != nil {
		return nil, err
	}
	if s.offer >= 0 {
		s.ofOffer(s.offer)
	} else {
		s.everything()
	}
	slices.SortFunc(s.view, func(a, b CounterView) int {
		return cmp.Or(cmp.Compare(a.CapID, b.CapID), cmp.Compare(a.Dimension, b.Dimension))
	})
	return &ContactView{
		UserID: userIDOf(user), At: s.at.Ms, Reach: s.reach(), Caps: s.view,
		Protected: s.protected(), Lost: s.standIns(), Truncated: s.truncated,
	}, nil
}

// stateReader gathers the counters of one person.
type stateReader struct {
	e      *Engine
	snap   *Snapshot
	at     decide.Moment
	work   decideWork
	person decide.Person
	result decide.Result
	offer  int32 // -1 = none is named
	seen   map[storage.CounterKey]bool
	dims   []uint32
	totals map[storage.CounterKey]TotalView
	view   []CounterView

	listed    []decide.Counter // totals to show beside the person's own counters
	truncated bool             // there are more
}

// read reads the person as a preview of a request without a context would. The group
// is locked.
func (s *stateReader) read(g *storage.Group, ord storage.Ord, id []byte) error {
	w := &s.work
	w.snap, w.now, w.id = s.snap, s.e.clock.Now(), id
	if err := w.prepareContext(&DecideRequest{}); err != nil {
		return err
	}
	w.group, w.ord, w.known = g, ord, true
	if len(s.snap.Plan.Quiet) > 0 {
		w.pages = uint32(1<<s.snap.Plan.Program.Pages() - 1)
	}
	s.at = decide.Moment{Ms: w.now, Instant: s.e.instant(g, w.now)}
	if err := s.e.readPerson(&DecideRequest{Mode: ModePreview}, w); err != nil {
		return err
	}
	s.person = w.person
	return nil
}

// everything adds every counter that has a use, a held one or a rejection, and the
// totals that were listed.
func (s *stateReader) everything() {
	for _, k := range s.listed {
		s.add(k.Cap, k.Dim)
	}
	add := func(k storage.CounterKey) {
		for i := range s.snap.Plan.Caps {
			if s.snap.Plan.Caps[i].Owns(k) {
				s.add(int32(i), k.Dim)
			}
		}
	}
	s.person.Contact.EachRing(func(r storage.Ring) bool {
		add(r.Key())
		return true
	})
	s.person.Contact.EachReservation(func(h storage.Held) bool {
		for i := range h.Len() {
			if k := h.Key(i); !k.Total && h.Live(s.at.Instant) {
				add(k.Key)
			}
		}
		return true
	})
}

// ofOffer adds every counter that a decision for the offer looks at. Those of an
// identity or device are there when the person has used them.
func (s *stateReader) ofOffer(offer int32) {
	plan := s.snap.Plan
	var dims []uint32
	for i := range plan.Caps {
		for p := range plan.Placements {
			dims = plan.CapDims(dims[:0], int32(i), offer, int32(p))
			for _, dim := range dims {
				if scope := plan.Caps[i].Scope; scope != definition.ScopeIdentity &&
					scope != definition.ScopeDevice {
					s.add(int32(i), dim)
					continue
				}
				s.scoped(int32(i))
			}
		}
	}
}

// scoped adds the counters of a cap by identity or device that are known.
func (s *stateReader) scoped(cap int32) {
	c := &s.snap.Plan.Caps[cap]
	s.person.Contact.EachRing(func(r storage.Ring) bool {
		if c.Owns(r.Key()) {
			s.add(cap, r.Key().Dim)
		}
		return true
	})
	s.person.Contact.EachReservation(func(h storage.Held) bool {
		for i := range h.Len() {
			if k := h.Key(i); c.Owns(k.Key) && !k.Total {
				s.add(cap, k.Key.Dim)
			}
		}
		return true
	})
}

func (s *stateReader) add(cap int32, dim uint32) {
	plan := s.snap.Plan
	c := &plan.Caps[cap]
	key := storage.CounterKey{Cap: c.Counter, Dim: dim}
	if s.seen[key] {
		return
	}
	s.seen[key] = true
	var over decide.Overlay
	used := int64(0)
	if c.Scope == definition.ScopeTotal {
		used = s.total(cap, dim, &over)
	}
	state := plan.CounterState(decide.Counter{Cap: cap, Dim: dim}, &s.person, s.at, &over, &s.result)
	v := CounterView{
		CapID: c.ID, Scope: c.Scope.String(), Per: c.Per.String(), Dimension: s.dimension(c, dim),
		Limit: int64(state.Limit), Used: used, Reason: state.Reason.String(),
		Currency: c.Def.Currency,
	}
	if c.Scope == definition.ScopeTotal {
		t := s.totals[key]
		v.Spent, v.Held, v.Burnt = t.Spent, t.Held, t.Burnt
	}
	if state.Until != decide.Never {
		v.Until = state.Until
	}
	v.ProtectedUntil, v.Protected = s.protectedUntil(cap)
	if c.Scope != definition.ScopeTotal {
		since := plan.Since(cap, &s.person, s.at, &s.result)
		v.Used = int64(state.Usage.N)
		v.Uses = s.uses(cap, key, since, c.CountOn)
		v.Reserved = s.reserved(key, since)
		v.Lost = s.lost(c, key, since)
		v.KnownSince = s.knownSince(c, key, since)
		if name := c.SuppressName(); name != 0 {
			v.Rejections = s.uses(cap, storage.CounterKey{Cap: name, Dim: dim}, 0,
				definition.CountReactions|definition.CountCustom)
		}
	}
	s.view = append(s.view, v)
}

// total looks a total up in the ledger; full ones go into the overlay.
func (s *stateReader) total(cap int32, dim uint32, over *decide.Overlay) int64 {
	totals, plan := s.e.store.Totals(), s.snap.Plan
	c := &plan.Caps[cap]
	for _, name := range []storage.Name{c.Counter, c.GapName()} {
		k := storage.HeldKey{Key: storage.CounterKey{Cap: name, Dim: dim}}
		if name == c.Counter && s.offer >= 0 {
			k.Cost = plan.CapCost(cap, s.offer)
		}
		limit, since := plan.TotalRule(name, s.at.Ms)
		if name == 0 || totals.UsedSince(k.Key, since) <= limit-k.Units() {
			continue
		}
		over.AddFull(k.Key, 0, s.snap.freeAt(totals, &k, s.at.Ms))
	}
	_, since := plan.TotalRule(c.Counter, s.at.Ms)
	return totals.UsedSince(storage.CounterKey{Cap: c.Counter, Dim: dim}, since)
}

// uses lists the uses that a counter keeps, newest first: of one that a merge has
// united all of them.
func (s *stateReader) uses(
	cap int32, key storage.CounterKey, since storage.UnixSec, on definition.CountOn,
) []UseView {
	var out []UseView
	coarse := false
	s.person.Contact.EachRing(func(r storage.Ring) bool {
		if r.Key() != key {
			return true
		}
		coarse = coarse || r.Coarse()
		for i := r.Len() - 1; i >= 0; i-- {
			if n := r.Uses(i); n != storage.UsesUnknown {
				out = append(out, UseView{At: r.Time(i), Count: n, InWindow: r.Time(i) > since})
			}
		}
		return true
	})
	slices.SortStableFunc(out, func(a, b UseView) int { return cmp.Compare(b.At, a.At) })
	out = out[:min(len(out), maxUsesShown)]
	// Marks of offers that are not published any more come last, to what is left.
	for _, sure := range []bool{true, false} {
		s.person.Contact.EachMark(func(at storage.UnixSec, what uint16, m storage.UseMark) bool {
			if uint16(on)&what != 0 && s.counts(cap, key.Dim, m.Offer, sure) {
				assign(out, at, m.Decision, coarse)
			}
			return true
		})
	}
	return out
}

// assign gives the decision of a use at a time to the entry that counts it: of one
// that keeps counts, the oldest that reaches so far and has room.
func assign(uses []UseView, at storage.UnixSec, id storage.DecisionID, coarse bool) {
	for i := len(uses) - 1; i >= 0; i-- {
		if u := &uses[i]; u.At >= at && uint32(len(u.Decisions)) < u.Count &&
			(u.At == at || coarse) {
			u.Decisions = append(u.Decisions, id)
			return
		}
	}
}

// counts tells whether a counter of a cap counts uses of an offer, surely or
// perhaps: of an offer that is not published any more it is not known what it
// belonged to. Those of an identity or device are told by the time alone.
func (s *stateReader) counts(cap int32, dim uint32, offer storage.Name, sure bool) bool {
	plan := s.snap.Plan
	c := &plan.Caps[cap]
	scoped := c.Scope == definition.ScopeIdentity || c.Scope == definition.ScopeDevice
	index, ok := plan.OfferByName(offer)
	switch {
	case c.Per == definition.PerOffer && !scoped:
		return sure && storage.Name(dim) == offer
	case !ok || !sure:
		return !ok && !sure
	}
	for p := range plan.Placements {
		s.dims = plan.CapDims(s.dims[:0], cap, index, int32(p))
		if len(s.dims) > 0 && scoped || slices.Contains(s.dims, dim) {
			return true
		}
	}
	return false
}

func (s *stateReader) lost(
	c *decide.Cap, key storage.CounterKey, since storage.UnixSec,
) []LostView {
	var out []LostView
	s.person.Contact.EachStandIn(key, c.Instant(s.at.Instant), func(p storage.StandIn) bool {
		out = append(out, LostView{p.Start, p.Until, p.Until > since})
		return true
	})
	return out
}

// knownSince is the latest moment in the window up to which uses are not known; 0 =
// all are.
func (s *stateReader) knownSince(
	c *decide.Cap, key storage.CounterKey, since storage.UnixSec,
) storage.UnixSec {
	at := s.snap.Plan.KnownSince(c, &s.person, s.at)
	s.person.Contact.EachRing(func(r storage.Ring) bool {
		if r.Key() == key {
			at = max(at, r.Dropped())
			for i := 0; i < r.Len() && r.Coarse(); i++ {
				if r.Uses(i) == storage.UsesUnknown {
					at = max(at, r.Time(i))
				}
			}
		}
		return true
	})
	if at <= since {
		return 0
	}
	return at
}

func (s *stateReader) reserved(key storage.CounterKey, since storage.UnixSec) []ReservedView {
	var out []ReservedView
	s.person.Contact.EachReservation(func(h storage.Held) bool {
		for i := range h.Len() {
			if k := h.Key(i); k.Key == key && !k.Total && h.Live(s.at.Instant) {
				out = append(out, ReservedView{
					ID: h.ID(), OfferID: s.e.store.NameOf(storage.DictOffer, h.Offer()),
					GrantedAt: h.Granted(), ExpiresAt: h.Expires(), InWindow: h.Expires() > since,
				})
			}
		}
		return true
	})
	return out
}

// dimension is the text of a counter's dimension.
func (s *stateReader) dimension(c *decide.Cap, dim uint32) string {
	if c.Scope == definition.ScopeIdentity || c.Scope == definition.ScopeDevice {
		return fmt.Sprintf("#%08x", dim)
	}
	kinds := map[definition.CapPer]storage.DictKind{
		definition.PerOffer: storage.DictOffer, definition.PerOfferGroup: storage.DictOfferGroup,
		definition.PerCampaign: storage.DictCampaign, definition.PerPlacement: storage.DictPlacement,
	}
	switch kind, ok := kinds[c.Per]; {
	case ok:
		return s.e.store.NameOf(kind, storage.Name(dim))
	case c.Per == definition.PerChannel:
		return definition.Channel(dim - 1).String()
	}
	return ""
}
