package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/engine/rule"
	"tact/storage"
	"tact/storage/lossy"
)

// trackDefinitions declares what the segments below read.
const trackDefinitions = `
kind: workspace
id: default
timezone: Asia/Shanghai
---
{kind: attribute, id: age, type: int}
---
{kind: attribute, id: birthday, type: date}
---
{kind: attribute, id: seen, type: time}
---
{kind: tag, id: vip}
---
{kind: tag, id: hot, ttl: 3h}
---
{kind: tag, id: tier, values: [gold, silver]}
---
{kind: event, id: order, properties: {amount: {type: float, indexed: true}}}
---
{kind: event, id: visit}
---
{kind: segment, id: list, members: static, track: true}
---
`

// trackRules are the rules that a segment of each id may have, one at a time.
func trackRules() map[string][]string {
	return map[string][]string{
		"buyers": {
			"{event: order, count: {gte: 2}, within: 1d}",
			"{event: order, count: {gte: 1}, within: 2h}",
		},
		"spent": {
			"{event: order, sum: {gte: 100}, of: amount, within: 3d}",
			"{event: order, sum: {gte: 50}, of: amount}",
		},
		"adults": {"{attribute: age, gte: 18}", "{attribute: age, gte: 30}"},
		"near":   {"{attribute: birthday, anniversary: {before: 3d, after: 1d}}"},
		"fresh":  {"{attribute: seen, within_last: 90m}", "{attribute: seen, within_last: 1d}"},
		"hot":    {"{tag: hot}", "{all: [{tag: hot}, {not: {tag: vip}}]}"},
		"gold":   {"{tag: tier, is: gold}", "{tag: tier, in: [gold, silver]}"},
		"today":  {"{event: order, window: {calendar: day, zone: user}}"},
		"week":   {"{event: visit, count: {gte: 2}, window: {calendar: week, zone: user}}"},
		"quiet":  {"{not_seen_for: 6h}", "{not_seen_for: 1d}"},
		"chain":  {"{sequence: [{event: visit}, {event: order}], within: 4h}"},
		"mixed": {
			"{any: [{segment: list}, {all: [{segment: buyers}, {not: {tag: vip}}]}]}",
			"{all: [{not: {segment: list}}, {event: '*', count: {gte: 3}, within: 5h}]}",
		},
		"third": {"{percent: [0%, 33%], salt: s}"},
		"away":  {"{not: {tag: vip}}"},
	}
}

// trackRun is a random life of a store with tracked segments.
type trackRun struct {
	*bed
	r      *rand.Rand
	mem    *lossy.FS
	use    map[string]int // which rule a segment has; -1: it is not tracked
	seen   []SegmentChange
	nextID int
}

func newTrackRun(t *testing.T, seed uint64) *trackRun {
	x := &trackRun{r: rand.New(rand.NewPCG(seed, 5)), mem: lossy.New(), use: map[string]int{}}
	// 03:00 on 8 March 2026 in New York does not exist; 1 November has 25 hours.
	at := time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)
	if seed%2 == 1 {
		at = time.Date(2026, 10, 30, 12, 0, 0, 0, time.UTC)
	}
	x.bed = &bed{t: t, dir: "store", fs: x.mem, m: &machine{wall: at.UnixMilli(), mono: 1}}
	x.open()
	t.Cleanup(func() { _ = x.e.Close() })
	x.republish()
	return x
}

func (x *trackRun) republish() {
	var b strings.Builder
	b.WriteString(trackDefinitions)
	rules := trackRules()
	ids := make([]string, 0, len(rules))
	for id := range rules {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		n := len(rules[id])
		if _, ok := x.use[id]; !ok || x.r.IntN(3) == 0 {
			x.use[id] = x.r.IntN(n+1) - 1
		}
		k, track := max(x.use[id], 0), x.use[id] >= 0
		fmt.Fprintf(&b, "{kind: segment, id: %s, track: %t, rule: %s}\n---\n", id, track, rules[id][k])
	}
	x.publish(strings.TrimSuffix(b.String(), "---\n"))
}

// settle judges all that waits, and returns when it is durable.
func (b *bed) settle() {
	b.t.Helper()
	b.e.resumeFills(context.Background())
	b.e.trackPass(context.Background())
	b.e.sampleGrowth()
	for i := range b.e.track.groups {
		g := b.e.store.Group(storage.GroupID(i))
		g.Lock()
		last := g.LastFrame()
		g.Unlock()
		if err := b.e.store.Wait(g.GroupID(), last, 5*time.Second); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (x *trackRun) person() string { return fmt.Sprintf("u%d", x.r.IntN(12)) }

func (x *trackRun) number(n int) RawValue {
	return RawValue{Kind: RawNumber, Text: strconv.AppendInt(nil, int64(x.r.IntN(n)), 10)}
}

// step does one random thing.
func (x *trackRun) step() {
	now := x.e.clock.Now()
	id := []byte(x.person())
	switch n := x.r.IntN(100); {
	case n < 30:
		x.nextID++
		doc := EventDoc{
			UserID: id, EventID: fmt.Appendf(nil, "e%d", x.nextID), BodyHash: 1,
			Event: []byte([]string{"order", "visit"}[x.r.IntN(2)]),
		}
		if x.r.IntN(3) == 0 {
			doc.OccurredAt = now - storage.UnixMsec(x.r.IntN(30*3600_000))
		}
		if string(doc.Event) == "order" {
			doc.Properties = []NamedValue{{[]byte("amount"), x.number(60)}}
		}
		for range 1 + 70*(x.r.IntN(25)/24) { // now and then more than the tail holds
			doc.EventID = fmt.Appendf(nil, "e%d", x.nextID)
			x.nextID++
			if r := x.apply(func(b *Batch) LineResult { return b.Event(&doc) }); r.Err != nil {
				x.t.Fatal(r.Err)
			}
		}
	case n < 55:
		x.user(x.patch(id, now))
	case n < 62:
		x.list(id)
	case n < 90:
		d := []int{2, 120, 3600, 5 * 3600, 26 * 3600}[x.r.IntN(5)]
		x.m.pass(time.Duration(1000+x.r.IntN(d*1000)) * time.Millisecond)
		x.e.tick()
	case n < 94:
		x.republish()
	case n < 97:
		x.reopen()
	default:
		x.crash()
	}
}

func (x *trackRun) list(id []byte) {
	if _, known := x.e.find(id); !known {
		return
	}
	var add, remove [][]byte
	if x.r.IntN(2) == 0 {
		add = [][]byte{id}
	} else {
		remove = [][]byte{id}
	}
	r := x.apply(func(b *Batch) LineResult { return b.SegmentMembers([]byte("list"), add, remove) })
	if r.Err != nil {
		x.t.Fatal(r.Err)
	}
}

func (x *trackRun) patch(id []byte, now storage.UnixMsec) UserDoc {
	doc := UserDoc{UserID: id, BodyHash: x.r.Uint32()}
	day := time.UnixMilli(int64(now)).UTC().AddDate(-20, 0, x.r.IntN(8)-4)
	set := func(name string, v RawValue) {
		doc.Attributes = append(doc.Attributes, NamedValue{[]byte(name), v})
	}
	switch x.r.IntN(6) {
	case 0:
		set("age", x.number(60))
	case 1:
		set("birthday", text(day.Format("2006-01-02")))
	case 2:
		at := time.UnixMilli(int64(now) - int64(x.r.IntN(7200_000))).UTC()
		set("seen", text(at.Format(time.RFC3339)))
	case 3:
		doc.Tags = []TagDoc{{Name: []byte([]string{"vip", "hot"}[x.r.IntN(2)])}}
		doc.TagsSet = x.r.IntN(4) == 0
	case 4:
		doc.Tags = []TagDoc{{Name: []byte("tier"), Is: []byte([]string{"gold", "silver"}[x.r.IntN(2)])}}
		doc.TagsRemove = [][]byte{[]byte("vip")}
	default:
		zones := []string{"Asia/Shanghai", "America/New_York", "Europe/London", ""}
		doc.HasTimezone, doc.Timezone = true, []byte(zones[x.r.IntN(4)])
	}
	return doc
}

// crash cuts the power and opens what is left.
func (x *trackRun) crash() {
	cut := x.mem.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: x.r.IntN(100), RNG: rand.New(rand.NewPCG(x.r.Uint64(), 1)),
	})
	if err := x.e.Close(); err != nil {
		x.t.Fatal(err)
	}
	x.mem, x.fs = cut, cut
	x.open()
}

// verify compares the members with a naive judgement of everybody, and the
// changes that were told with the members.
func (x *trackRun) verify() {
	x.t.Helper()
	members := map[string]bool{}
	for i := range x.e.track.groups {
		if fault := x.verifyGroup(x.e.store.Group(storage.GroupID(i)), members); fault != "" {
			x.t.Fatal(fault)
		}
	}
	x.verifyChanges(members)
}

// verifyGroup adds the members of a group to members and says what is wrong.
func (x *trackRun) verifyGroup(g *storage.Group, members map[string]bool) string {
	snap := x.e.snap.Load()
	q := question{ask: snap.audience.All, at: x.e.clock.Now()}
	g.Lock()
	defer g.Unlock()
	for q.ord = range storage.Ord(g.Len()) {
		for k := range snap.audience.Segments {
			s := &snap.audience.Segments[k]
			var who rule.Who
			if !x.e.whoIs(g, snap.audience, &q, &who) {
				return fmt.Sprintf("nobody at %d", q.ord)
			}
			want := who.Profile.Segment(s.Name)
			if tree := snap.Plan.Names.Rules[s.ID]; tree != nil {
				want = tree.Naive(&who, nil)
			}
			if got := g.MemberBitmap(s.Name).Contains(uint32(q.ord)); got != want {
				return fmt.Sprintf("%s in %s at %s: %t, want %t", who.ID, s.ID,
					time.UnixMilli(int64(q.at)).UTC(), got, want)
			}
			if want {
				members[s.ID+" "+string(who.ID)] = true
			}
		}
	}
	return ""
}

// verifyChanges reads all that was told: what was told before is told again,
// word for word; entered and left alternate; and they come to the members.
func (x *trackRun) verifyChanges(members map[string]bool) {
	x.t.Helper()
	sub, err := x.e.Subscribe(nil, "")
	if err != nil {
		x.t.Fatal(err)
	}
	again := x.readChanges(sub)
	all := append(x.gone(again), again...)
	told := map[string]SegmentChange{}
	in := map[string]bool{}
	for _, c := range all {
		who := c.Segment + " " + c.UserID
		if _, twice := told[c.ID]; twice || in[who] == c.Entered && told["first "+who].ID != "" {
			x.t.Fatalf("told twice: %+v", c)
		}
		in[who] = c.Entered
		told[c.ID], told["first "+who] = c, c
	}
	for _, c := range x.seen {
		if again, ok := told[c.ID]; ok && again != c {
			x.t.Fatalf("told %+v, now %+v", c, again)
		} else if !ok && x.e.snap.Load().trackedAt(c.Segment) >= 0 {
			x.t.Fatalf("told %+v, and now not any more", c)
		}
	}
	x.seen = all
	for who := range members {
		if !in[who] {
			x.t.Fatalf("nobody was told that %s", who)
		}
	}
	for who := range in {
		if id, _, _ := strings.Cut(who, " "); in[who] && !members[who] &&
			x.e.snap.Load().trackedAt(id) >= 0 {
			x.t.Fatalf("it was told that %s", who)
		}
	}
}

// gone returns what was told before and is no longer kept: changes before the oldest
// one, of more than seven days ago.
func (x *trackRun) gone(again []SegmentChange) []SegmentChange {
	x.t.Helper()
	told := map[string]bool{}
	for i := range again {
		told[again[i].ID] = true
	}
	var gone []SegmentChange
	for _, c := range x.seen {
		var group storage.GroupID
		var number uint64
		if _, err := fmt.Sscanf(c.ID, "%d-%d", &group, &number); err != nil {
			x.t.Fatal(err)
		}
		before, _ := x.e.store.KeptChanges(group)
		if !told[c.ID] && number <= before && x.e.clock.Now()-c.At >= 7*24*3600_000 {
			gone = append(gone, c)
		}
	}
	return gone
}

// readChanges reads all there is. What the flusher has at hand comes only when it has
// written it: a reading that ends early is gone on with.
func (x *trackRun) readChanges(sub *Subscription) []SegmentChange {
	x.t.Helper()
	behind := func() bool {
		for i, at := range sub.at {
			if _, newest := x.e.store.KeptChanges(storage.GroupID(i)); at < newest {
				return true
			}
		}
		return false
	}
	var all []SegmentChange
	for until := time.Now().Add(20 * time.Second); behind(); {
		more, err := sub.Next(context.Background(), 100, 0)
		if err != nil {
			x.t.Fatal(err)
		}
		all = append(all, more.List...)
		if time.Now().After(until) {
			x.t.Fatal("changes that are kept do not come")
		}
	}
	return all
}

// trackEffort scales the length of the long tests.
func trackEffort(full, short int) int {
	f, err := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64)
	if err != nil {
		return short
	}
	return max(1, int(f*float64(full)))
}

// Judging what a change touches and who is due gives the members that judging
// everybody naively gives, over changes, time, zones, publishes, restarts and
// power cuts; and who enters and leaves is told once, in order.
func TestTrackedMembersEqualNaive(t *testing.T) {
	for seed := range uint64(trackEffort(400, 4)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			x := newTrackRun(t, seed)
			for range 150 {
				x.step()
				if x.r.IntN(3) == 0 {
					x.settle()
					x.verify()
				}
			}
			x.settle()
			x.verify()
			if err := x.e.CheckStore(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A change of a person whom time has moved too is judged for both at once, in the
// frame of the change, and not only when the calendar comes to it; also just after
// a start, when the calendar knows nothing of the person yet.
func TestChangeFindsWhoIsDue(t *testing.T) {
	const definitions = `
kind: workspace
id: default
timezone: UTC
---
{kind: attribute, id: age, type: int}
---
{kind: tag, id: hot, ttl: 3h}
---
{kind: segment, id: adults, track: true, rule: {attribute: age, gte: 18}}
---
{kind: segment, id: heated, track: true, rule: {tag: hot}}
`
	f := func(name string, restart bool) {
		t.Helper()
		b := newBed(t, definitions)
		b.user(UserDoc{UserID: []byte("ann"), BodyHash: 1, Tags: []TagDoc{{Name: []byte("hot")}}})
		b.settle()
		// Nothing but the change below may judge anybody.
		b.e.track.pause.Lock()
		if restart {
			b.e.track.pause.Unlock()
			b.reopen()
			b.e.track.pause.Lock()
		}
		defer b.e.track.pause.Unlock()
		b.m.pass(4 * time.Hour)
		b.e.tick()
		b.user(UserDoc{UserID: []byte("ann"), BodyHash: 2, Attributes: []NamedValue{
			{[]byte("age"), RawValue{Kind: RawNumber, Text: []byte("20")}},
		}})
		for id, want := range map[string]uint64{"adults": 1, "heated": 0} {
			if v, err := b.e.Segment(id); err != nil || v.Count != want {
				t.Errorf("%s: %s has %d, want %d: %v", name, id, v.Count, want, err)
			}
		}
		sub, err := b.e.Subscribe(nil, "")
		if err != nil {
			t.Fatal(err)
		}
		changes, err := sub.Next(context.Background(), 100, 0)
		if err != nil {
			t.Fatal(err)
		}
		last := changes.List[len(changes.List)-2:]
		if last[0].At != last[1].At || last[0].Cause != last[1].Cause {
			t.Errorf("%s: %+v", name, last)
		}
	}
	f("while it runs", false)
	f("after a start", true)
}
