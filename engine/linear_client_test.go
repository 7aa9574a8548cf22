package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
)

// linClient is one client of a person.
type linClient struct {
	l    *lin
	user int
	rng  *rand.Rand
	out  Decision
}

func (c *linClient) run(steps int) {
	for range steps {
		if !c.l.seen() {
			return
		}
		switch c.rng.IntN(17) {
		case 0:
			c.l.move(c.user/2, c.rng)
		case 1, 2, 3, 4:
			c.confirm()
		case 5, 6, 7, 8:
			c.again()
		default:
			c.decide()
		}
	}
}

// decide asks for an item of one offer, perhaps under a request_id.
func (c *linClient) decide() {
	offer := []string{"p0", "p1", "p0", "p1", "s0", "s0", c.l.everybodys()}[c.rng.IntN(7)]
	request := ""
	u := &c.l.users[c.user]
	c.l.mu.Lock()
	if len(u.asked) < linRequests && c.rng.IntN(3) == 0 {
		request = fmt.Sprintf("%s-%d", c.l.user(c.user), len(u.asked))
		u.asked = append(u.asked, linRequest{request, offer})
	}
	c.l.mu.Unlock()
	c.ask(offer, request)
}

// again sends a request that was sent before, or is under way.
func (c *linClient) again() {
	u := &c.l.users[c.user]
	c.l.mu.Lock()
	if len(u.asked) == 0 {
		c.l.mu.Unlock()
		return
	}
	r := u.asked[c.rng.IntN(len(u.asked))]
	c.l.mu.Unlock()
	c.ask(r.offer, r.id)
}

func (c *linClient) ask(offer, request string) {
	l := c.l
	target, done, ok := l.at(c.user)
	defer done()
	if !ok {
		return
	}
	req := DecideRequest{
		UserID: []byte(l.user(target)), Timeout: linLong,
		Placements: []PlacementAsk{{
			Key: []byte("k"), PlacementID: []byte("spot"), Allow: [][]byte{[]byte(offer)},
		}},
	}
	sticky := offer[0] == 's'
	if sticky {
		req.Placements[0].PlacementID = []byte("hero")
	}
	if request != "" {
		req.RequestID, req.BodyHash = []byte(request), 1
	} else if l.slow && !sticky && c.rng.IntN(2) == 0 {
		req.Timeout = linShort
	}
	counter, call := l.counter(target, offer), l.ticks.Add(1)
	if err := l.e.Decide(&req, &c.out); err != nil {
		l.fail("decide: %w", err)
		return
	}
	in := linInput{kind: linDecide, request: request, sticky: sticky, side: side(target)}
	if offer[0] == 'a' && request != "" {
		in.request += l.rememberedBy(target)
	}
	switch {
	case slices.Contains(c.out.Degraded, "deadline"):
		if !l.seen() {
			l.record(counter, call, in, linOutput{unknown: true})
			return
		}
		temp := fmt.Sprintf("temp-%d", l.temps.Add(1))
		l.record(counter, call, linInput{kind: linHold, id: temp, side: in.side}, linOutput{})
		l.record(counter, call, linInput{kind: linGive, id: temp, side: in.side}, linOutput{})
		l.count(func(n *linCounts) { n.late++ })
		return
	case len(c.out.Degraded) > 0:
		l.fail("decide: degraded %v", c.out.Degraded)
		return
	}
	out := linOutput{replayed: c.out.Replayed, strict: c.out.Durability == durabilityStrict}
	if len(c.out.Items) > 0 {
		out.id = fmt.Sprint(c.out.Items[0].Reservation)
		if !c.out.Items[0].Reserved {
			l.fail("an item of %s without a reservation", offer)
		}
	}
	l.record(counter, call, in, out)
	if l.seen() {
		c.note(offer, out, target)
	}
}

// note keeps what an answer told.
func (c *linClient) note(offer string, out linOutput, owner int) {
	c.l.count(func(n *linCounts) {
		if out.replayed {
			n.repeats++
		}
		if out.id == "" {
			return
		}
		n.grants++
		if !out.strict {
			n.atOnce++
		}
		u := &c.l.users[c.user]
		if slices.ContainsFunc(u.tokens, func(t linToken) bool { return t.id == out.id }) {
			if !out.replayed {
				n.kept++
			}
		} else {
			u.tokens = append(u.tokens, linToken{
				offer: offer, id: out.id, token: bytes.Clone(c.out.Items[0].Token), owner: owner,
				life: c.l.life,
			})
		}
	})
}

// confirm reports an impression of something that was answered, up to three times.
func (c *linClient) confirm() {
	l := c.l
	l.mu.Lock()
	u := &l.users[c.user]
	if len(u.tokens) == 0 {
		l.mu.Unlock()
		return
	}
	t := &u.tokens[c.rng.IntN(len(u.tokens))]
	if t.sent++; t.sent > 3 {
		l.mu.Unlock()
		return
	}
	doc := &OutcomeDoc{
		Token: t.token, Outcome: []byte("impression"), EventID: []byte(t.id), BodyHash: 1,
	}
	offer, id, owner, found := t.offer, t.id, t.owner, t.life < l.life && !l.apart
	l.mu.Unlock()
	target, done, ok := l.at(owner)
	defer done()
	if !ok {
		return
	}
	if target != owner {
		var err error
		if doc.Token, err = l.sendTo(doc.Token, target); err != nil {
			l.fail("token: %w", err)
			return
		}
	}
	call := l.ticks.Add(1)
	b := l.e.Begin()
	r := b.Outcome(doc)
	if err := b.Commit(linLong); err != nil || r.Err != nil {
		l.fail("impression: %v, %v", r.Err, err)
		return
	}
	in := linInput{
		kind: linConfirm, id: id, by: fmt.Sprintf(" of %d", c.user), side: side(target),
	}
	for _, other := range []string{"p0", "p1", "s0"} {
		if found && other != offer {
			l.record(l.counter(target, other), call, linInput{kind: linFound, side: in.side}, linOutput{})
		}
	}
	l.record(l.counter(target, offer), call, in, linOutput{
		late: r.Flags&FlagLate != 0, twice: r.Status == LineDuplicate || r.Flags&FlagRepeat != 0,
	})
}
