package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
	"tact/storage/seeds"
)

// linWorld is three offers whose counters are a person's, the last of them on a sticky
// placement, and two, one after the other, whose counter is everybody's: each decision
// looks at one counter alone.
const linWorld = `
kind: workspace
id: default
---
{kind: offer, id: p0, group: own, message_class: marketing, value: 1, propensity: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: a}}]}
---
{kind: offer, id: p1, group: own, message_class: marketing, value: 1, propensity: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: b}}]}
---
{kind: offer, id: s0, group: own, message_class: marketing, value: 1, propensity: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: e}}]}
---
{kind: offer, id: all0, group: all, message_class: marketing, value: 1, propensity: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: c}}]}
---
{kind: offer, id: all1, group: all, message_class: marketing, value: 1, propensity: 1,
 treatments: [{id: t, channel: web, content: {type: text, body: d}}]}
---
{kind: placement, id: spot, channel: web, policy: p, sticky: none}
---
{kind: placement, id: hero, channel: web, policy: p, sticky: hold}
---
{kind: decision_policy, id: p, ranking: {by: product}}
---
{kind: cap, id: mine, scope: person, per: offer, applies_to: {offers: {groups: [own]}},
 count_on: impression, window: lifetime, limit: 5}
---
{kind: cap, id: first, scope: total, per: offer, applies_to: {offers: {groups: [all]}},
 count_on: impression, window: lifetime, limit: 12}
`

const (
	linLimit      = 5
	linTotal      = 12
	linUsers      = 4 // at a time
	linClients    = 2 // for each of them
	linRequests   = 2 // as linRun; a person remembers four, and so may have taken two in
	linStepsMax   = 9 // of a client, between two ends of the process
	linPhases     = 8
	linRunOut     = 20 * time.Minute // longer than a reservation and its grace
	linShort      = 2 * time.Millisecond
	linLong       = 5 * time.Second
	linSlowestMax = 4 * time.Millisecond
)

// lin is one seed: clients that decide and report at the same time, and an engine
// that ends in every way there is, while people are merged and split. Every call is an
// operation in the history of
// its counter.
type lin struct {
	seed  uint64
	rng   *rand.Rand
	m     *machine
	fs    *vfs.MemFS
	ring  string // "" = grants are answered after they are durable
	slow  bool
	e     *Engine
	turn  int          // how often everything has run out
	ticks atomic.Int64 // the history's clock
	cut   atomic.Int64 // answers from then on were not seen; 0 = none
	temps atomic.Int64
	lives int

	mu    sync.Mutex
	ops   map[string][]porcupine.Operation // by counter
	users [linUsers]linUser
	fault error
	n     linCounts

	couples [linUsers / 2]linCouple
	routes  [linUsers]linRoute
}

type linCounts struct {
	ops, grants, atOnce, late, repeats, kept, unknown, kills, cuts, stops int
	merges, splits, movesInDoubt                                          int
}

// linUser is what the clients of one person know.
type linUser struct {
	asked  []linRequest
	tokens []linToken
}

type linRequest struct{ id, offer string }

type linToken struct {
	offer, id string
	token     []byte
	owner     int // whose reservation it was when it was granted
	sent      int
}

func newLin(seed uint64) *lin {
	rng := rand.New(rand.NewPCG(seed, 23))
	l := &lin{
		seed: seed, rng: rng, fs: vfs.NewCrashableMem(), slow: rng.IntN(4) == 0,
		m: &machine{wall: clockStart, mono: 1}, ops: map[string][]porcupine.Operation{},
	}
	l.part()
	return l
}

func (l *lin) open() error {
	o := storage.Options{
		Groups: 2, FS: l.fs, RingDir: l.ring, FlushEvery: 20 * time.Millisecond,
		BoundedMax: 3 * time.Millisecond, JournalSlots: 32 << (l.seed % 5),
	}
	if l.slow {
		o.FS = &slowDisk{FS: l.fs, seed: l.seed}
	}
	e, err := Open("store", Options{Read: l.m.read, Storage: o})
	l.e = e
	return err
}

// slowDisk takes up to some milliseconds for a sync.
type slowDisk struct {
	vfs.FS
	seed  uint64
	syncs atomic.Uint64
}

type slowDiskFile struct {
	vfs.File
	d *slowDisk
}

func (d *slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return slowDiskFile{f, d}, nil
}

func (d *slowDisk) OpenReadWrite(
	name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption,
) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	if err != nil {
		return nil, err
	}
	return slowDiskFile{f, d}, nil
}

func (f slowDiskFile) wait() {
	if n := f.d.syncs.Add(1); n%3 == 0 {
		x := (f.d.seed + n) * 0x9E3779B97F4A7C15 >> 40
		time.Sleep(time.Duration(x) % linSlowestMax)
	}
}

func (f slowDiskFile) Sync() error     { f.wait(); return f.File.Sync() }
func (f slowDiskFile) SyncData() error { f.wait(); return f.File.SyncData() }

// user is the id of the i-th person at a time: new people after everything ran out.
func (l *lin) user(i int) string { return fmt.Sprintf("u%d-%d", l.turn, i) }

// everybodys is the offer in use whose counter is everybody's. The first one is in
// use before and after everything has run out.
func (l *lin) everybodys() string { return fmt.Sprintf("all%d", l.turn/2) }

// counter names the counter that a decision for a person and an offer looks at; that of
// a person together with the other one of the couple.
func (l *lin) counter(i int, offer string) string {
	if offer[0] == 'a' {
		return offer
	}
	return l.user(i&^1) + "+1 " + offer
}

// record enters an operation that was called at a tick.
func (l *lin) record(counter string, call int64, in linInput, out linOutput) {
	ret := l.ticks.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if cut := l.cut.Load(); cut != 0 && ret > cut {
		out = linOutput{unknown: true}
		l.n.unknown++
	}
	l.n.ops++
	l.ops[counter] = append(l.ops[counter], porcupine.Operation{
		Input: in, Output: out, Call: call, Return: ret,
	})
}

func (l *lin) fail(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault == nil {
		l.fault = fmt.Errorf(format, a...)
	}
}

// seen tells whether an answer that has just come was seen by its client.
func (l *lin) seen() bool { return l.cut.Load() == 0 }

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
			})
		}
	})
}

func (l *lin) count(f func(n *linCounts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.n)
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
	offer, id, owner := t.offer, t.id, t.owner
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
	in := linInput{kind: linConfirm, id: id, side: side(target)}
	l.record(l.counter(target, offer), call, in, linOutput{
		late: r.Flags&FlagLate != 0, twice: r.Status == LineDuplicate || r.Flags&FlagRepeat != 0,
	})
}

// phase lets all clients work; crash, when not nil, comes while they do.
func (l *lin) phase(crash func() error) error {
	var all sync.WaitGroup
	var working atomic.Int64
	for i := range linUsers {
		for range linClients {
			c := &linClient{l: l, user: i, rng: rand.New(rand.NewPCG(l.rng.Uint64(), 5))}
			steps := 1 + l.rng.IntN(linStepsMax)
			working.Add(1)
			all.Go(func() { defer working.Add(-1); c.run(steps) })
		}
	}
	var err error
	if crash != nil {
		before := l.ticks.Load()
		for more := 2 * l.rng.Int64N(60); l.ticks.Load() < before+more && working.Load() > 0; {
			time.Sleep(20 * time.Microsecond)
		}
		l.cut.Store(l.ticks.Add(1))
		err = crash()
	}
	all.Wait()
	l.cut.Store(0)
	return err
}

// every enters an operation that all counters in use see, also those that nobody
// has asked for yet: a person's stand-in counts for them.
func (l *lin) every(kind linKind) {
	in := linInput{kind: kind}
	l.record(l.everybodys(), l.ticks.Add(1), in, linOutput{})
	for i := 0; i < linUsers; i += 2 {
		l.record(l.counter(i, "p0"), l.ticks.Add(1), in, linOutput{})
		l.record(l.counter(i, "p1"), l.ticks.Add(1), in, linOutput{})
		l.record(l.counter(i, "s0"), l.ticks.Add(1), in, linOutput{})
	}
}

// live plays one life of the process, and its end.
func (l *lin) live() error {
	kind := []linKind{linStop, linKill, linKill, linCut, linCut}[l.rng.IntN(5)]
	if kind == linStop {
		l.n.stops++
		if err := l.phase(nil); err != nil {
			return err
		}
		if err := l.e.Close(); err != nil {
			return err
		}
		l.every(kind)
		return l.again()
	}
	var left *vfs.MemFS
	old := l.e
	err := l.phase(func() (err error) { left, err = l.snapshot(kind); return err })
	if err != nil {
		return err
	}
	if err := old.Close(); err != nil {
		return err
	}
	l.fs = left
	l.every(kind)
	return l.again()
}

// again opens what is left, and looks whether all of it agrees.
func (l *lin) again() error {
	if err := l.open(); err != nil {
		return err
	}
	if err := l.e.CheckStore(); err != nil {
		return err
	}
	return l.settle()
}

// snapshot is what the end of the process leaves of the disk and of the ring.
func (l *lin) snapshot(kind linKind) (*vfs.MemFS, error) {
	percent := 100
	if kind == linCut {
		percent = []int{0, 10, 50, 90}[l.rng.IntN(4)]
		l.n.cuts++
	} else {
		l.n.kills++
	}
	if l.ring != "" {
		l.lives++
		next := filepath.Join(filepath.Dir(l.ring), strconv.Itoa(l.lives))
		if err := copyRing(l.ring, next, kind == linKill); err != nil {
			return nil, err
		}
		l.ring = next
	}
	return l.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(l.seed, l.rng.Uint64())),
	}), nil
}

// copyRing makes the folder that the next life finds.
func copyRing(from, to string, keep bool) error {
	if err := os.MkdirAll(to, 0o700); err != nil || !keep {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// runOut lets every reservation run out, and takes new people. What everybody's
// counter got back is durable then: otherwise it is held again after a loss, and as
// long again, since downtime does not eat the time of a confirm.
func (l *lin) runOut() error {
	l.m.pass(linRunOut)
	l.e.tick()
	for i := range l.e.store.Groups() {
		g := l.e.store.Group(storage.GroupID(i))
		g.Lock()
		frame := g.LastFrame()
		g.Unlock()
		if err := l.e.store.Wait(g.GroupID(), frame, linLong); err != nil {
			return err
		}
	}
	l.every(linTime)
	l.turn++
	l.users = [linUsers]linUser{}
	l.part()
	return nil
}

func (l *lin) run() error {
	if err := l.open(); err != nil {
		return err
	}
	_, faults, _, err := l.e.Publish(testFiles(linWorld), "test", "", 0)
	if err != nil || len(faults) > 0 {
		return fmt.Errorf("publish: %v, %w", faults, err)
	}
	for phase := range linPhases {
		if phase%3 == 2 {
			err = l.runOut()
		}
		if err = errors.Join(err, l.live(), l.fault); err != nil {
			return fmt.Errorf("life %d: %w", phase, err)
		}
	}
	if err := l.e.Close(); err != nil {
		return err
	}
	return l.check()
}

// check asks the checker about the history of every counter.
func (l *lin) check() error {
	for counter, history := range l.ops {
		model := linPairModel(linLimit)
		if counter[0] == 'a' {
			model = linModel(linTotal)
		}
		switch porcupine.CheckOperationsTimeout(model, history, time.Minute) {
		case porcupine.Ok:
		case porcupine.Unknown:
			return fmt.Errorf("counter %s: not decided within a minute", counter)
		default:
			return fmt.Errorf("counter %s: no order of its operations explains the answers:\n%s",
				counter, linText(history))
		}
	}
	return nil
}

func linText(history []porcupine.Operation) string {
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var s strings.Builder
	for _, op := range history {
		fmt.Fprintf(&s, "%d–%d %v\n", op.Call, op.Return, linCall(op))
	}
	return s.String()
}

// play runs the seed; every other one has a ring, where there is shared memory.
func (l *lin) play(t *testing.T) error {
	t.Helper()
	if l.seed%2 == 1 {
		return l.run()
	}
	dir, err := os.MkdirTemp("/dev/shm", "tact-lin-")
	if err != nil {
		return l.run()
	}
	defer func() { _ = os.RemoveAll(dir) }() // of a test
	l.ring = filepath.Join(dir, "0")
	if err := os.Mkdir(l.ring, 0o700); err != nil {
		return err
	}
	return l.run()
}

// TestLinearizable plays histories until 10,000 operations are in them, with and
// without a ring, and lets Porcupine look for an order that explains every answer.
// TACT_EFFORT=1 asks for 1,000,000 operations; TACT_SEED=n plays one seed.
func TestLinearizable(t *testing.T) {
	var n linCounts
	run := seeds.Run{
		Name: "linearizable", Unit: "operations", Full: 1_000_000, Few: 10_000,
		Counts: func() string { return fmt.Sprintf("%+v", n) },
	}
	got := run.Play(t, func(seed uint64) (uint64, error) {
		l := newLin(seed)
		err := l.play(t)
		n.add(&l.n)
		return uint64(l.n.ops), err
	})
	if got.Whole && got.Units >= 10_000 &&
		(n.grants == 0 || n.repeats == 0 || n.kept == 0 || n.unknown == 0 || n.late == 0 ||
			n.merges == 0 || n.splits == 0 || n.movesInDoubt == 0) {
		t.Errorf("too little happened to show anything: %+v", n)
	}
}

func (n *linCounts) add(o *linCounts) {
	n.ops, n.grants, n.atOnce = n.ops+o.ops, n.grants+o.grants, n.atOnce+o.atOnce
	n.late, n.repeats, n.unknown = n.late+o.late, n.repeats+o.repeats, n.unknown+o.unknown
	n.kept, n.merges, n.splits = n.kept+o.kept, n.merges+o.merges, n.splits+o.splits
	n.movesInDoubt += o.movesInDoubt
	n.kills, n.cuts, n.stops = n.kills+o.kills, n.cuts+o.cuts, n.stops+o.stops
}

// linCall writes an operation as a person would read it.
func linCall(op porcupine.Operation) string {
	in, out := op.Input.(linInput), op.Output.(linOutput)
	name := []string{
		"decide", "confirm", "held for a moment", "given back", "all runs out", "stop", "kill", "cut",
		"merge", "split", "forget",
	}[in.kind]
	s := strings.TrimSpace(name + " " + in.request + in.id)
	if in.side != 0 {
		s += " of the second"
	}
	if in.sticky {
		s += " sticky"
	}
	mark := func(set bool, what string) {
		if set {
			s += " " + what
		}
	}
	switch {
	case in.kind > linConfirm && !out.unknown:
		return s
	case out.unknown:
		return s + ": nobody saw the answer"
	}
	s += ":"
	mark(in.kind == linDecide && out.id == "", "nothing")
	mark(out.id != "", out.id)
	mark(out.replayed, "again")
	mark(out.strict, "strict")
	mark(out.late, "late")
	mark(out.twice, "twice")
	return s
}
