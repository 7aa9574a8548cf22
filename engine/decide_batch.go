package engine

import (
	"bytes"

	"tact/engine/rule"
	"tact/storage"
)

// Bounds of a batch of decisions.
const (
	// batchBlock is how many live decisions wait for the disk together: enough that
	// one sync is shared by hundreds, few enough that their replies lie in the cache.
	batchBlock = 256
	// fetchBlock is of how many people at a time the memory is asked for ahead: a
	// multiple of batchBlock and of 1. Their rows and profiles, about a KiB each, lie in
	// the second cache then.
	fetchBlock = 256
	// tracedBlock is that of decisions that are explained: a trace has a line for
	// each candidate, up to a megabyte a person.
	tracedBlock = 8
	// maxRequestPrefix leaves room for a user id behind it.
	maxRequestPrefix = 128
)

// DecisionBatch decides the same placements for many people, each exactly as
// Decide would: names are resolved once, a block has one look at the clock, and
// the live decisions of a block wait for the disk together. One goroutine at a
// time.
type DecisionBatch struct {
	e      *Engine
	req    DecideRequest
	prefix []byte
	model  Decision // the request made ready once
	out    []Decision
	states []batchState
	key    []byte // request id of the person at hand
	idents [1]IdentityRef
	fetch  storage.Fetch
	// fetched is where the first of a block lies among those that were fetched.
	fetched int
}

// batchState is what became of one person of a block.
type batchState struct {
	state attempt
	tries int
	err   error
}

// BeginDecisions readies a batch. req names no user and no request id; its slices
// are borrowed until the batch is done. A live batch needs a prefix of 1 to 128
// bytes: the request id of each person is prefix/id, so that a batch sent again
// repeats what it decided. req.BodyHash must be of what the batch asks of every
// person, whoever they are. Errors are *Problem.
func (e *Engine) BeginDecisions(req *DecideRequest, prefix []byte) (*DecisionBatch, error) {
	switch {
	case len(prefix) > maxRequestPrefix:
		return nil, invalid("limit", "request_id", "at most 128 bytes")
	case req.Mode == ModeLive && len(prefix) == 0:
		return nil, invalid("missing_field", "request_id",
			"a live batch has one, so that it can be sent again")
	}
	b := &DecisionBatch{e: e, req: *req, prefix: append([]byte(nil), prefix...)}
	b.req.UserID, b.req.Identities, b.req.RequestID = nil, nil, nil
	b.req.batched = true
	if b.req.Timeout <= 0 {
		b.req.Timeout = maxTimeout
	}
	n := 1 // nothing waits: one decision is given before the next is made
	if req.Mode == ModeLive {
		n = b.Block()
	}
	b.out, b.states = make([]Decision, n), make([]batchState, n)
	return b, b.refresh()
}

// Block is how many people Decide takes at most at a time.
func (b *DecisionBatch) Block() int {
	if b.req.Explain != ExplainNone {
		return tracedBlock
	}
	return batchBlock
}

// OnlyKnown says that all people come from the store, as EachPerson gives them: the
// decision of one who is not there any more is an error.
func (b *DecisionBatch) OnlyKnown() { b.req.onlyKnown = true }

// Revision is that of the definitions the batch decides by now.
func (b *DecisionBatch) Revision() uint32 { return b.model.work.snap.Revision }

// refresh makes the request ready under the snapshot in force.
func (b *DecisionBatch) refresh() error {
	snap, err := b.e.snapshotFor(&b.req)
	if err != nil {
		return err
	}
	b.model.reset(snap)
	w := &b.model.work
	w.start = b.e.clock.Now()
	if w.now = w.start; b.req.Now != 0 {
		w.now = b.req.Now
	}
	return b.e.prepare(&b.req, w, &b.model)
}

// Decide decides for people by canonical id, as EachPerson gives them, or as
// callers name users; ids has at most Block elements. give gets each answer in
// the order of ids; d is valid during the call only. When give returns false the
// rest is not given, though what is live has been decided. err is a fault of that
// person's decision, a *Problem where it is the caller's.
//
// The error of Decide itself says that the batch cannot go on: a revision was
// published under which the request no longer makes sense.
func (b *DecisionBatch) Decide(
	ids [][]byte, give func(i int, d *Decision, err error) bool,
) error {
	if err := b.follow(); err != nil {
		return err
	}
	for from := 0; from < len(ids); from += len(b.out) {
		if from%fetchBlock == 0 {
			b.fetch.People(b.e.store, workspaceID, ids[from:min(from+fetchBlock, len(ids))])
		}
		block := ids[from:min(from+len(b.out), len(ids))]
		b.fetched = from % fetchBlock
		if err := b.block(block); err != nil {
			return err
		}
		for i := range block {
			if !give(from+i, &b.out[i], b.states[i].err) {
				return nil
			}
		}
	}
	return nil
}

// block decides for a block: first everybody, then the wait, then the replies.
func (b *DecisionBatch) block(ids [][]byte) error {
	for i, id := range ids {
		err := b.try(i, id)
		if err == errStaleSnapshot {
			if err = b.refresh(); err != nil {
				return err
			}
			err = b.try(i, id)
		}
		b.states[i].err = err
	}
	for i, id := range ids {
		b.finish(i, id)
	}
	return nil
}

// follow takes the current snapshot, when another was published, and the time.
func (b *DecisionBatch) follow() error {
	w := &b.model.work
	if b.req.Mode != ModePreview && b.e.snap.Load() != w.snap {
		return b.refresh()
	}
	w.start = b.e.clock.Now()
	if w.now = w.start; b.req.Now != 0 {
		w.now = b.req.Now
	}
	return nil
}

// try decides for one person as far as it goes without waiting.
func (b *DecisionBatch) try(i int, id []byte) error {
	s, out := &b.states[i], &b.out[i]
	*s = batchState{}
	b.aim(id)
	b.ready(out)
	if err := b.e.identify(&b.req, out); err != nil {
		return err
	}
	if len(b.req.Identities) == 0 { // else id is another spelling
		out.work.slot, out.work.hash = b.fetch.Where(b.fetched + i)
		out.work.hashed = true
	}
	for ; s.tries < maxPicks; s.tries++ {
		state, err := b.e.attempt(&b.req, out, s.tries == 0)
		if err != nil || state != attemptAgain {
			s.state = state
			return err
		}
	}
	return b.e.decideFrom(&b.req, out, maxPicks)
}

// finish waits for what the decision used and makes its reply; a decision that
// could not be made durable in time is made again as Decide does.
func (b *DecisionBatch) finish(i int, id []byte) {
	s, out := &b.states[i], &b.out[i]
	if s.err != nil || s.state == attemptAnswered {
		return
	}
	b.aim(id)
	if !b.e.settle(&out.work, out) {
		s.err = b.e.decideFrom(&b.req, out, s.tries+1)
		return
	}
	b.e.conclude(&b.req, out)
}

// aim points the request at one person. A person known by one identity alone has
// a canonical id that is no user id: the identity is asked for.
func (b *DecisionBatch) aim(id []byte) {
	b.req.UserID, b.req.Identities = id, nil
	if ref, ok := identityOf(id); ok {
		b.idents[0] = ref
		b.req.UserID, b.req.Identities = nil, b.idents[:]
	}
	b.req.RequestID = nil
	if b.req.Mode == ModeLive {
		b.key = append(append(append(b.key[:0], b.prefix...), '/'), id...)
		b.req.RequestID = b.key
	}
}

// identityOf splits the canonical id of a person who has no user id.
func identityOf(id []byte) (ref IdentityRef, ok bool) {
	if len(id) == 0 || id[0] != 0 {
		return ref, false
	}
	kind, value, ok := bytes.Cut(id[1:], []byte{0})
	return IdentityRef{Type: kind, Value: value}, ok
}

// ready copies what the model resolved into out.
func (b *DecisionBatch) ready(out *Decision) {
	m, w := &b.model.work, &out.work
	out.reset(m.snap)
	w.start, w.now, w.timeout = m.start, m.now, m.timeout
	w.slots = append(w.slots, m.slots...)
	w.words = append(w.words[:0], m.words...)
	w.context = append(w.context, m.context...)
	w.over.Assign = append(w.over.Assign, m.over.Assign...)
	w.request = m.request
	w.request.Slots, w.request.Words, w.request.Context = w.slots, w.words, w.context
	w.who = rule.Who{}
	out.DecidedAt = w.now
}
