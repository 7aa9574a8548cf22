package decide

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// world is a store with one group, and a plan over it: what the conductor is to
// Pick, without its waiting.
type world struct {
	t      testing.TB
	store  *storage.Store
	group  *storage.Group
	set    *definition.Set
	plan   *Plan
	plain  int // Env.plain
	shares func(*rule.Program) []float32
	people map[string]storage.Ord
	grants []grant // reservations made by live decisions, from 0
	out    Result
	zones  map[string]*time.Location
	listed uint16 // Person.Listed of those who decide

	identityKey, deviceKey uint32 // of the next request
}

// grant is one live item.
type grant struct {
	ord         storage.Ord
	reservation storage.ReservationID
	granted     storage.UnixSec
	expires     storage.UnixSec
	item        Item
	placement   int32
	root        int // the grant that made the reservation: this one, or that it was kept from
}

func newWorld(t testing.TB) *world {
	t.Helper()
	store, err := storage.Open("db", storage.Options{
		Groups: 1, FS: vfs.NewMem(), MinFree: 1,
		BoundedMax: 100 * time.Millisecond, FlushEvery: time.Hour,
		Now: func() storage.UnixMsec { return 1000 },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &world{
		t: t, store: store, group: store.Group(0), people: map[string]storage.Ord{},
		zones: map[string]*time.Location{},
	}
}

// publish compiles YAML documents; it returns the faults as text.
func (w *world) publish(text string, now storage.UnixMsec) string {
	set, faults := definition.Load([]definition.File{{Name: "d.yaml", Content: []byte(text)}})
	if len(faults) == 0 {
		faults = w.compile(set, now)
	}
	var b strings.Builder
	for _, f := range faults {
		fmt.Fprintf(&b, "%d %s %s: %s\n", f.Pos.Line, f.Doc, f.Field, f.Message)
	}
	return b.String()
}

func (w *world) compile(set *definition.Set, now storage.UnixMsec) []definition.Fault {
	plan, faults := Compile(set, Env{
		Intern: w.store.Intern, Previous: w.plan, Revision: 1, NowMs: now, plain: w.plain, Shares: w.shares,
	})
	if len(faults) == 0 {
		w.set, w.plan = set, plan
	}
	return faults
}

// create makes a person, or returns the one that is there.
func (w *world) create(id string, now storage.UnixMsec) storage.Ord {
	if ord, ok := w.people[id]; ok {
		return ord
	}
	w.group.Lock()
	defer w.group.Unlock()
	person, ord := w.group.NextPerson()
	w.append(&storage.Effect{
		Kind: storage.EffectCreate, Ord: ord, Time: now,
		Create: storage.CreateEffect{
			Workspace: 1, Slot: w.store.SlotOf(1, []byte(id)), Person: person, ID: []byte(id),
			IDHash: w.store.IndexHash(1, []byte(id)), Key: w.group.NewKey(),
		},
	})
	w.people[id] = ord
	return ord
}

func (w *world) append(e *storage.Effect) {
	w.t.Helper()
	if _, err := w.group.Append(e); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) patch(ord storage.Ord, now storage.UnixMsec, p *storage.Patch) {
	w.t.Helper()
	w.group.Lock()
	defer w.group.Unlock()
	w.append(&storage.Effect{Kind: storage.EffectPatch, Ord: ord, Time: now, Patch: p})
}

func (w *world) name(kind storage.DictKind, text string) storage.Name {
	w.t.Helper()
	id, err := w.store.Intern(kind, text)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) zone(name string) *time.Location {
	if z, ok := w.zones[name]; ok {
		return z
	}
	z, err := time.LoadLocation(name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.zones[name] = z
	return z
}

// person fills who from the store. id "" is nobody; an id without a row is a
// person of whom nothing is known. The group must be locked.
func (w *world) person(id string, now storage.UnixMsec) Person {
	bits := make([]uint64, w.plan.Program.Pages()*rule.PageWords)
	who := Person{
		HasID: id != "", ID: []byte(id), Bits: bits,
		IdentityKey: w.identityKey, DeviceKey: w.deviceKey,
	}
	if ord, ok := w.people[id]; ok && id != "" {
		who.Known = true
		who.Profile, who.Contact = w.group.Profile(ord), w.group.Contact(ord)
		if z := who.Profile.Zone(); z != 0 {
			who.Zone = w.zone(w.store.NameOf(storage.DictZone, z))
		}
	}
	zone := who.Zone
	if zone == nil {
		zone = w.plan.Workspace.Zone
	}
	w.plan.Program.EvalUser(&rule.Who{
		ID: who.ID, Profile: who.Profile, Zone: zone, Now: now,
	}, 0, bits)
	return who
}

// spoil fills the pages of bits that nothing may read.
func (w *world) spoil(who *Person, read uint32) {
	for k := range w.plan.Program.Pages() {
		if read&(1<<k) == 0 {
			for i := range rule.PageWords {
				who.Bits[k*rule.PageWords+i] = 0xAAAA_AAAA_AAAA_AAAA
			}
		}
	}
}

func moment(now storage.UnixMsec) Moment {
	return Moment{Ms: now, Instant: storage.Instant{Now: storage.UnixSec(now / 1000)}}
}

// pick decides, and when live applies what the conductor would.
func (w *world) pick(
	req *Request, id string, now storage.UnixMsec, over *Overlay, live bool,
) *Result {
	w.t.Helper()
	w.group.Lock()
	defer w.group.Unlock()
	who := w.person(id, now)
	w.spoil(&who, w.plan.Pages(req.Slots))
	who.Listed = w.listed
	at := moment(now)
	w.plan.Pick(req, &who, &at, over, &w.out)
	if live {
		for i := range w.out.Items {
			w.grant(&w.out.Items[i], req, id, now)
		}
	}
	return &w.out
}

// grant reserves and uses the keys of one item.
func (w *world) grant(it *Item, req *Request, id string, now storage.UnixMsec) {
	w.t.Helper()
	ord, ok := w.people[id]
	if !ok {
		return
	}
	sec := storage.UnixSec(now / 1000)
	g := grant{
		ord: ord, granted: sec, expires: sec + storage.UnixSec(it.Hold), item: *it,
		placement: req.Slots[it.Slot].Placement, root: len(w.grants),
	}
	for _, old := range w.grants {
		if it.Kept.Number != 0 && old.reservation == it.Kept {
			g.reservation, g.granted, g.expires, g.root = it.Kept, old.granted, old.expires, old.root
		}
	}
	if it.KeyCount > 0 {
		g.reservation = w.group.NextReservation()
		w.append(&storage.Effect{
			Kind: storage.EffectReserve, Ord: ord, Time: now,
			Reserve: storage.ReserveEffect{
				ID: g.reservation, Offer: w.plan.Offers[it.Offer].Name, Granted: sec,
				Placement: w.plan.Placements[g.placement].Name,
				Expires:   g.expires, Grace: it.Grace,
				Keys: w.out.Keys[it.FirstKey : it.FirstKey+it.KeyCount],
			},
		})
	}
	if n := it.DecisionKeyCount; n > 0 {
		w.append(&storage.Effect{
			Kind: storage.EffectUse, Ord: ord, Time: now,
			Use: storage.UseEffect{
				At: sec, Keys: w.out.Keys[it.FirstDecisionKey : it.FirstDecisionKey+n],
			},
		})
	}
	w.grants = append(w.grants, g)
}

// resolve confirms a grant by an outcome, or releases it.
func (w *world) resolve(i int, on definition.CountOn, now storage.UnixMsec) {
	w.t.Helper()
	w.group.Lock()
	defer w.group.Unlock()
	g := &w.grants[i]
	e := storage.Effect{Kind: storage.EffectConfirm, Ord: g.ord, Time: now}
	if on == 0 {
		e.Kind = storage.EffectRelease
	}
	at := min(max(storage.UnixSec(now/1000), g.granted), g.expires)
	e.Resolve = storage.ResolveEffect{ID: g.reservation, CountOn: uint16(on), At: at}
	w.append(&e)
}

// react counts a reaction at once.
func (w *world) react(i int, on definition.CountOn, now storage.UnixMsec, f *facts) {
	w.t.Helper()
	w.group.Lock()
	defer w.group.Unlock()
	g := &w.grants[i]
	keys := w.plan.AppendReactionKeys(nil, Fact{
		Offer: g.item.Offer, Placement: g.placement, Channel: definition.Channel(g.item.Channel),
		CountOn: on, At: now, IdentityKey: f.identity, DeviceKey: f.device,
	})
	if len(keys) > 0 {
		w.append(&storage.Effect{
			Kind: storage.EffectUse, Ord: g.ord, Time: now,
			Use: storage.UseEffect{At: storage.UnixSec(now / 1000), Keys: keys},
		})
	}
}
