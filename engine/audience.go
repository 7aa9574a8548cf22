package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// AudienceQuery asks which people a rule, a segment or an offer is for. With an
// offer beside a rule or a segment both must hold. Without any of the three it
// is a fault.
type AudienceQuery struct {
	Rule    *definition.Node // a condition tree
	Segment string           // a published segment
	Offer   []byte           // its three rule lists, and the gates asked for
	Members *People          // a list of people brought along; see ReadOrdinals

	// For an offer: where it would be given, and the gates beside the catalogue
	// and the rules. A condition on the placement or the channel is judged wherever
	// it may be given. Without an offer the context may tell both.
	Placement []byte
	Channel   []byte
	Gates     Gates

	Context []NamedValue // of the request that is supposed; absent keys are missing
}

// gateBlock is how many people are judged under one lock: about 0.1 ms, the
// longest that a decision waits for a bulk question.
const gateBlock = 128

// FindPeople answers an audience query: for whom it holds, all by one revision
// and at one time. Rules are judged on each group exactly as it was at its
// Position; what gates read of a person (caps, consents, the rules once more) is
// read a moment later, in blocks, and judged at the same time. reason says why an
// offer is for nobody, whoever they are: its dates, or no place to give it.
//
// Errors are *Problem, or that of ctx when it ends before.
func (e *Engine) FindPeople(ctx context.Context, q *AudienceQuery) (
	p *People, reason string, err error,
) {
	if q.Rule != nil && q.Segment != "" {
		return nil, "", invalid("two_questions", "segment", "give a rule or a segment, not both")
	}
	if len(q.Offer) > 0 {
		return e.offerPeople(ctx, q)
	}
	switch {
	case q.Gates != 0:
		return nil, "", invalid("missing_field", "offer", "gates are those of an offer")
	case len(q.Placement) > 0:
		return nil, "", invalid("missing_field", "offer", "a placement goes with an offer")
	case len(q.Channel) > 0:
		return nil, "", invalid("missing_field", "offer", "a channel goes with an offer")
	case q.Rule == nil && q.Segment == "" && q.Members == nil:
		return nil, "", invalid("missing_field", "rule",
			"say for whom: a rule, a segment, an offer or members")
	}
	p, err = e.People(ctx, &PeopleQuery{Rule: q.Rule, Segment: q.Segment, Context: q.Context})
	if err != nil {
		return nil, "", err
	}
	p.only(q.Members)
	return p, "", nil
}

// offerPeople finds the people of an offer.
func (e *Engine) offerPeople(ctx context.Context, q *AudienceQuery) (*People, string, error) {
	x, err := e.Eligibility(&EligibilityQuery{
		Offers: [][]byte{q.Offer}, Placement: q.Placement, Channel: q.Channel, Gates: q.Gates,
		Context: q.Context,
	})
	if err != nil {
		return nil, "", offerField(err)
	}
	snap := x.work.snap
	ask, err := snap.offerAsk(q, &snap.Plan.Offers[x.question.Offers[0]])
	if err != nil {
		return nil, "", err
	}
	ask.at, ask.context = x.At, x.question.Context
	ask.tree = ask.tree.Anywhere(snap.slotsOf(&x.question))
	if reason := x.forNobody(); reason != "" {
		return e.nobody(ask.at, snap), reason, nil
	}
	p, err := e.peopleOf(ctx, snap, ask)
	if err != nil {
		return nil, "", err
	}
	p.only(q.Members)
	if q.Gates != 0 {
		err = x.pass(ctx, p)
	}
	return p, "", err
}

// nobody is the answer for whom nothing was asked.
func (e *Engine) nobody(at storage.UnixMsec, snap *Snapshot) *People {
	p := &People{At: at, Revision: snap.Revision}
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		of := GroupPeople{Group: g.GroupID(), Position: g.Seal(), Ords: roaring.New()}
		g.Unlock()
		p.Groups = append(p.Groups, of)
	}
	return p
}

// offerField names the one offer of an audience query in a problem.
func offerField(err error) error {
	var p *Problem
	if errors.As(err, &p) && p.Field == "offers[0]" {
		named := *p
		named.Field = "offer"
		return &named
	}
	return err
}

// offerAsk makes one rule of the three lists of an offer, and of the rule or the
// segment beside it.
func (s *Snapshot) offerAsk(q *AudienceQuery, o *decide.Offer) (*peopleAsk, error) {
	all := &definition.Node{Kind: definition.NodeList}
	written := o.Def.Whole()
	for _, list := range [...]string{"eligibility", "applicability", "suitability"} {
		if n := written.Get(list); !rule.Empty(n) {
			all.List = append(all.List, n)
		}
	}
	if q.Segment != "" {
		if problem := s.publishedSegment(q.Segment); problem != nil {
			return nil, problem
		}
		all.List = append(all.List, &definition.Node{Kind: definition.NodeMap, Keys: []definition.Key{
			{Name: "segment", Value: &definition.Node{Kind: definition.NodeString, Text: q.Segment}},
		}})
	}
	if q.Rule != nil {
		// First by itself: its faults are named as the caller wrote it, and it has no
		// offer to speak of.
		if _, faults := rule.Parse(q.Rule, s.Plan.Names, "rule"); len(faults) > 0 {
			return nil, ruleProblem(faults)
		}
		if !rule.Empty(q.Rule) {
			all.List = append(all.List, q.Rule)
		}
	}
	names := *s.Plan.Names
	names.Offer = written.Get("attributes")
	var whole *definition.Node // nil: everybody
	if len(all.List) > 0 {
		whole = &definition.Node{
			Kind: definition.NodeMap, Keys: []definition.Key{{Name: "all", Value: all}},
		}
	}
	tree, faults := rule.Parse(whole, &names, "rule")
	if len(faults) > 0 {
		return nil, ruleProblem(faults)
	}
	return &peopleAsk{tree: tree}, nil
}

// forNobody says why the offer can be given to nobody, or "".
func (x *Eligibility) forNobody() string {
	q := x.question
	q.Gates = 0
	w := &x.work
	w.sizeBits(w.snap.Plan.Program)
	stranger := decide.Person{Bits: w.bits}
	at := decide.Moment{Ms: x.At, Instant: storage.Instant{Now: toSec(x.At)}}
	v := w.snap.Plan.Judge(&q, &stranger, at, nil, &w.result)[0]
	switch v.Reason {
	case decide.NotStarted, decide.Expired:
		return v.Reason.String()
	case decide.Inactive, decide.ChannelMismatch, decide.PlacementMismatch:
		// With experiments some people may be led to another policy.
		if x.question.Gates&decide.GateExperiments == 0 {
			return v.Reason.String()
		}
	}
	return ""
}

// pass keeps those of p whom the gates let pass.
func (x *Eligibility) pass(ctx context.Context, p *People) error {
	for i := range p.Groups {
		of := &p.Groups[i]
		g := x.e.store.Group(of.Group)
		kept := roaring.New()
		it := of.Ords.Iterator()
		for it.HasNext() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := x.passBlock(g, it, kept); err != nil {
				return err
			}
		}
		kept.RunOptimize()
		of.Ords = kept
	}
	return nil
}

// passBlock judges some people under one lock.
func (x *Eligibility) passBlock(
	g *storage.Group, it roaring.IntPeekable, kept *roaring.Bitmap,
) error {
	g.Lock()
	defer g.Unlock()
	for range gateBlock {
		if !it.HasNext() {
			return nil
		}
		ord := storage.Ord(it.Next())
		if row := g.Row(ord); row == nil || row.Flags&storage.RowGone != 0 {
			continue
		}
		x.work.id = append(x.work.id[:0], g.ID(ord)...)
		if err := x.judgeLocked(g, ord); err != nil {
			return fmt.Errorf("judge ordinal %d of group %d: %w", ord, g.GroupID(), err)
		}
		if x.verdicts[0].Reason == decide.ReasonNone {
			kept.Add(uint32(ord))
		}
	}
	return nil
}

// only keeps those who are in m too; nil keeps all.
func (p *People) only(m *People) {
	if m == nil {
		return
	}
	for i := range p.Groups {
		of := &p.Groups[i]
		both := roaring.New()
		for j := range m.Groups {
			if m.Groups[j].Group == of.Group {
				both = roaring.And(of.Ords, m.Groups[j].Ords)
			}
		}
		of.Ords = both
	}
}
