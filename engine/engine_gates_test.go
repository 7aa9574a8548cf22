package engine

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// A grant that is not durable within the request's time is not given: the
// decision is made again without caps, and what was held is released.
func TestLateDiskGivesNoCappedOffer(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.user(UserDoc{UserID: []byte("u1")})
	req := b.decideReq("u1", "hero")
	req.Timeout = time.Nanosecond
	b.lateDisk(func() { b.want(req, "fallback: story") })
	if !slices.Contains(b.out.Degraded, "deadline") {
		t.Fatalf("degraded %v", b.out.Degraded)
	}
	req.Timeout = time.Second
	b.want(req, "coupon")
	for _, r := range b.e.Stats() {
		if r.OfferID == "coupon" && r.Variant == "" {
			if want := map[string]uint64{"decision": 2, "deadline": 1}[r.What]; r.N != want {
				t.Fatalf("%s = %d, want %d", r.What, r.N, want)
			}
		}
	}
}

// lateDisk runs f while nothing becomes durable: the committer takes no frames,
// the journal's file no records
// beside a Together.
func (b *bed) lateDisk(f func()) {
	b.late.Lock()
	defer b.late.Unlock()
	b.e.store.Together(f)
}

// heldFS holds up writes into files that exist, such as the journal's, while late
// is held.
type heldFS struct {
	vfs.FS
	late *sync.RWMutex
}

func (s heldFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return heldFile{f, s.late}, err
}

func (s heldFS) OpenReadWrite(
	name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	f, err := s.FS.OpenReadWrite(name, c, opts...)
	return heldFile{f, s.late}, err
}

type heldFile struct {
	vfs.File
	late *sync.RWMutex
}

func (f heldFile) WriteAt(p []byte, off int64) (int, error) {
	f.late.RLock()
	defer f.late.RUnlock()
	return f.File.WriteAt(p, off)
}

// A message that does not render gives way to the next candidate, and its use
// is given back.
func TestRenderErrorFallsToTheNext(t *testing.T) {
	yaml := strings.Replace(testDefinitions, "新客立减\"}}}", "{{ 1 | divided_by: user.age }}\"}}}", 1)
	yaml = yaml[:strings.Index(yaml, "---\nkind: test")]
	b := newBed(t, yaml)
	age := func(n string) {
		b.user(UserDoc{UserID: []byte("u1"), Attributes: []NamedValue{
			{[]byte("age"), RawValue{Kind: RawNumber, Text: []byte(n)}},
		}})
	}
	age("0")
	b.want(b.decideReq("u1", "hero"), "fallback: story")
	age("1")
	b.want(b.decideReq("u1", "hero"), "coupon")
	rows := map[string]uint64{}
	for _, r := range b.e.Stats() {
		if r.OfferID == "coupon" {
			rows[r.What] = r.N
		}
	}
	if rows["decision"] != 2 || rows["render_error"] != 1 {
		t.Fatalf("%v", rows)
	}
}

// Many callers of one person never get more than the cap, and no person more
// than once an hour, whatever the interleaving.
func TestConcurrentCallersNeverExceedACap(t *testing.T) {
	b := newBed(t, testDefinitions)
	const users, callers, rounds = 8, 8, 6
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			var out Decision
			for r := range rounds {
				for u := range users {
					req := b.decideReq(fmt.Sprintf("u%d", (u+c+r)%users), "hero")
					req.Timeout = 5 * time.Second
					if err := b.e.Decide(req, &out); err != nil {
						t.Error(err)
						return
					}
					if s := out.Slots[0]; s.Count == 1 && !s.Fallback {
						mu.Lock()
						got[string(out.UserID)+" "+out.Items[0].OfferID]++
						mu.Unlock()
					}
				}
			}
		})
	}
	wg.Wait()
	if len(got) != users {
		t.Fatalf("%v", got)
	}
	for k, n := range got {
		if n != 1 {
			t.Errorf("%s was granted %d times in an hour", k, n)
		}
	}
}

// Placements of one request see each other's picks, and the reply keeps the
// caller's keys in order.
func TestPlacementsOfOneRequestShareTheirUses(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.user(UserDoc{UserID: []byte("u1"), Attributes: []NamedValue{
		{[]byte("age"), RawValue{Kind: RawNumber, Text: []byte("20")}},
	}})
	req := b.decideReq("u1", "hero")
	req.Placements = append(req.Placements,
		PlacementAsk{Key: []byte("second"), PlacementID: []byte("hero")},
		PlacementAsk{Key: []byte("third"), PlacementID: []byte("text")})
	req.Explain = ExplainAll
	b.want(req, "coupon, points, none: consent_missing")
	if string(b.out.Slots[2].Key) != "third" {
		t.Fatalf("%+v", b.out.Slots)
	}
	reasons := map[string]string{}
	for _, line := range b.out.Trace {
		reasons[string(line.Key)+"/"+line.OfferID] = line.Reason
	}
	if reasons["k/coupon"] != "" || reasons["k/points"] != "lost_arbitration" ||
		reasons["second/coupon"] == "" {
		t.Fatalf("%v", reasons)
	}
}

// A dry run changes nothing: the next live decision gives the same.
func TestDryRunChangesNothing(t *testing.T) {
	b := newBed(t, testDefinitions)
	before := len(b.e.Stats())
	req := b.decideReq("nobody", "hero")
	req.Mode = ModeDryRun
	for range 3 {
		b.want(req, "coupon")
		if b.out.HasID || len(b.out.Items[0].Token) > 0 || b.out.Items[0].Reserved {
			t.Fatalf("%+v", b.out.Items[0])
		}
	}
	if _, err := b.e.User([]byte("nobody")); err == nil || len(b.e.Stats()) != before {
		t.Fatal("a dry run left something behind")
	}
}

// Consent, addresses and tags are seen by the very next decision.
func TestReadYourWrites(t *testing.T) {
	b := newBed(t, testDefinitions)
	sms := b.decideReq("u1", "text")
	b.want(sms, "none: consent_missing")
	b.user(UserDoc{UserID: []byte("u1"), Addresses: []AddressDoc{
		{[]byte("sms"), [][]byte{[]byte("+8613800000000")}},
	}})
	b.want(sms, "none: consent_missing")
	consent := func(granted bool, at int64) {
		b.user(UserDoc{UserID: []byte("u1"), Consents: []ConsentDoc{{
			Purpose: []byte("marketing"), Channel: []byte("sms"), Granted: granted,
			At: b.e.Now() - 10_000 + storage.UnixMsec(1000*at),
		}}})
	}
	consent(true, 1)
	b.want(sms, "nudge")
	consent(false, 2)
	b.want(sms, "none: consent_missing")
	consent(true, 1) // older than the withdrawal: does not count
	b.want(sms, "none: consent_missing")
	b.user(UserDoc{UserID: []byte("u1"), Tags: []TagDoc{{Name: []byte("complaint_open")}}})
	b.want(b.decideReq("u1", "hero"), "fallback: story")
	b.user(UserDoc{UserID: []byte("u1"), TagsRemove: [][]byte{[]byte("complaint_open")}})
	b.want(b.decideReq("u1", "hero"), "coupon")
	r := b.apply(func(x *Batch) LineResult {
		return x.SegmentMembers([]byte("vip"), [][]byte{[]byte("u1")}, nil)
	})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	b.want(b.decideReq("u1", "hero"), "points")
	r = b.apply(func(x *Batch) LineResult {
		return x.SegmentMembers([]byte("vip"), [][]byte{[]byte("u1"), []byte("ghost")}, nil)
	})
	if r.Status != LineRejected {
		t.Fatalf("%+v", r)
	}
}

// Outcomes by decision id: the item is found by the caller's key and offer; a
// decision without an item takes outcomes too.
func TestOutcomeByDecisionID(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.want(b.decideReq("u1", "hero"), "coupon")
	post := func(id, offer, name, event string) LineResult {
		doc := OutcomeDoc{
			DecisionID: []byte(id), OfferID: []byte(offer), Outcome: []byte(name),
			EventID: []byte(event), BodyHash: 5,
		}
		return b.apply(func(x *Batch) LineResult { return x.Outcome(&doc) })
	}
	id := fmt.Sprintf("%x", b.out.ID)
	if r := post(id, "", "impression", "a"); r.Err != nil || r.Flags != 0 {
		t.Fatalf("%+v", r)
	}
	if r := post(id, "", "impression", "b"); r.Flags&FlagRepeat == 0 {
		t.Fatalf("%+v", r)
	}
	if r := post(id, "points", "click", "c"); r.Status != LineRejected {
		t.Fatalf("%+v", r)
	}
	b.want(b.decideReq("u1", "text"), "none: consent_missing")
	if r := post(fmt.Sprintf("%x", b.out.ID), "", "click", "d"); r.Err != nil {
		t.Fatalf("%+v", r)
	}
	if r := post(strings.Repeat("0", 32), "", "click", "e"); r.Status != LineRejected {
		t.Fatalf("%+v", r)
	}
	b.reopen()
	if r := post(id, "", "impression", "f"); r.Flags&FlagRepeat == 0 {
		t.Fatalf("after a restart: %+v", r)
	}
}

// The stock that a decision holds comes back when nobody accepts, also when
// the person never returns.
func TestHeldStockComesBack(t *testing.T) {
	yaml := strings.Replace(testDefinitions, "window: lifetime\nlimit: 2", "window: lifetime\nlimit: 1\nhold: 15m", 1)
	b := newBed(t, yaml)
	b.want(b.decideReq("a", "hero"), "coupon")
	b.want(b.decideReq("b", "hero"), "fallback: story")
	b.m.pass(21 * time.Minute)
	b.e.tick()
	b.want(b.decideReq("b", "hero"), "coupon")
	token := slices.Clone(b.out.Items[0].Token)
	if r := b.outcome(token, "accept", "x"); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.m.pass(21 * time.Minute)
	b.e.tick()
	b.want(b.decideReq("c", "hero"), "fallback: story")
	b.reopen()
	b.want(b.decideReq("d", "hero"), "fallback: story")
}

// A retry inside one request does not replay its own failed try.
func TestLateDiskWithRequestID(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.user(UserDoc{UserID: []byte("u1")})
	req := b.decideReq("u1", "hero")
	req.Timeout, req.RequestID, req.BodyHash = time.Nanosecond, []byte("r"), 9
	b.lateDisk(func() { b.want(req, "fallback: story") })
	if b.out.Replayed {
		t.Fatal("the failed try was replayed")
	}
	id := b.out.ID
	req.Timeout = time.Second
	b.want(req, "fallback: story") // the request was answered: the answer stays
	if !b.out.Replayed || b.out.ID != id {
		t.Fatalf("replayed %v", b.out.Replayed)
	}
	req.RequestID = nil
	b.want(req, "coupon") // nothing was left held
}

// Stock is gated for people without an id and for visitors who were forgotten.
func TestStockIsGatedForStrangers(t *testing.T) {
	yaml := strings.Replace(testDefinitions, "applies_to: {offers: {groups: [growth]}}", "applies_to: {offers: {ids: [points]}}", 1)
	b := newBed(t, yaml)
	accept := func(want string) {
		t.Helper()
		req := b.decideReq("", "hero")
		req.UserID = nil
		b.want(req, "coupon")
		r := b.outcome(b.out.Items[0].Token, "accept", "")
		if got := fmt.Sprint(r.Err); !strings.HasPrefix(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	accept("<nil>")
	b.want(b.decideReq("stranger", "hero"), "coupon")
	token := slices.Clone(b.out.Items[0].Token)
	b.want(b.decideReq("other", "hero"), "coupon")
	other := slices.Clone(b.out.Items[0].Token)
	b.m.pass(25 * time.Hour)
	b.e.tick()
	b.e.tick()
	if r := b.outcome(token, "accept", ""); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := b.outcome(other, "accept", ""); r.Status != LineRejected {
		t.Fatalf("a third unit of two: %+v", r)
	}
	b.reopen()
	if r := b.outcome(other, "accept", ""); r.Status != LineRejected {
		t.Fatalf("a third unit after a restart: %+v", r)
	}
}

// A line that is refused half-way leaves nobody behind.
func TestRefusedLineMakesNobody(t *testing.T) {
	b := newBed(t, testDefinitions)
	doc := UserDoc{UserID: []byte("big"), Identities: []IdentityRef{{[]byte("device"), []byte("d")}}}
	for i := range 300 {
		doc.Attributes = append(doc.Attributes, NamedValue{
			fmt.Appendf(nil, "undeclared_%d", i), text(strings.Repeat("x", 1000)),
		})
	}
	r := b.apply(func(x *Batch) LineResult { return x.User(&doc) })
	if p, ok := r.Err.(*Problem); !ok || p.Code != "limit" {
		t.Fatalf("%+v", r)
	}
	if _, err := b.e.User([]byte("big")); err == nil {
		t.Fatal("a refused line made a person")
	}
	doc.Attributes = nil
	doc.UserID = []byte("small") // the identity is free
	b.user(doc)
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
}

// A contact whose reservation has gone counts once, whatever ids report it.
func TestLateContactCountsOnce(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.user(UserDoc{UserID: []byte("u1")})
	b.want(b.decideReq("u1", "hero"), "coupon")
	token := slices.Clone(b.out.Items[0].Token)
	b.m.pass(30 * time.Minute)
	b.want(b.decideReq("u1", "hero"), "coupon") // sweeps the first reservation
	if r := b.outcome(token, "impression", "a"); r.Flags&FlagLate == 0 {
		t.Fatalf("%+v", r)
	}
	if r := b.outcome(token, "impression", "b"); r.Flags&FlagRepeat == 0 || r.Flags&FlagLate != 0 {
		t.Fatalf("%+v", r)
	}
}

// With no room for visitors only offers with caps of the person are refused:
// experiments and holdouts go on.
func TestFullOfVisitors(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.e.opts.MaxVisitors = 1
	b.want(b.decideReq("v1", "hero"), "coupon")
	b.want(b.decideReq("v2", "hero"), "fallback: story")
	if string(b.out.UserID) != "v2" {
		t.Fatalf("user %s", b.out.UserID)
	}
	b.user(UserDoc{UserID: []byte("v1")})
	b.want(b.decideReq("v2", "hero"), "coupon")
}

// A duplicate is answered when what it repeats is durable, not before.
func TestDuplicateWaitsForWhatItRepeats(t *testing.T) {
	b := newBed(t, testDefinitions)
	ev := EventDoc{
		EventID: []byte("e"), UserID: []byte("u"), Event: []byte("order_completed"), BodyHash: 1,
	}
	b.lateDisk(func() {
		if r := b.e.Begin().Event(&ev); r.Status != LineApplied {
			t.Fatalf("%+v", r)
		}
		again := b.e.Begin()
		if r := again.Event(&ev); r.Status != LineDuplicate {
			t.Fatalf("%+v", r)
		}
		if err := again.Commit(time.Millisecond); err == nil {
			t.Fatal("a duplicate of what is not durable was acknowledged")
		}
	})
	again := b.e.Begin()
	if r := again.Event(&ev); r.Status != LineDuplicate {
		t.Fatalf("%+v", r)
	}
	if err := again.Commit(5 * time.Second); err != nil {
		t.Fatal(err)
	}
}
