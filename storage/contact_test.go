package storage

import "testing"

// A capScript plays uses and reservations of one counter with a limit.
type capScript struct {
	t     *testing.T
	s     *state
	limit uint8
	floor UnixSec
}

const scriptStart UnixSec = 1_000_000

func newCapScript(t *testing.T, limit uint8) *capScript {
	return &capScript{t: t, s: onePerson(t), limit: limit}
}

func (c *capScript) apply(minute int, e *Effect) {
	c.t.Helper()
	e.Time = UnixMsec(c.at(minute)) * 1000
	if err := c.s.apply(2, e); err != nil {
		c.t.Fatal(err)
	}
}

func (c *capScript) at(minute int) UnixSec { return scriptStart + UnixSec(minute*60) }

func (c *capScript) keys() []HeldKey {
	return []HeldKey{{Key: CounterKey{1, 0}, CountOn: 1, Limit: c.limit}}
}

func (c *capScript) use(minute int) {
	c.t.Helper()
	c.apply(minute, &Effect{Kind: EffectUse, Use: UseEffect{At: c.at(minute), Keys: c.keys()}})
}

func (c *capScript) reserve(minute int, id uint64, life, grace int) {
	c.t.Helper()
	c.apply(minute, &Effect{Kind: EffectReserve, Reserve: ReserveEffect{
		ID: ReservationID{1, id}, Granted: c.at(minute), Expires: c.at(minute + life),
		Grace: uint32(grace * 60), Keys: c.keys(),
	}})
}

func (c *capScript) confirm(minute int, id uint64, used int) {
	c.t.Helper()
	c.apply(minute, &Effect{Kind: EffectConfirm, Resolve: ResolveEffect{
		ID: ReservationID{1, id}, CountOn: 1, At: c.at(used),
	}})
}

func (c *capScript) release(minute int, id uint64) {
	c.t.Helper()
	c.apply(minute, &Effect{Kind: EffectRelease, Resolve: ResolveEffect{ID: ReservationID{1, id}}})
}

func (c *capScript) boot(minute int) {
	c.t.Helper()
	c.floor = c.at(minute)
	c.apply(minute, &Effect{Kind: EffectTime, Ord: NoOrd, Floor: c.floor})
}

// want checks the uses in (minute-window, minute].
func (c *capScript) want(minute, window, n, pending int) {
	c.t.Helper()
	now := c.at(minute)
	u := c.s.contact(0).Count(CounterKey{1, 0}, now-UnixSec(window*60), Instant{Now: now, Floor: c.floor})
	if u.N != n || u.Pending != pending || u.Unknown {
		c.t.Fatalf("minute %d: %+v, want %d with %d pending", minute, u, n, pending)
	}
}

func (c *capScript) wantState(id uint64, want ReservationState) {
	c.t.Helper()
	if _, got := c.s.contact(0).Reservation(ReservationID{1, id}); got != want {
		c.t.Fatalf("reservation %d is %d, want %d", id, got, want)
	}
}

// Limit 2 in an hour: used at 0:00, held at 0:10, a fact at 0:20 (a late confirm
// of something unknown), the hold given back. The use of 0:00 must still be
// known at 0:30, whatever was held meanwhile.
func TestHeldUsePushesNothingOut(t *testing.T) {
	for limit := 2; limit <= RingMax; limit++ {
		c := newCapScript(t, uint8(limit))
		for range limit - 1 {
			c.use(0)
		}
		c.reserve(10, 1, 60, 0)
		c.want(10, 60, limit, 1)
		c.use(20)
		c.want(20, 60, limit+1, 1)
		c.release(25, 1)
		c.want(30, 60, limit, 0) // nothing may be granted
		c.want(59, 60, limit, 0)
		c.want(60, 60, 1, 0) // the hour is (0:00, 1:00]
	}
}

// A window is (now-W, now]: a use leaves it exactly W seconds later.
func TestWindowIsHalfOpen(t *testing.T) {
	c := newCapScript(t, 2)
	c.use(5)
	c.want(5, 60, 1, 0)
	c.want(64, 60, 1, 0)
	c.want(65, 60, 0, 0)
}

// A pending use is dated at its expiry: it stays in a window that the grant has
// left, and the confirm brings it to where it happened.
func TestPendingUseIsDatedAtExpiry(t *testing.T) {
	c := newCapScript(t, 2)
	c.reserve(0, 1, 30, 5)
	c.want(25, 10, 1, 1) // granted 25 minutes ago, may happen any moment
	c.want(34, 5, 1, 1)  // in grace: it may have happened at minute 30
	c.want(34, 4, 0, 0)  // but not after minute 30
	c.want(35, 60, 0, 0) // released
	c.confirm(36, 1, 20) // nobody has swept it: still a confirm
	c.want(36, 60, 1, 0)
	c.want(36, 10, 0, 0)
	c.wantState(1, ReservationConfirmed)
	u := c.s.contact(0).Count(CounterKey{1, 0}, 0, Instant{Now: c.at(36)})
	if u.Latest != c.at(20) || u.Oldest != c.at(20) {
		t.Fatalf("%+v", u)
	}
}

// The time of a confirm lies between grant and expiry.
func TestConfirmIsClamped(t *testing.T) {
	f := func(used, want int) {
		t.Helper()
		c := newCapScript(t, 2)
		c.reserve(10, 1, 10, 5)
		c.confirm(12, 1, used)
		if at := c.s.contact(0).KthLatest(CounterKey{1, 0}, 1, Instant{}); at != c.at(want) {
			t.Fatalf("used at %d: %d, want %d", used, at, c.at(want))
		}
	}
	f(5, 10)
	f(15, 15)
	f(25, 20)
}

// After a boot a reservation has its whole life and grace again.
func TestFloorGivesTheLifeAgain(t *testing.T) {
	c := newCapScript(t, 1)
	c.reserve(0, 1, 10, 5)
	c.boot(100)
	c.want(100, 120, 1, 1)
	c.use(114) // sweeps nothing
	c.wantState(1, ReservationOpen)
	c.want(114, 120, 2, 1)
	c.want(115, 120, 1, 0)
	c.use(115)
	c.wantState(1, ReservationReleased)
	c.reserve(116, 2, 10, 5) // granted after the boot: no longer than its life
	c.want(130, 20, 3, 1)
	c.want(131, 10, 0, 0)
}

// Repeats and unknown ids change nothing.
func TestResolveIsIdempotent(t *testing.T) {
	c := newCapScript(t, 3)
	c.reserve(0, 1, 10, 5)
	c.reserve(0, 1, 10, 5)
	c.want(0, 60, 1, 1)
	c.confirm(1, 1, 1)
	c.confirm(2, 1, 2)
	c.release(3, 1)
	c.reserve(3, 1, 10, 5)
	c.confirm(3, 99, 3)
	c.release(3, 98)
	c.want(4, 60, 1, 0)
	c.wantState(1, ReservationConfirmed)
	c.wantState(99, ReservationUnknown)
	c.reserve(5, 2, 10, 5)
	c.release(6, 2)
	c.confirm(7, 2, 7)
	c.wantState(2, ReservationReleased)
	c.want(7, 60, 1, 0)
}

// A confirm takes the keys it counts on; the rest stays held.
func TestConfirmByContact(t *testing.T) {
	c := newCapScript(t, 2)
	keys := []HeldKey{
		{Key: CounterKey{1, 0}, CountOn: 1, Limit: 2},
		{Key: CounterKey{2, 0}, CountOn: 2, Limit: 2},
		{Key: CounterKey{2, 0}, CountOn: 3, Limit: 2},
	}
	c.apply(0, &Effect{Kind: EffectReserve, Reserve: ReserveEffect{
		ID: ReservationID{1, 1}, Granted: c.at(0), Expires: c.at(10), Keys: keys,
	}})
	usage := func(cap Name, n, pending int) {
		t.Helper()
		u := c.s.contact(0).Count(CounterKey{cap, 0}, 0, Instant{Now: c.at(5)})
		if u.N != n || u.Pending != pending {
			t.Fatalf("cap %d: %+v, want %d with %d pending", cap, u, n, pending)
		}
	}
	usage(1, 1, 1)
	usage(2, 2, 2)
	c.confirm(1, 1, 1) // CountOn 1
	usage(1, 1, 0)
	usage(2, 2, 1)
	c.wantState(1, ReservationOpen)
	c.release(2, 1)
	usage(1, 1, 0)
	usage(2, 1, 0)
	c.wantState(1, ReservationPartly)
}

// When a limit grows, a use that left the smaller ring makes the answer unknown
// until the window has passed it.
func TestGrownLimitIsUnknown(t *testing.T) {
	c := newCapScript(t, 2) // a ring of four
	for minute := range 6 {
		c.use(minute)
	}
	c.limit = 10
	c.use(6)
	f := func(window int, n int, unknown bool) {
		t.Helper()
		now := c.at(6)
		u := c.s.contact(0).Count(CounterKey{1, 0}, now-UnixSec(window*60), Instant{Now: now})
		if u.N != n || u.Unknown != unknown {
			t.Fatalf("window %d: %+v, want %d, %t", window, u, n, unknown)
		}
	}
	f(60, 5, true) // really 7
	f(6, 5, true)  // (0:00, 0:06]: really 6
	f(5, 5, false) // the use of 0:01 is outside
	f(4, 4, false)
	// A use older than a full ring leaves at once and is known to be missing.
	c = newCapScript(t, 2)
	for range 4 {
		c.use(10)
	}
	c.use(3)
	if u := c.s.contact(0).Count(CounterKey{1, 0}, c.at(2), Instant{}); u.N != 4 || !u.Unknown {
		t.Fatalf("%+v", u)
	}
}

// Four request ids are known, the oldest leaves first, and each at its end.
func TestRequestsOfAPerson(t *testing.T) {
	c := newCapScript(t, 2)
	decide := func(minute int, request uint64, life int) {
		t.Helper()
		c.apply(minute, &Effect{Kind: EffectDecision, Decision: DecisionEffect{
			ID: DecisionID{byte(request)}, Request: request, Body: uint32(request) + 7,
			Until: c.at(minute + life),
		}})
	}
	f := func(minute int, request uint64, want bool) {
		t.Helper()
		id, body, ok := c.s.contact(0).Request(request, c.at(minute))
		if ok != want || ok && (id != DecisionID{byte(request)} || body != uint32(request)+7) {
			t.Fatalf("request %d: %t, want %t", request, ok, want)
		}
	}
	for r := range uint64(5) {
		decide(0, r+1, 2+int(r))
	}
	f(0, 1, false)
	f(0, 2, true)
	f(2, 2, true)
	f(3, 2, false)
	decide(3, 6, 9)
	if n := c.s.contact(0).requests(); n != 4 { // 3, 4, 5, 6
		t.Fatalf("%d requests", n)
	}
	f(3, 5, true)
	f(12, 6, false)
}

func TestTooManyReservations(t *testing.T) {
	c := newCapScript(t, 2)
	for i := range MaxOpenReservations {
		c.reserve(0, uint64(i+1), 10, 0)
	}
	e := Effect{Kind: EffectReserve, Time: UnixMsec(c.at(0)) * 1000, Reserve: ReserveEffect{
		ID: ReservationID{1, 999}, Granted: c.at(0), Expires: c.at(10),
	}}
	if err := c.s.apply(2, &e); err == nil {
		t.Fatal("was taken")
	}
	c.reserve(20, 1000, 10, 0) // the others have gone
	c.want(20, 60, 1, 1)
}

// Units of a total held by people who never come back are named once due.
func TestExpiredHolds(t *testing.T) {
	c := newCapScript(t, 2)
	ledger := NewTotals()
	c.s.attachTotals(ledger)
	total := HeldKey{Key: CounterKey{8, 0}, CountOn: 1, Total: true}
	for id := range uint64(3) {
		ledger.Take(&total, 0, 5)
		c.apply(0, &Effect{Kind: EffectReserve, Reserve: ReserveEffect{
			ID: ReservationID{1, id + 1}, Granted: c.at(0), Expires: c.at(10 * (int(id) + 1)),
			Keys: []HeldKey{total},
		}})
	}
	var due []uint64
	at := func(minute int) []uint64 {
		due = due[:0]
		for _, h := range c.s.expiredHolds(nil, c.at(minute), 10) {
			due = append(due, h.id.Number)
		}
		return due
	}
	if len(at(9)) != 0 {
		t.Fatalf("due at 9: %v", due)
	}
	if at(10); len(due) != 1 || due[0] != 1 {
		t.Fatalf("due at 10: %v", due)
	}
	c.release(10, 1)
	if n := ledger.Used(total.Key, 0); n != 2 {
		t.Fatalf("%d used", n)
	}
	c.confirm(15, 2, 15)
	if n := ledger.Used(total.Key, 0); n != 2 {
		t.Fatalf("%d used", n)
	}
	if at(25); len(due) != 0 {
		t.Fatalf("due at 25: %v", due)
	}
	c.boot(26)
	if at(40); len(due) != 0 {
		t.Fatalf("due at 40: %v", due)
	}
	if at(57); len(due) != 1 || due[0] != 3 {
		t.Fatalf("due at 57: %v", due)
	}
	c.use(58) // sweeps it
	if n := ledger.Used(total.Key, 0); n != 1 {
		t.Fatalf("%d used", n)
	}
}
