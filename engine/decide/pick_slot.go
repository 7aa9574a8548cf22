package decide

import "tact/engine/rule"

// indexSlots notes what the slots of each placement tell of themselves, where a
// rule asks for the placement or the channel, and what must be judged anew then.
func (p *Plan) indexSlots() {
	asked := p.Program.SlotWords()
	if asked == nil {
		return
	}
	for i := range p.Placements {
		pl := &p.Placements[i]
		pl.words = make([]uint64, p.Program.RequestWords)
		p.Program.EvalRequest(rule.SlotContext(pl.ID, pl.Channel), pl.words)
	}
	for i := range p.Experiments {
		if p.Experiments[i].targeting.ReadsRequest(asked) {
			p.slotExperiments = append(p.slotExperiments, int32(i))
		}
	}
	for i := range p.Quiet {
		q := &p.Quiet[i]
		if q.segment.ReadsRequest(asked) || q.known.ReadsRequest(asked) {
			p.slotQuiet |= 1 << i
		}
	}
}

// enter sets the bits that tell the placement and its channel, and forgets what
// was judged at another placement by rules that ask for them. Nothing is done
// when no rule does.
func (r *run) enter(placement int32) {
	words := r.p.Placements[placement].words
	if words == nil || r.entered == placement+1 {
		return
	}
	r.entered = placement + 1
	rule.SetSlot(r.row, r.req.Words, words)
	r.indexed = nil
	for _, e := range r.p.slotExperiments {
		r.out.work.variants[e] = variantOpen
	}
	if r.p.slotQuiet != 0 {
		r.quietSet &^= r.p.slotQuiet
		r.quietBinds &^= r.p.slotQuiet
		r.quietNow &^= r.p.slotQuiet
	}
}
