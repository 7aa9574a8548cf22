package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"tact/storage"
)

// workspaceID is the one workspace a node serves; keys already carry it.
const workspaceID storage.WorkspaceID = 1

// maxUserID is the longest user id in bytes.
const maxUserID = 128

// Batch is a run of writes that become durable together: apply lines one by
// one, then Commit once. A Batch is used by one goroutine. Each line is applied
// whole or not at all; a rejected line does not touch its neighbours.
type Batch struct {
	e      *Engine
	frames []uint64 // by group: the last frame this batch appended to; 0 = none

	resolver
	effect  storage.Effect
	claims  []claim
	token   tokenScratch
	keys    []storage.HeldKey
	windows []storage.TotalKey
	early   []storage.BlockEffect // units that a confirm gives back
	text    []byte
	away    []awayKey // of the outcome at hand: see keysAway
	given   bool      // its refund was given in another group: see refundAway

	fetch     storage.Fetch // of events that are next
	fetchIDs  [][]byte
	fetchKeys []uint64

	led      bool   // identities led to the person of the line
	erasures uint64 // of the engine, before they did
}

// claim is one identity of a line, on its way to the identity index.
type claim struct {
	line     int // its index in the line
	identity storage.Identity
	hash     [16]byte
	slot     storage.Slot
	stripe   int
}

// Begin starts a batch on the definitions published now.
func (e *Engine) Begin() *Batch {
	return &Batch{
		e: e, frames: make([]uint64, e.store.Groups()),
		resolver: resolver{names: &e.names, snap: e.snap.Load()},
	}
}

// Commit waits until every line applied so far is durable. An error means in
// doubt: the lines may or may not be there after a crash; a retry with the same
// ids resolves it. The batch may be used again afterwards.
func (b *Batch) Commit(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	var errs []error
	for g, frame := range b.frames {
		if frame == 0 {
			continue
		}
		err := b.e.store.Wait(storage.GroupID(g), frame, max(time.Until(deadline), 1))
		if err != nil {
			errs = append(errs, err)
		}
		b.frames[g] = 0
	}
	if len(errs) > 0 {
		return &Problem{
			Class: ProblemBusy, Code: "in_doubt",
			Detail: "not known to be durable; send it again with the same ids: " + errs[0].Error(),
		}
	}
	return nil
}

// CommitBounded is Commit that does not wait while what a crash could take of all
// bounded answers is at most 50 ms of them: see storage.Store.Bounded. It returns
// how durable the lines are: "bounded(50ms)", or "strict" when it has waited.
func (b *Batch) CommitBounded(timeout time.Duration) (durability string, err error) {
	for g, frame := range b.frames {
		if frame == 0 {
			continue
		}
		bounded, err := b.e.store.Bounded(storage.GroupID(g), frame)
		if err != nil || !bounded {
			return durabilityStrict, b.Commit(timeout)
		}
	}
	clear(b.frames)
	return durabilityBounded, nil
}

// append appends b.effect in g, which the caller has locked, and notes the frame.
func (b *Batch) append(g *storage.Group) error {
	frame, err := g.Append(&b.effect)
	if err != nil {
		return storeProblem(err)
	}
	b.frames[g.GroupID()] = frame
	return nil
}

// storeProblem maps what storage refuses to what a caller can act on.
func storeProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrDiskFull):
		return &Problem{Class: ProblemFull, Code: "disk_full", Detail: err.Error()}
	case errors.Is(err, storage.ErrMemoryCap):
		return &Problem{Class: ProblemFull, Code: "memory_cap", Detail: "no room for new people"}
	case errors.Is(err, storage.ErrLimit), errors.Is(err, storage.ErrStateFull),
		errors.Is(err, storage.ErrInvalid), errors.Is(err, storage.ErrTooLarge):
		return &Problem{Class: ProblemInvalid, Code: "limit", Detail: err.Error()}
	case errors.Is(err, storage.ErrFenced), errors.Is(err, storage.ErrUnknown),
		errors.Is(err, storage.ErrClosed):
		return &Problem{Class: ProblemBusy, Code: "unavailable", Detail: err.Error()}
	}
	if p := Damaged(err); p != nil {
		return p
	}
	return err
}

// Damaged returns the problem of an error that says that bytes on the disk are not what
// was written, naming the file where that is known; nil for any other error.
func Damaged(err error) *Problem {
	if !errors.Is(err, storage.ErrCorrupt) {
		return nil
	}
	return &Problem{
		Class: ProblemDamaged, Code: "damaged", Detail: "bytes on the disk are not what was " +
			"written: " + storage.DamageText(err) + "; see: tact doctor",
	}
}

// rejected builds the result of a refused line.
func rejected(err error) LineResult { return LineResult{Status: LineRejected, Err: err} }

func invalid(code, field, detail string) *Problem {
	return &Problem{Class: ProblemInvalid, Code: code, Field: field, Detail: detail}
}

// User applies one line of POST /v1/users.
func (b *Batch) User(doc *UserDoc) LineResult {
	return b.countLine(lineUser, b.user(doc))
}

func (b *Batch) user(doc *UserDoc) LineResult {
	for {
		if r := b.userOnce(doc); r.Err != errErasedMeanwhile {
			return r
		}
	}
}

func (b *Batch) userOnce(doc *UserDoc) LineResult {
	if len(doc.Consents) > 0 {
		defer b.e.store.HoldNames()()
	}
	id, err := b.owner(doc.UserID, doc.Identities)
	if err != nil {
		return rejected(err)
	}
	if err := b.resolvePatch(doc); err != nil {
		return rejected(err)
	}
	if err := b.resolveClaims(doc); err != nil {
		return rejected(err)
	}
	b.sortClaims()
	b.lockClaims()
	defer b.unlockClaims()
	var key uint64
	if len(doc.Key) > 0 {
		b.text = append(append(append(b.text[:0], id...), 0), doc.Key...)
		key = b.e.store.DedupHash(dedupUser, b.text)
	}
	return b.applyUser(id, key, doc.BodyHash)
}

// Kinds of idempotency keys; stored inside the hash.
const (
	dedupUser uint8 = iota + 1
	dedupEvent
	dedupOutcome
	dedupRequest // of request_id
	dedupContact // of a contact that was counted
	dedupScope   // of an identity that a cap counts by; no idempotency key
)

// applyUser finds or makes the person, refuses identities of others, appends
// the claims and the patch. The claims' stripes are held. Effects of several
// groups are appended inside one Together, so they become durable together.
func (b *Batch) applyUser(id []byte, key uint64, body uint32) LineResult {
	if len(b.claims) > 0 { // the person must not go between the claims and the patch
		b.e.erasing.RLock()
		defer b.e.erasing.RUnlock()
	}
	self, known := b.e.find(id)
	for i := range b.claims {
		owner, taken := b.e.claimOwner(&b.claims[i])
		if taken && (!known || owner != self) {
			return rejected(&Problem{
				Class: ProblemConflict, Code: "identity_conflict",
				Field:  fmt.Sprintf("identities[%d]", b.claims[i].line),
				Detail: "the identity belongs to another person",
			})
		}
	}
	result := LineResult{}
	b.e.store.Together(func() {
		result = b.appendUser(id, key, body)
	})
	return result
}

// appendUser appends claims first and the patch, which carries the key, last: a
// claim whose person does not list the identity is void, so a line that is
// refused half-way has changed nothing.
func (b *Batch) appendUser(id []byte, key uint64, body uint32) LineResult {
	made := false
	if len(b.claims) > 0 {
		var err error
		if made, err = b.appendClaims(id, key); err != nil {
			return rejected(err)
		}
	}
	p, err := b.person(id, key, body, true)
	if err != nil {
		return rejected(err)
	}
	defer p.group.Unlock()
	p.made = p.made || made
	if p.seen != nil {
		return *p.seen
	}
	if b.replace {
		b.dropTags(p.group.Profile(p.ord))
	}
	b.stamp(storage.EffectPatch, p.ord)
	b.effect.DedupKey, b.effect.DedupBody = p.key, body
	b.effect.Patch = &b.patch
	r := b.finish(&p)
	if r.Err == nil && b.clamped {
		r.Flags |= FlagClockClamped
	}
	return r
}

// appendClaims points the line's identities at its person, making the person
// when unknown, which it reports. A line that was seen before appends none.
func (b *Batch) appendClaims(id []byte, key uint64) (made bool, err error) {
	p, err := b.person(id, key, 0, true)
	if err != nil {
		return false, err
	}
	if p.seen != nil {
		p.group.Unlock()
		return false, nil
	}
	ref := storage.PersonRef{
		Group: p.group.GroupID(), Ord: p.ord, Person: p.group.Row(p.ord).Person,
	}
	p.group.Unlock()
	for i := range b.claims {
		if err := b.appendClaim(&b.claims[i], ref); err != nil {
			return p.made, err
		}
	}
	return p.made, nil
}

// found is the person of a line, with the group locked.
type found struct {
	group *storage.Group
	ord   storage.Ord
	key   uint64      // of the line, the person's own; 0 = none
	made  bool        // by this line: undone when the line is refused
	seen  *LineResult // the line's key was seen before: nothing is to be done
}

// finish appends the line's last effect. When it is refused, a person that the
// line made is taken out again.
func (b *Batch) finish(p *found) LineResult {
	visitor := p.group.Row(p.ord).Flags&storage.RowVisitor != 0
	err := b.append(p.group)
	if err == nil {
		if visitor && !p.made && p.group.Row(p.ord).Flags&storage.RowVisitor == 0 {
			b.e.visitors.Add(-1)
		}
		return LineResult{}
	}
	return b.undo(p, err)
}

// undo refuses a line; a person that it made is taken out again.
func (b *Batch) undo(p *found, err error) LineResult {
	if p.made && p.group.Contact(p.ord).Empty() {
		b.stamp(storage.EffectForget, p.ord)
		if err := b.append(p.group); err != nil {
			b.e.log.Debug("a person without content is left to expire", "err", err)
		}
	}
	return rejected(err)
}

// stamp readies b.effect for an effect of a kind on a person.
func (b *Batch) stamp(kind storage.EffectKind, ord storage.Ord) {
	b.effect = storage.Effect{
		Kind: kind, Ord: ord, Time: b.e.clock.Now(), Config: b.snap.Revision,
	}
}

// person locks the group of id and finds the person, making one when unknown: as
// a visitor, whom the line's own effect then settles. profile says whether the line
// reads the profile. On success the group stays locked.
func (b *Batch) person(id []byte, key uint64, body uint32, profile bool) (p found, err error) {
	s := b.e.store
	slot := s.SlotOf(workspaceID, id)
	hash := s.IndexHash(workspaceID, id)
	g := s.GroupOf(slot)
	p.group = g
	g.Lock()
	ord, ok := storage.Ord(0), false
	if profile {
		ord, ok = g.Find(workspaceID, hash, id)
	} else {
		ord, ok = g.FindRow(workspaceID, hash, id)
	}
	if ok {
		p.ord, p.key = ord, g.Row(ord).DedupKey(key)
		if old, ok := g.SeenOf(p.key, key); ok && key != 0 {
			p.seen = b.duplicate(g, old == body)
		}
		return p, nil
	}
	if b.led && b.e.erasures.Load() != b.erasures {
		g.Unlock()
		return p, errErasedMeanwhile
	}
	p.made = true
	if p.ord, err = b.create(g, slot, hash, id); err != nil {
		g.Unlock()
		return p, err
	}
	p.key = g.Row(p.ord).DedupKey(key)
	return p, nil
}

// errErasedMeanwhile: the person that identities led to has been erased; what they
// lead to is to be looked up again.
var errErasedMeanwhile = errors.New("the person has been erased meanwhile")

// duplicate is the result of a line whose idempotency key was seen before. What
// it repeats may not be durable yet, so the batch waits for it.
func (b *Batch) duplicate(g *storage.Group, sameBody bool) *LineResult {
	if frame := g.LastFrame(); frame > 0 {
		b.frames[g.GroupID()] = max(b.frames[g.GroupID()], frame)
	}
	if sameBody {
		return &LineResult{Status: LineDuplicate}
	}
	return &LineResult{Status: LineRejected, Err: &Problem{
		Class: ProblemConflict, Code: "id_reused",
		Detail: "the same id was sent before with another body",
	}}
}

// create appends a new person to a locked group.
func (b *Batch) create(
	g *storage.Group, slot storage.Slot, hash uint64, id []byte,
) (storage.Ord, error) {
	person, ord := g.NextPerson()
	b.stamp(storage.EffectCreate, ord)
	b.effect.Create = storage.CreateEffect{
		Workspace: workspaceID, Slot: slot, Person: person, ID: id, IDHash: hash, Key: g.NewKey(),
		Visitor: true,
	}
	return ord, b.append(g)
}

// eventsBlock is of how many events at a time the memory is asked for ahead. Their rows,
// tails, sums and keys, some 2 KiB each of people with a history, lie in the second cache
// then.
const eventsBlock = 64

// EventsBlock is how many events Events takes best at a time.
func EventsBlock() int { return eventsBlock }

// Events applies lines of POST /v1/events one after the other, each exactly as Event
// would, and says in results, which is as long, what became of them. The memory of many
// people is asked for at once, so that who is in no cache costs no wait of its own.
// Cost: as that of Event, less four to six cold reads that depend on one another.
func (b *Batch) Events(docs []EventDoc, results []LineResult) {
	for len(docs) > 0 {
		n := min(len(docs), eventsBlock)
		if n > 1 {
			b.fetchEvents(docs[:n])
		}
		for i := range n {
			results[i] = b.Event(&docs[i])
		}
		docs, results = docs[n:], results[n:]
	}
}

// fetchEvents brings the people that events name by user_id into the caches.
func (b *Batch) fetchEvents(docs []EventDoc) {
	b.fetchIDs, b.fetchKeys = b.fetchIDs[:0], b.fetchKeys[:0]
	for i := range docs {
		d := &docs[i]
		if len(d.UserID) == 0 || len(d.UserID) > maxUserID || len(d.EventID) > maxUserID {
			continue
		}
		b.fetchIDs = append(b.fetchIDs, d.UserID)
		b.fetchKeys = append(b.fetchKeys, b.eventKey(d.UserID, d.EventID))
	}
	b.fetch.Events(b.e.store, workspaceID, b.fetchIDs, b.fetchKeys)
	clear(b.fetchIDs)
}

// eventKey is the idempotency key of an event.
func (b *Batch) eventKey(id, eventID []byte) uint64 {
	b.text = append(append(append(b.text[:0], id...), 0), eventID...)
	return b.e.store.DedupHash(dedupEvent, b.text)
}

// Event applies one line of POST /v1/events.
func (b *Batch) Event(doc *EventDoc) LineResult {
	return b.countLine(lineEvent, b.event(doc))
}

func (b *Batch) event(doc *EventDoc) LineResult {
	for {
		if r := b.eventOnce(doc); r.Err != errErasedMeanwhile {
			return r
		}
	}
}

func (b *Batch) eventOnce(doc *EventDoc) LineResult {
	id, err := b.owner(doc.UserID, doc.Identities)
	if err != nil {
		return rejected(err)
	}
	if err := checkUserID(doc.EventID, "event_id"); err != nil {
		return rejected(err)
	}
	event, indexed, err := b.resolveEvent(doc)
	if err != nil {
		return rejected(err)
	}
	key := b.eventKey(id, doc.EventID)
	p, err := b.person(id, key, doc.BodyHash, false)
	if err != nil {
		return rejected(err)
	}
	defer p.group.Unlock()
	if p.seen != nil {
		return *p.seen
	}
	if err := b.seed(p.group, p.ord); err != nil {
		return b.undo(&p, err)
	}
	b.stamp(storage.EffectEvent, p.ord)
	b.effect.DedupKey, b.effect.DedupBody = p.key, doc.BodyHash
	at, clamped := clampEventTime(doc.OccurredAt, b.effect.Time)
	b.effect.Event = storage.EventEffect{
		Event: event, Occurred: at, Clamped: clamped, EventID: doc.EventID,
		Indexed: indexed, Raw: doc.Raw, Shift: b.snap.shift(at),
	}
	if _, ok := b.snap.counted[string(doc.Event)]; ok { // else Append alone is all or nothing
		if err := b.countFitting(&p, event, doc); err != nil {
			return b.undo(&p, err)
		}
	}
	r := b.finish(&p)
	if r.Err == nil && clamped {
		r.Flags |= FlagClockClamped
	}
	return r
}

// futureTolerance is how far, in milliseconds, a caller's clock may lie ahead of ours.
const futureTolerance = 5 * 60 * 1000

// clampEventTime replaces a missing time by now, and one before 1970 or beyond
// now + 5 minutes too: those it reports.
func clampEventTime(at, now storage.UnixMsec) (storage.UnixMsec, bool) {
	switch {
	case at == 0:
		return now, false
	case at < 0, at > now+futureTolerance:
		return now, true
	}
	return at, false
}

// owner returns the canonical id that a line is about: its user_id, else the
// person its identities point at, else a canonical id made of the first one.
func (b *Batch) owner(userID []byte, identities []IdentityRef) ([]byte, error) {
	b.led = false
	if len(userID) > 0 || len(identities) == 0 {
		return b.canonical(userID, nil)
	}
	b.erasures = b.e.erasures.Load()
	id, _, err := b.e.resolveIdentities(b.snap, identities, nil)
	if err != nil {
		return nil, err
	}
	if id != nil {
		b.led = true
		return id, nil
	}
	return b.canonical(nil, identities)
}

// canonical checks a user id, or makes the canonical id of a person who is
// known by an identity only.
func (b *Batch) canonical(userID []byte, identities []IdentityRef) ([]byte, error) {
	if len(userID) > 0 {
		if err := checkUserID(userID, "user_id"); err != nil {
			return nil, err
		}
		return userID, nil
	}
	if len(identities) == 0 {
		return nil, invalid("missing_field", "user_id", "want a user_id or identities")
	}
	return anonymousID(nil, &identities[0])
}

// checkUserID enforces 1–128 bytes without control characters; the codec has
// checked the UTF-8.
func checkUserID(id []byte, field string) error {
	if len(id) == 0 || len(id) > maxUserID {
		return invalid("bad_id", field, "want 1 to 128 bytes")
	}
	if control(id) {
		return invalid("bad_id", field, "control characters are not allowed")
	}
	return nil
}

// anonymousID appends the canonical id of a person known by one identity only:
// a zero byte, the type, a zero byte, the value. No caller's user_id holds one.
func anonymousID(dst []byte, ref *IdentityRef) ([]byte, error) {
	value := normalised(ref)
	if len(ref.Type)+len(value)+2 > maxUserID || len(value) == 0 || len(ref.Type) == 0 {
		return nil, invalid("bad_id", "identities[0]",
			"type and value together hold 2 to 126 bytes when there is no user_id")
	}
	dst = append(append(dst, 0), ref.Type...)
	return append(append(dst, 0), value...), nil
}

// normalised returns an identity's value as it is compared: e-mail addresses
// without regard to case and outer spaces, everything else byte by byte.
func normalised(ref *IdentityRef) []byte {
	if string(ref.Type) == "email" {
		return []byte(strings.ToLower(strings.TrimSpace(string(ref.Value))))
	}
	return ref.Value
}

// stripes serialise claims of the same identity.
type stripes struct {
	locks [64]sync.Mutex
}

func (b *Batch) lockClaims() {
	last := -1
	for i := range b.claims {
		if s := b.claims[i].stripe; s != last {
			b.e.stripes.locks[s].Lock()
			last = s
		}
	}
}

func (b *Batch) unlockClaims() {
	last := -1
	for i := range b.claims {
		if s := b.claims[i].stripe; s != last {
			b.e.stripes.locks[s].Unlock()
			last = s
		}
	}
}
