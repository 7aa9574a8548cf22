package engine

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"

	"tact/storage"
)

// couple is two people of different groups whom a test unites and splits, as whatever
// sends what comes for one of them to the other does.
type couple struct {
	*bed
	ids  [2]string
	refs [2]storage.PersonRef
}

func newCouple(t *testing.T, yaml string) *couple {
	t.Helper()
	c := &couple{bed: newBed(t, yaml), ids: [2]string{"ann"}}
	for i := 0; c.refs[1].Group == c.refs[0].Group; i++ {
		c.ids[1] = fmt.Sprint("bob", i)
		for k, id := range c.ids {
			c.user(UserDoc{UserID: []byte(id)})
			c.refs[k], _ = c.e.find([]byte(id))
		}
	}
	return c
}

func (c *couple) merge(survivor int) {
	c.t.Helper()
	err := c.e.store.MergeContacts(c.refs[survivor], c.refs[1-survivor], math.MaxUint32, c.e.Now())
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *couple) split(survivor int) {
	c.t.Helper()
	err := c.e.store.SplitContacts(c.refs[survivor], c.refs[1-survivor], nil, c.e.Now())
	if err != nil {
		c.t.Fatal(err)
	}
}

// to returns a token as it names one of the two.
func (c *couple) to(who int, text []byte) []byte {
	c.t.Helper()
	var t token
	var scratch tokenScratch
	if err := c.e.sealer.Open(text, &t, &scratch); err != nil {
		c.t.Fatal(err)
	}
	t.Person = c.refs[who]
	return c.e.sealer.Append(nil, &t, &scratch)
}

// What happened to an item is known to whoever has its person then, in whichever group
// it was counted, under its event_id and under another one: it counts once, merged,
// split, merged the other way round, and over starts.
func TestOutcomeIsKnownAfterMerges(t *testing.T) {
	const head = capWorld + "scope: person\nper: offer\ncount_on: impression\nwindow: {rolling: 30d}\n" +
		"limit: 9\n---\nkind: cap\nid: t\nscope: total\nper: offer\ncount_on: %s\nwindow: lifetime\n" +
		"limit: 9\n"
	f := func(what, on string, first func(c *couple) []byte, mine, total int64) {
		t.Helper()
		of := "accept"
		if on == "impression" {
			of = "[impression, send]"
		}
		c := newCouple(t, fmt.Sprintf(head, of))
		token := first(c)
		at := 1
		again := func(step string) {
			t.Helper()
			same := c.outcome(c.to(at, token), on, "first")
			if same.Err != nil || same.Status != LineDuplicate {
				t.Fatalf("%s: %s: the same event_id: %+v", what, step, same)
			}
			r := c.outcome(c.to(at, token), on, step)
			if r.Err != nil || r.Flags != FlagRepeat {
				t.Fatalf("%s: %s: %+v, want a repeat", what, step, r)
			}
			used := c.used(c.ids[0], "a", "c") + c.used(c.ids[1], "a", "c")
			if n := c.used("ann", "a", "t"); used != mine || n != total {
				t.Fatalf("%s: %s: %d and %d used, want %d and %d", what, step, used, n, mine, total)
			}
		}
		again("before")
		c.merge(0)
		at = 0
		again("merged")
		c.reopen()
		again("after a start")
		c.m.pass(100 * time.Hour)
		c.split(0)
		at = 1
		again("split")
		c.merge(1)
		again("merged the other way round")
		c.split(1)
		again("split again")
		c.reopen()
		again("after another start")
		if err := c.e.CheckStore(); err != nil {
			t.Error(err)
		}
	}
	decide := func(c *couple) []byte {
		c.want(c.decideReq(c.ids[1], "spot"), "a")
		return bytes.Clone(c.out.Items[0].Token)
	}
	say := func(c *couple, token []byte, on string, flags LineFlags) {
		t.Helper()
		if r := c.outcome(token, on, "first"); r.Err != nil || r.Flags != flags {
			t.Fatalf("%s: %+v, want %d", on, r, flags)
		}
	}
	f("in time", "impression", func(c *couple) []byte {
		token := decide(c)
		say(c, token, "impression", 0)
		return token
	}, 1, 1)
	f("late", "impression", func(c *couple) []byte {
		token := decide(c)
		c.m.pass(time.Hour)
		c.e.tick()
		say(c, token, "impression", FlagLate)
		return token
	}, 1, 1)
	f("accept", "accept", func(c *couple) []byte {
		token := decide(c)
		say(c, token, "accept", 0)
		c.m.pass(time.Hour)
		c.e.tick()
		return token
	}, 0, 1)
	f("refund", "refund", func(c *couple) []byte {
		token := decide(c)
		if r := c.outcome(token, "accept", "bought"); r.Err != nil {
			t.Fatal(r.Err)
		}
		c.m.pass(time.Hour)
		c.e.tick()
		say(c, token, "refund", 0)
		return token
	}, 0, 0)
}

// What was counted of an item is known by the survivor when other kinds of contact come,
// what was bought can be given back, and what was given back can be bought once more.
func TestItemGoesOnAfterAMerge(t *testing.T) {
	const world = capWorld + "scope: total\nper: offer\ncount_on: accept\nwindow: lifetime\nlimit: 9\n" +
		"---\nkind: cap\nid: both\nscope: person\nper: offer\ncount_on: [impression, send]\n" +
		"window: {rolling: 30d}\nlimit: 9\n"
	c := newCouple(t, world)
	c.want(c.decideReq(c.ids[1], "spot"), "a")
	token := bytes.Clone(c.out.Items[0].Token)
	c.m.pass(time.Hour)
	c.e.tick()
	say := func(who int, on string, flags LineFlags, sold, shown int64) {
		t.Helper()
		r := c.outcome(c.to(who, token), on, fmt.Sprint(on, who))
		if r.Err != nil || r.Flags != flags {
			t.Fatalf("%s: %+v, want %d", on, r, flags)
		}
		got := [...]int64{
			c.used("ann", "a", "c"), c.used(c.ids[0], "a", "both") + c.used(c.ids[1], "a", "both"),
		}
		if got != [...]int64{sold, shown} {
			t.Fatalf("%s of %d: %v used, want %d and %d", on, who, got, sold, shown)
		}
	}
	say(1, "impression", FlagLate, 0, 1)
	say(1, "accept", 0, 1, 1)
	c.merge(0)
	say(0, "send", 0, 1, 1)
	say(0, "refund", 0, 0, 1)
	c.split(0)
	say(1, "refund", FlagRepeat, 0, 1)
	c.merge(1)
	say(1, "convert", 0, 0, 1)
	c.split(1)
	if r := c.outcome(c.to(1, token), "accept", "once more"); r.Err != nil || r.Flags != 0 {
		t.Fatalf("%+v", r)
	}
	c.merge(0)
	if r := c.outcome(c.to(0, token), "accept", "twice more"); r.Flags != FlagRepeat {
		t.Fatalf("%+v", r)
	}
	if n := c.used("ann", "a", "c"); n != 1 {
		t.Errorf("%d sold, want 1", n)
	}
}

// A reservation that two were shown while they were one is the one's that it was granted
// to: what the other reports after the split is late, and both count.
func TestBothCountWhatBothWereShown(t *testing.T) {
	const world = capWorld + "scope: person\nper: offer\ncount_on: impression\n" +
		"window: {rolling: 30d}\nlimit: 9\n---\n" +
		"{kind: placement, id: hero, channel: web, policy: p, sticky: hold}\n"
	c := newCouple(t, world)
	show := func(who int) ([]byte, storage.ReservationID) {
		t.Helper()
		c.want(c.decideReq(c.ids[who], "hero"), "a")
		return bytes.Clone(c.out.Items[0].Token), c.out.Items[0].Reservation
	}
	own, id := show(1)
	c.merge(0)
	other, same := show(0)
	if id != same {
		t.Fatalf("another reservation: %v and %v", id, same)
	}
	c.split(0)
	for _, x := range []struct {
		who   int
		token []byte
		flags LineFlags
	}{{0, other, FlagLate}, {1, own, 0}, {0, other, FlagRepeat}, {1, own, FlagRepeat}} {
		r := c.outcome(x.token, "impression", "")
		if x.flags == FlagRepeat && r.Status == LineDuplicate {
			r.Flags = FlagRepeat
		}
		if r.Err != nil || r.Flags != x.flags {
			t.Fatalf("%d: %+v, want %d", x.who, r, x.flags)
		}
	}
	for i, id := range c.ids {
		if n := c.used(id, "a", "c"); n != 1 {
			t.Errorf("%d: %d used, want 1", i, n)
		}
	}
}
