package engine

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// An outcome that names an item which the decision does not hold, or not one alone, is
// refused with the field that is wrong, and counts nothing: by decision_id and by token.
func TestOutcomeOfAnItemThatWasNotGiven(t *testing.T) {
	b := newBed(t, stickyWorld)
	req := b.decideReq("ann", "spot")
	req.Placements = append(req.Placements, PlacementAsk{Key: []byte("l"), PlacementID: []byte("other")})
	b.want(req, "a, b")
	id := fmt.Appendf(nil, "%x", b.out.ID[:])
	token := bytes.Clone(b.out.Items[0].Token)
	f := func(doc OutcomeDoc, code, field string) {
		t.Helper()
		doc.Outcome, doc.EventID = []byte("impression"), []byte("e")
		r := b.apply(func(x *Batch) LineResult { return x.Outcome(&doc) })
		p, ok := r.Err.(*Problem)
		if code == "" && r.Err == nil {
			return
		}
		if !ok || p.Code != code || p.Field != field {
			t.Errorf("%s %s %s: %+v, want %s of %s", doc.DecisionID, doc.Placement, doc.OfferID, r, code, field)
		}
	}
	f(OutcomeDoc{DecisionID: id}, "ambiguous", "placement")
	f(OutcomeDoc{DecisionID: id, OfferID: []byte("nobody's")}, "unknown_item", "offer_id")
	f(OutcomeDoc{DecisionID: id, Placement: []byte("k"), OfferID: []byte("b")}, "unknown_item", "offer_id")
	f(OutcomeDoc{DecisionID: id, Placement: []byte("m")}, "unknown_item", "offer_id")
	f(OutcomeDoc{Token: token, OfferID: []byte("b")}, "unknown_item", "offer_id")
	f(OutcomeDoc{DecisionID: bytes.Repeat([]byte("0"), 32)}, "unknown_decision", "decision_id")
	for _, offer := range []string{"a", "b"} {
		if n := b.used("ann", offer, "c"); n != 1 {
			t.Errorf("%s: %d used", offer, n)
		}
	}
	f(OutcomeDoc{DecisionID: id, Placement: []byte("l")}, "", "")
}

// A contact that comes after its reservation has gone is counted, is late, and is in the
// figure of ungranted uses; a token goes on being taken after a start.
func TestUngrantedUsesAreCounted(t *testing.T) {
	b := newBed(t, capWorld+
		"scope: person\nper: offer\ncount_on: impression\nwindow: {rolling: 30d}\nlimit: 3\n")
	figure := func() string {
		t.Helper()
		var text bytes.Buffer
		b.e.WriteMetrics(&text)
		for _, line := range strings.Split(text.String(), "\n") {
			if rest, ok := strings.CutPrefix(line, "tact_outcomes_ungranted_total "); ok {
				return rest
			}
		}
		return "none"
	}
	give := func() []byte {
		b.want(b.decideReq("ann", "spot"), "a")
		return bytes.Clone(b.out.Items[0].Token)
	}
	early, late := give(), give()
	if r := b.outcome(early, "impression", "1"); r.Err != nil || r.Flags != 0 || figure() != "0" {
		t.Fatalf("%+v, figure %s", r, figure())
	}
	b.m.pass(20 * time.Minute)
	b.want(b.decideReq("ann", "spot"), "a")
	b.reopen()
	if r := b.outcome(late, "impression", "2"); r.Err != nil || r.Flags != FlagLate {
		t.Fatalf("%+v", r)
	}
	if got := figure(); got != "1" {
		t.Errorf("%s ungranted", got)
	}
	if r := b.outcome(late, "impression", "3"); r.Err != nil || r.Flags != FlagRepeat || figure() != "1" {
		t.Errorf("%+v, figure %s", r, figure())
	}
	if n := b.used("ann", "a", "c"); n != 3 {
		t.Errorf("%d used, want 3", n)
	}
}
