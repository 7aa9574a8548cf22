package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tact/storage"
	"tact/storage/lossy"
	"tact/storage/seeds"
)

// lossWorld is three offers under caps of every shape, and two under those alone
// that let a grant be answered before it is durable. The %d are the limit of the
// first cap and the value of an offer: what a publish changes. %s:
// whether an open reservation is given again.
const lossWorld = `
kind: workspace
id: default
timezone: Asia/Shanghai
currency: CNY
---
kind: attribute
id: allowed
type: int
---
kind: attribute
id: n
type: int
---
kind: tag
id: stage
values: ["0", "1", "2"]
---
kind: event
id: order
properties: {n: {type: int, indexed: true}}
---
{kind: offer, id: a, group: g, message_class: marketing, value: %[2]d, propensity: 1, cost: "5.00",
 treatments: [{id: t, channel: web, content: {type: text, body: a}}]}
---
{kind: offer, id: b, group: g, message_class: marketing, value: 2, propensity: 1, cost: "7.00",
 treatments: [{id: t, channel: web, content: {type: text, body: b}}]}
---
{kind: offer, id: c, group: g, message_class: marketing, value: 1, propensity: 1, cost: "9.00",
 treatments: [{id: t, channel: web, content: {type: text, body: c}}]}
---
{kind: offer, id: d, group: h, message_class: marketing, value: 1, propensity: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: d}}]}
---
{kind: offer, id: e, group: h, message_class: marketing, value: 1, propensity: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: e}}]}
---
{kind: placement, id: spot, channel: web, policy: p, count: 2, sticky: %[3]s}
---
{kind: placement, id: page, channel: web, policy: q, count: 2, sticky: %[3]s}
---
{kind: decision_policy, id: p, candidates: {offers: {groups: [g]}}, ranking: {by: product}}
---
{kind: decision_policy, id: q, candidates: {offers: {groups: [h]}}, ranking: {by: product}}
---
{kind: cap, id: own, scope: person, per: offer, count_on: impression,
 window: {rolling: 1h}, limit: %[1]d}
---
{kind: cap, id: day, scope: person, per: all, count_on: impression,
 window: {calendar: day, zone: user}, limit: 5}
---
{kind: cap, id: great, scope: person, per: all, count_on: impression,
 window: {calendar: hour, zone: UTC}, limit: {attribute: allowed, default: 3, max: 100}}
---
{kind: cap, id: gap, scope: person, per: offer, count_on: impression, window: {rolling: 1d},
 limit: 60, min_gap: 12m, hold: 10m}
---
{kind: cap, id: ident, scope: identity, per: all, count_on: decision,
 applies_to: {offers: {groups: [g]}}, window: {rolling: 30m}, limit: 4}
---
{kind: cap, id: all_day, scope: total, per: offer, count_on: impression,
 applies_to: {offers: {groups: [g]}}, window: {calendar: day, zone: UTC}, limit: 6}
---
{kind: cap, id: all_rolling, scope: total, per: all, count_on: decision,
 applies_to: {offers: {groups: [g]}}, window: {rolling: 1h}, limit: 14}
---
{kind: cap, id: purse, scope: total, per: all, count_on: impression,
 applies_to: {offers: {groups: [g]}}, window: {calendar: day, zone: UTC},
 limit: {amount: "60.00", currency: CNY}}
---
{kind: cap, id: stock, scope: total, per: offer, count_on: accept, window: lifetime, limit: 3,
 applies_to: {offers: {groups: [g]}}}
`

// loss is one seed: a client and an engine on a file system that forgets what was
// not synced.
type loss struct {
	seed   uint64
	rng    *rand.Rand
	m      *machine
	fs     *lossy.FS
	ring   string // folder of the ring; "" = none
	early  bool   // planted: what is left of the disk is older than the last answers
	caps   storage.CapsPolicy
	e      *Engine
	out    Decision
	oracle *lossOracle
	shown  []*impression
	asked  []askedBefore
	doubt  []func() error // lines that were under way: the client sends them again
	revs   int
	lines  int
	losses int
	// Requests answered again with the first answer, and how many of them right
	// after a start.
	repeats, kept int
	users         []lossUser
}

type lossUser struct{ id, zone string }

// impression is one granted item in the client's hands.
type impression struct {
	user, offer string
	token       []byte
	decided     int64
	expires     int64
	at          int64                 // when the client showed it; 0 = not yet
	done        bool                  // its impression was answered
	held        storage.ReservationID // a later decision may be given with it too
	accepts     int
	// unknown: the store was put back as it was before the grant. The use counts if it
	// was shown in time, whatever the store says of its report.
	unknown bool
}

// askedBefore is a decision that the client may ask for again.
type askedBefore struct {
	req    DecideRequest
	id     storage.DecisionID
	until  int64 // nothing of it has run out
	items  []storage.ReservationID
	strict bool // the answer was durable
	turn   int  // of the person's requests
}

func newLoss(seed uint64) *loss {
	return &loss{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 11)), fs: lossy.New(),
		m: &machine{wall: 1_790_000_000_000, mono: 1}, oracle: newLossOracle(0),
		users: []lossUser{
			{"ann", "Asia/Shanghai"}, {"bob", "America/New_York"}, {"eve", ""},
		},
	}
}

func (l *loss) open() (*Engine, error) {
	return Open("store", Options{Read: l.m.read, Storage: storage.Options{
		Groups: 2, FS: l.fs, RingDir: l.ring, FlushEvery: 20 * time.Millisecond,
		BoundedMax: 3 * time.Millisecond, JournalSlots: 32 << (l.seed % 5), Caps: l.caps,
	}})
}

func (l *loss) publish() error {
	l.revs++
	files := testFiles(fmt.Sprintf(lossWorld, 1+l.revs%2, 1+2*(l.revs%3),
		[]string{"hold", "none", "none"}[l.seed/2%3]))
	_, faults, _, err := l.e.Publish(files, "test", "", 0)
	if len(faults) > 0 {
		return fmt.Errorf("%v", faults)
	}
	return err
}

// line applies one line and waits until it is durable.
func (l *loss) line(f func(*Batch) LineResult) (LineResult, error) {
	l.lines++
	b := l.e.Begin()
	r := f(b)
	return r, b.Commit(5 * time.Second)
}

func (l *loss) pick() *lossUser { return &l.users[l.rng.IntN(len(l.users))] }

// decide asks for an item or two, sometimes under a request_id.
func (l *loss) decide() error {
	u := l.pick()
	req := DecideRequest{UserID: []byte(u.id), Timeout: time.Second, Placements: []PlacementAsk{
		{Key: []byte("k"), PlacementID: l.place(), Count: 1 + l.rng.IntN(2)},
	}}
	who := u.id
	if l.rng.IntN(3) == 0 {
		req.Identities = []IdentityRef{{[]byte("email"), []byte(u.id + "@example.com")}}
		who += "@"
	}
	if l.rng.IntN(3) == 0 {
		req.RequestID, req.BodyHash = fmt.Appendf(nil, "r%d-%d", l.seed, l.lines), 5
	}
	l.lines++
	if err := l.e.Decide(&req, &l.out); err != nil {
		return fmt.Errorf("decide: %w", err)
	}
	at := int64(l.out.DecidedAt)
	ends := at + 60_000
	for _, it := range l.out.Items {
		if lossTotal(it.OfferID) {
			l.oracle.decided(who, at)
		}
		l.shown = append(l.shown, &impression{
			user: u.id, offer: it.OfferID, token: bytes.Clone(it.Token),
			decided: at, expires: int64(it.ExpiresAt), held: it.Reservation,
		})
		ends = min(ends, int64(it.ExpiresAt))
	}
	if len(req.RequestID) > 0 {
		l.oracle.requests[u.id]++
		l.asked = append(l.asked, askedBefore{
			req, l.out.ID, ends, reservations(&l.out), l.out.Durability == durabilityStrict,
			l.oracle.requests[u.id],
		})
	}
	return nil
}

// place is one of the two placements.
func (l *loss) place() []byte {
	return []byte([]string{"spot", "page"}[l.rng.IntN(2)])
}

// lossTotal tells whether the offer lies under the caps of everybody.
func lossTotal(offer string) bool { return offer < "d" }

func reservations(d *Decision) []storage.ReservationID {
	var list []storage.ReservationID
	for i := range d.Items {
		list = append(list, d.Items[i].Reservation)
	}
	return list
}

// again asks for a decision that was answered, and is still known.
func (l *loss) again() error {
	if len(l.asked) == 0 {
		return nil
	}
	return l.askAgain(&l.asked[l.rng.IntN(len(l.asked))])
}

func (l *loss) askAgain(a *askedBefore) error {
	if int64(l.e.Now()) > a.until || l.oracle.requests[string(a.req.UserID)]-a.turn >= 4 {
		return nil // a person's last four are remembered
	}
	if err := l.e.Decide(&a.req, &l.out); err != nil {
		return fmt.Errorf("decide again: %w", err)
	}
	if !l.out.Replayed || l.out.ID != a.id || !slices.Equal(reservations(&l.out), a.items) {
		return fmt.Errorf("request %s was answered anew", a.req.RequestID)
	}
	l.repeats++
	return nil
}

// forget drops the requests whose answers may be gone: those that held nothing,
// and after a loss of more than the process those that were not durable.
func (l *loss) forget(killed bool) {
	l.asked = slices.DeleteFunc(l.asked, func(a askedBefore) bool {
		return len(a.items) == 0 || !killed && !a.strict
	})
}

// see shows an item that may still be shown, and most times reports it at once.
func (l *loss) see() error {
	if len(l.shown) == 0 {
		return nil
	}
	recent := l.shown[max(0, len(l.shown)-6):]
	it := recent[l.rng.IntN(len(recent))]
	now := int64(l.e.Now())
	if it.at == 0 {
		it.at = min(max(now, it.decided), it.expires)
		if l.rng.IntN(3) == 0 {
			return nil
		}
	}
	if l.rng.IntN(8) == 0 {
		return l.accept(it)
	}
	return l.confirm(it)
}

func (l *loss) impressionDoc(it *impression) *OutcomeDoc {
	return &OutcomeDoc{
		Token: it.token, Outcome: []byte("impression"), EventID: []byte("i"), BodyHash: 1,
		OccurredAt: storage.UnixMsec(it.at),
	}
}

// confirm reports an impression; a second report must change nothing.
func (l *loss) confirm(it *impression) error {
	doc := l.impressionDoc(it)
	at := min(it.at, int64(l.e.Now()))
	r, err := l.line(func(b *Batch) LineResult { return b.Outcome(doc) })
	if err != nil || r.Err != nil {
		return fmt.Errorf("impression: %w", errors.Join(err, r.Err))
	}
	if want := map[bool]LineStatus{true: LineDuplicate}[it.done]; r.Status != want {
		return fmt.Errorf("impression of %s: status %d, want %d", it.offer, r.Status, want)
	}
	if it.done {
		return nil
	}
	it.done = true
	l.oracle.impression(it, at, r.Flags&FlagLate != 0)
	return nil
}

func (l *loss) accept(it *impression) error {
	doc := &OutcomeDoc{
		Token: it.token, Outcome: []byte("accept"), EventID: []byte("a"), BodyHash: 1,
	}
	r, err := l.line(func(b *Batch) LineResult { return b.Outcome(doc) })
	if err != nil {
		return err
	}
	var p *Problem
	switch {
	case r.Err != nil && errors.As(r.Err, &p) && p.Code == "capped_total":
		return nil
	case r.Err != nil:
		return fmt.Errorf("accept: %w", r.Err)
	case (r.Status == LineDuplicate) != (it.accepts > 0):
		return fmt.Errorf("accept of %s: status %d after %d", it.offer, r.Status, it.accepts)
	case it.accepts == 0:
		it.accepts++
		if r.Flags&FlagRepeat == 0 { // of another decision with the same reservation
			l.oracle.stock[it.offer]++
		}
	}
	return nil
}

// patch writes an attribute and a tag; the oracle keeps what was answered.
func (l *loss) patch() error {
	u := l.pick()
	n := l.oracle.n + 1
	l.oracle.n = n
	r, err := l.line(func(b *Batch) LineResult { return b.User(l.userDoc(u, n)) })
	if err := errors.Join(err, r.Err); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	l.oracle.attr[u.id] = n
	return nil
}

func (l *loss) userDoc(u *lossUser, n int) *UserDoc {
	return &UserDoc{
		UserID: []byte(u.id), HasTimezone: u.zone != "", Timezone: []byte(u.zone),
		Identities: []IdentityRef{{[]byte("email"), []byte(u.id + "@example.com")}},
		Attributes: []NamedValue{{[]byte("n"), rawInt(n)}},
		Tags:       []TagDoc{{Name: []byte("stage"), Is: strconv.AppendInt(nil, int64(n%3), 10)}},
	}
}

func rawInt(n int) RawValue {
	return RawValue{Kind: RawNumber, Text: strconv.AppendInt(nil, int64(n), 10)}
}

// event sends an event of its own number, perhaps twice.
func (l *loss) event() error {
	u := l.pick()
	l.oracle.n++
	n := l.oracle.n
	doc := eventDoc(u.id, n)
	for i := range 1 + l.rng.IntN(2) {
		r, err := l.line(func(b *Batch) LineResult { return b.Event(doc) })
		if err = errors.Join(err, r.Err); err != nil || (r.Status == LineDuplicate) != (i > 0) {
			return fmt.Errorf("event: status %d: %w", r.Status, err)
		}
	}
	l.oracle.events[u.id] = append(l.oracle.events[u.id], n)
	return nil
}

func eventDoc(user string, n int) *EventDoc {
	return &EventDoc{
		EventID: fmt.Appendf(nil, "e%d", n), UserID: []byte(user), Event: []byte("order"),
		BodyHash: 1, Raw: fmt.Appendf(nil, `{"n":%d}`, n),
		Properties: []NamedValue{{[]byte("n"), rawInt(n)}},
	}
}

// turn moves the clocks: on, or the wall alone a step forward or back.
func (l *loss) turn() error {
	switch l.rng.IntN(8) {
	case 0:
		l.step(time.Duration(l.rng.IntN(540)) * time.Second)
	case 1:
		l.step(-time.Duration(l.rng.IntN(3600)) * time.Second)
	case 2:
		l.m.pass(time.Duration(l.rng.IntN(5*3600)) * time.Second)
	default:
		l.m.pass(time.Duration(l.rng.IntN(400_000)) * time.Millisecond)
	}
	l.e.tick()
	return nil
}

func (l *loss) step(d time.Duration) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.wall += d.Milliseconds()
}

// live runs n random steps.
func (l *loss) live(n int) error {
	steps := []func() error{
		l.decide, l.decide, l.decide, l.see, l.see, l.see, l.see, l.again, l.patch, l.event, l.turn,
		l.turn,
	}
	for range n {
		f := steps[l.rng.IntN(len(steps))]
		if l.rng.IntN(40) == 0 {
			f = l.publish
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// run plays the seed: three lives, each ended in its own way.
func (l *loss) run() (err error) {
	if l.e, err = l.open(); err != nil {
		return err
	}
	if err := l.publish(); err != nil {
		return errors.Join(err, l.e.Close())
	}
	for i := range l.users {
		u := &l.users[i]
		r, err := l.line(func(b *Batch) LineResult { return b.User(l.userDoc(u, 0)) })
		if err := errors.Join(err, r.Err); err != nil {
			return err
		}
	}
	for life := range 3 {
		err := l.live(20 + l.rng.IntN(60))
		if err == nil {
			err = l.crash()
		} else {
			_ = l.e.Close() // the fault is told
		}
		if err == nil {
			err = l.reopen()
		}
		if err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
	}
	return l.e.Close()
}

// withRing gives the seed a folder of shared memory, where there is any.
func (l *loss) withRing(t *testing.T, f func()) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tact-loss-")
	if err != nil {
		f()
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // of a test
	l.ring = filepath.Join(dir, "0")
	if err := os.Mkdir(l.ring, 0o700); err != nil {
		t.Error(err)
		return
	}
	f()
}

// lossCounts is what happened in some seeds.
type lossCounts struct{ calls, losses, grants, shows, accepts, kept int }

func (n *lossCounts) add(l *loss) {
	n.losses, n.calls, n.grants = n.losses+l.losses, n.calls+l.lines, n.grants+len(l.shown)
	n.kept += l.kept
	for _, accepts := range l.oracle.stock {
		n.accepts += accepts
	}
	for _, list := range l.oracle.shows {
		n.shows += len(list)
	}
}

func (n *lossCounts) text() string {
	return fmt.Sprintf("%d calls, %d kills and losses, %d grants, %d shown in time, %d accepts, "+
		"%d answers kept over an end", n.calls, n.losses, n.grants, n.shows, n.accepts, n.kept)
}

// TestEnginePowerLoss plays seeds of a whole engine with and without a ring: what
// was answered is there after every start, and no cap is exceeded by what was
// granted and shown in time. TACT_EFFORT=1 plays 10,000; TACT_SEED=n plays one.
func TestEnginePowerLoss(t *testing.T) {
	var mu sync.Mutex
	var sum lossCounts
	run := seeds.Run{
		Name: "engine power loss", Full: 10_000, Few: 100, Workers: runtime.GOMAXPROCS(0),
		Counts: func() string {
			mu.Lock()
			defer mu.Unlock()
			return sum.text()
		},
	}
	got := run.Play(t, func(seed uint64) (uint64, error) {
		l := newLoss(seed)
		var err error
		if seed%2 == 0 {
			l.withRing(t, func() { err = l.run() })
		} else {
			err = l.run()
		}
		mu.Lock()
		defer mu.Unlock()
		sum.add(l)
		return 1, err
	})
	if got.Whole && got.Seeds >= 50 &&
		(sum.shows < int(got.Seeds) || sum.accepts == 0 || sum.kept == 0) {
		t.Errorf("too little happened to show anything: %s", sum.text())
	}
}

// What the oracle must notice: limits that are one lower than the published ones, a
// gap that is longer, and a disk that is older than the last answers.
func TestEnginePowerLossNotices(t *testing.T) {
	f := func(what string, plant func(l *loss)) {
		t.Helper()
		for seed := range uint64(60) {
			l := newLoss(seed)
			plant(l)
			if err := l.run(); err != nil {
				t.Logf("%s: seed %d: %v", what, seed, err)
				return
			}
		}
		t.Errorf("%s: 60 seeds noticed nothing", what)
	}
	for _, name := range lossCaps() {
		f("lower "+name, func(l *loss) { l.oracle.lower = name })
	}
	f("early answers", func(l *loss) { l.early = true })
}

// What an operator is told of the ring: nothing when there is one, why there is
// none, and that a start followed a loss.
func TestNotes(t *testing.T) {
	l := newLoss(0)
	f := func(want ...string) {
		t.Helper()
		e, err := l.open()
		if err != nil {
			t.Fatal(err)
		}
		notes := strings.Join(e.Notes(), "\n")
		for _, w := range want {
			if !strings.Contains(notes, w) {
				t.Errorf("%q does not say %q", notes, w)
			}
		}
		if len(want) == 0 && notes != "" && !strings.Contains(notes, "not locked") {
			t.Errorf("notes %q", notes)
		}
		left := l.clone(0)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		l.fs = left // as after a loss of power
	}
	f()
	l.ring = filepath.Join(t.TempDir(), "none")
	f("ring: none, every grant waits")
	l.withRing(t, func() {
		if !strings.HasPrefix(l.ring, "/dev/shm") {
			return // no shared memory here
		}
		f()
		if err := l.lose(false); err != nil {
			t.Fatal(err)
		}
		f("incident: this start followed a loss")
	})
}
