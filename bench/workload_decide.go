package bench

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"tact/bench/synth"
	"tact/engine"
	"tact/server/wire"
)

// coldPeople is how many different requests a cold trial asks in turn: with
// their rows, profiles and index buckets far more than a cache holds.
const coldPeople = 1 << 16

// cold is how many requests a cold trial draws: of few people, no more than them.
func (w *world) cold() int { return min(coldPeople, w.options.Users) }

// decideTrial measures decisions in process against the two-miss probe.
type decideTrial struct {
	hot, zipf, live, unknown bool
	slots                    int // placements of a request; 0 = 1
	from, to                 int // placements that are asked, [from, to); to 0 = to the last
	shown                    catalogue
	curve                    string
	x                        float64
	target                   *Target
}

func (d decideTrial) ready(w *world) (*trial, error) {
	if d.shown == (catalogue{}) {
		d.shown = catalogue{offers: 1000, placements: 16}
	}
	if err := w.publish(d.shown); err != nil {
		return nil, err
	}
	asked := w.cold()
	if d.hot {
		asked = 1
	}
	t := &trial{figure: Figure{
		Unit: "ns", Reference: "pure two-miss probe", Curve: d.curve, X: d.x, Target: d.target,
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "offers": strconv.Itoa(d.shown.offers),
			"placements": strconv.Itoa(max(d.shown.placements, 1)), "asked for": strconv.Itoa(asked),
		},
	}}
	t.own = decider(w.engine, d.requests(w, asked))
	t.reference = newProbe(w.options.Users, w.cold(), w.options.Seed).run
	t.warm = 2 * asked // opens profiles, judges bits, grows buffers
	if d.live {
		t.clock = clockThread // the record's way to the disk is the committer's
		t.figure.Conditions["counted"] = "the deciding thread; the log is written by another"
	}
	return t, nil
}

// requests draws what is asked.
func (d decideTrial) requests(w *world, n int) []engine.DecideRequest {
	random := rand.New(rand.NewPCG(w.options.Seed, 1))
	person := func() int { return random.IntN(w.options.Users) }
	if d.zipf {
		z := rand.NewZipf(random, 1.1, 8, uint64(w.options.Users-1))
		person = func() int { return int(z.Uint64()) }
	}
	out := make([]engine.DecideRequest, n)
	for i := range out {
		r := &out[i]
		r.UserID = synth.AppendUserID(nil, person())
		if d.unknown {
			r.UserID = append([]byte("nobody-"), r.UserID...)
		}
		if r.Mode = engine.ModeDryRun; d.live {
			r.Mode = engine.ModeLive
		}
		for slot := range max(d.slots, 1) {
			to := d.to
			if to == 0 {
				to = max(d.shown.placements, 1)
			}
			place := d.from + random.IntN(to-d.from)
			r.Placements = append(r.Placements, engine.PlacementAsk{
				Key: strconv.AppendInt(nil, int64(slot), 10), PlacementID: placeID(place),
			})
		}
	}
	return out
}

func placeID(i int) []byte { return strconv.AppendInt([]byte("place_"), int64(i), 10) }

// decider asks a set of requests in turn, each of them written into one request just
// before, so that it lies in the cache as what was read from a socket does: what is cold
// is the person.
func decider(e *engine.Engine, set []engine.DecideRequest) side {
	d, req, asks := new(engine.Decision), set[0], packAsks(set)
	user := make([]byte, 0, 64)
	at := 0
	return func(n int) (float64, error) {
		for range n {
			a := &asks.all[at]
			user = append(user[:0], asks.users[a.from:a.to]...)
			req.UserID, req.Placements = user, asks.places[a.places]
			if err := e.Decide(&req, d); err != nil {
				return 0, err
			}
			if at++; at == len(asks.all) {
				at = 0
			}
		}
		return float64(n), nil
	}
}

// packedAsks is what requests differ in, packed.
type packedAsks struct {
	all    []packedAsk
	users  []byte
	places [][]engine.PlacementAsk // each set of placements once
}

type packedAsk struct{ from, to, places uint32 }

func packAsks(set []engine.DecideRequest) *packedAsks {
	p := &packedAsks{all: make([]packedAsk, len(set))}
	seen := map[string]uint32{}
	for i := range set {
		name := ""
		for _, ask := range set[i].Placements {
			name += string(ask.Key) + " " + string(ask.PlacementID) + " "
		}
		places, ok := seen[name]
		if !ok {
			places = uint32(len(p.places))
			seen[name], p.places = places, append(p.places, set[i].Placements)
		}
		from := uint32(len(p.users))
		p.users = append(p.users, set[i].UserID...)
		p.all[i] = packedAsk{from, uint32(len(p.users)), places}
	}
	return p
}

// tenCaps compares decisions on placements whose offers are under ten caps with
// decisions on placements whose offers are under none, in one catalogue.
func tenCaps(w *world) (*trial, error) {
	shown := catalogue{offers: 1000, placements: 16, caps: 10}
	if err := w.publish(shown); err != nil {
		return nil, err
	}
	with, without := decideTrial{shown: shown}, decideTrial{shown: shown, from: freePlacements}
	with.to = freePlacements
	t := &trial{figure: Figure{
		Unit: "ns", Reference: "the same without caps",
		Target: &Target{"ten caps ≤ 1.3 × none", 1.3},
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "offers": "1000", "caps": "10",
		},
	}}
	t.own = decider(w.engine, with.requests(w, w.cold()))
	t.reference = decider(w.engine, without.requests(w, w.cold()))
	t.warm = 2 * w.cold()
	if _, err := t.reference(t.warm); err != nil {
		return nil, err
	}
	return t, nil
}

// exhausted uses up the one contact of some people and asks for them again.
func exhausted(w *world) (*trial, error) {
	d := decideTrial{shown: catalogue{offers: 1000, placements: 16, once: true}, live: true}
	if err := w.publish(d.shown); err != nil {
		return nil, err
	}
	const people = 4096
	set := d.requests(w, people)
	if err := w.decideAll(set, 64); err != nil {
		return nil, err
	}
	for i := range set {
		set[i].Mode = engine.ModeDryRun
	}
	t := &trial{figure: Figure{
		Unit: "ns", Reference: "pure two-miss probe",
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "asked for": strconv.Itoa(people), "offers": "1000",
		},
	}}
	t.own = decider(w.engine, set)
	t.reference = newProbe(w.options.Users, w.cold(), w.options.Seed).run
	t.warm = 2 * people
	var dec engine.Decision
	if err := w.engine.Decide(&set[0], &dec); err != nil {
		return nil, err
	}
	if len(dec.Slots) != 1 || dec.Slots[0].Count != 0 {
		return nil, fmt.Errorf("a person whose contact is used up got %d items", len(dec.Items))
	}
	t.figure.Conditions["reason"] = dec.Slots[0].Reason
	return t, nil
}

// decideAll decides for every request, some at the same time: they wait for the
// disk together.
func (w *world) decideAll(set []engine.DecideRequest, workers int) error {
	var all sync.WaitGroup
	errs := make([]error, workers)
	for k := range workers {
		all.Go(func() {
			var d engine.Decision
			for i := k; i < len(set) && errs[k] == nil; i += workers {
				errs[k] = w.engine.Decide(&set[i], &d)
			}
		})
	}
	all.Wait()
	return first(errs)
}

// requestToReply measures decoding, deciding and encoding together.
func requestToReply(w *world) (*trial, error) {
	d := decideTrial{shown: catalogue{offers: 1000, placements: 16}}
	if err := w.publish(d.shown); err != nil {
		return nil, err
	}
	set := d.requests(w, w.cold())
	bodies := make([][]byte, len(set))
	for i := range set {
		bodies[i] = fmt.Appendf(nil,
			`{"user":{"user_id":"%s"},"placements":[{"key":"p","placement_id":"%s"}],"mode":"dry_run"}`,
			set[i].UserID, set[i].Placements[0].PlacementID)
	}
	var decoder wire.Decoder
	var req engine.DecideRequest
	var dec engine.Decision
	var reply []byte
	at, longest := 0, 0
	t := &trial{figure: Figure{
		Unit: "ns", Reference: "pure two-miss probe",
		Conditions: map[string]string{"people": strconv.Itoa(w.options.Users), "offers": "1000"},
	}}
	t.own = func(n int) (float64, error) {
		for range n {
			if fault := decoder.Decide(bodies[at], &req); fault != nil {
				return 0, fmt.Errorf("the request: %v", fault)
			}
			if err := w.engine.Decide(&req, &dec); err != nil {
				return 0, err
			}
			reply = wire.AppendDecision(reply[:0], &dec)
			longest = max(longest, len(reply))
			if at++; at == len(bodies) {
				at = 0
			}
		}
		return float64(n), nil
	}
	t.reference = newProbe(w.options.Users, w.cold(), w.options.Seed).run
	t.warm = 2 * w.cold()
	t.gather = func(f *Figure) { f.Conditions["longest reply, bytes"] = strconv.Itoa(longest) }
	return t, nil
}
