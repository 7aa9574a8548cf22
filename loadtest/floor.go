package loadtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// FloorServer is a bare server that runs in a process of its own.
type FloorServer struct {
	Address string
	PID     int // 0: not known
	Stop    func() error
}

// pids is none where the process is not known.
func (f FloorServer) pids() []int {
	if f.PID == 0 {
		return nil
	}
	return []int{f.PID}
}

// FloorStarter starts a bare server whose replies have so many bytes.
type FloorStarter func(ctx context.Context, replyBytes int) (FloorServer, error)

// ServeFloor answers every request on l with the same reply of so many bytes:
// the least that a server built on fasthttp can do. It returns when l is closed
// or when life ends, so that the process does not outlive the one that holds
// the other end.
func ServeFloor(l net.Listener, replyBytes int, life io.Reader) error {
	return ServeSpinningFloor(l, replyBytes, 0, life)
}

// ServeSpinningFloor is ServeFloor with a handler that first uses the processor for
// so long, as one that has something to do would.
func ServeSpinningFloor(
	l net.Listener, replyBytes int, spin time.Duration, life io.Reader,
) error {
	body := []byte(strings.Repeat("x", replyBytes))
	work := newSpinner(spin)
	s := &fasthttp.Server{
		NoDefaultDate: true, NoDefaultServerHeader: true, MaxRequestBodySize: maxReplyBytes,
		Handler: func(ctx *fasthttp.RequestCtx) {
			if work.steps > 0 && work.spin() == 0 {
				ctx.Error("a generator of random numbers has ended", fasthttp.StatusInternalServerError)
				return
			}
			ctx.SetContentType("application/json")
			ctx.Response.SetBodyRaw(body)
		},
	}
	go func() {
		// Whatever ends the reading, the other side is gone.
		_, _ = io.Copy(io.Discard, life)
		_ = l.Close()
	}()
	err := s.Serve(l)
	if err != nil && strings.Contains(err.Error(), "use of closed network connection") {
		return nil
	}
	return err
}

// sampleReplies is how many replies tell the size of the bare server's.
const sampleReplies = 20

// withFloor measures in turns the server and a bare one whose replies have the
// same size, at the same rate or both in a closed loop.
func (r *runner) withFloor(ctx context.Context, rate float64) error {
	sample := r.phase(r.pool, rate, r.o.Step)
	sample.closed, sample.limit = true, sampleReplies
	t, err := r.run(ctx, sample)
	if err != nil {
		return err
	}
	if t.good2xx() == 0 { // nothing tells the size of the floor's replies
		r.doc.add("measured", rate, t)
		return nil // the result says that it is void
	}
	size := int(t.replyBytes / t.answered)
	bare, err := r.o.Floor(ctx, size)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	err = r.interleave(ctx, rate, bare, size)
	if stop := bare.Stop(); err == nil {
		err = stop
	}
	return err
}

func (r *runner) interleave(ctx context.Context, rate float64, bare FloorServer, size int) error {
	a, err := resolve(ctx, bare.Address, false)
	if err != nil {
		return err
	}
	pool := newPool(ctx, r.target, a, &r.o)
	defer pool.close()
	if err := pool.connect(); err != nil {
		return err
	}
	// The bare server gets the warm-up that the other had.
	if _, err := r.run(ctx, r.side(pool, rate, warmUpWindow, bare.pids())); err != nil {
		return err
	}
	pairs, err := r.rounds(ctx, rate, pool, bare)
	if err != nil {
		return err
	}
	f := &FloorResult{
		ReplyBytes: size, Void: []string{}, Rounds: len(pairs.sound), LateRounds: len(pairs.late),
		VoidRounds: len(pairs.void), VoidWhy: pairs.why,
	}
	shown := pairs.shown()
	own, floor := sumPairs(shown)
	if pairs.enough(r.o.Rounds) || len(pairs.sound) == len(shown) {
		a, b := sumPairs(pairs.sound)
		f.Rows = dueRows(pairs.sound, a, b)
	}
	f.Rows = append(f.Rows, floorRows(shown, own, floor)...)
	if n := len(pairs.sound) + len(pairs.late); n < r.o.Rounds {
		f.Void = append([]string{fmt.Sprintf("%d rounds of %d could be measured", n, r.o.Rounds)},
			pairs.why...)
	}
	// Each round was judged by itself.
	r.doc.add("measured", rate, own).Void = f.Void
	r.doc.add(labelFloor, rate, floor).Void = []string{}
	r.doc.Floor = f
	return nil
}

// floorPairs are the rounds of both sides. In the void ones the generator or the
// machine lied about one side, and they count for neither. In the late ones it was
// late and nothing else: they count for what does not contain its lateness.
type floorPairs struct {
	sound, late, void [][2]*tally
	why               []string // of the late and void ones, each reason once
}

// shown is what figures without lateness are made of: void rounds when there are no
// others.
func (p *floorPairs) shown() [][2]*tally {
	if len(p.sound)+len(p.late) > 0 {
		return slices.Concat(p.sound, p.late)
	}
	return p.void
}

// enough says whether the rounds for latencies since the due time are there.
func (p *floorPairs) enough(rounds int) bool { return len(p.sound) >= rounds }

// sumPairs adds up both sides.
func sumPairs(pairs [][2]*tally) (own, floor *tally) {
	own, floor = newTally(), newTally()
	for _, p := range pairs {
		own.merge(p[0], false)
		floor.merge(p[1], false)
	}
	return own, floor
}

// Attempts at a round, for each that is wanted: for one that is sound, and for one
// that is late at worst.
const (
	soundRounds = 2
	mostRounds  = 6
)

// rounds measures both sides in turns until as many rounds as were asked for are
// sound, and no longer than the hard bounds and the attempts allow.
func (r *runner) rounds(
	ctx context.Context, rate float64, pool *pool, bare FloorServer,
) (*floorPairs, error) {
	all := &floorPairs{}
	length := r.o.Duration / time.Duration(r.o.Rounds)
	for i := 0; !all.enough(r.o.Rounds) && i < mostRounds*r.o.Rounds; i++ {
		few := len(all.sound)+len(all.late) < r.o.Rounds
		if i >= soundRounds*r.o.Rounds && !few || i >= r.o.Rounds && !r.room(2*rate, 2*length) {
			break
		}
		var pair [2]*tally
		var err error
		first := r.next
		for turn := range pair {
			r.next = first // both are asked the same
			which := (i + turn) % 2
			ph := r.side(r.pool, rate, length, r.o.ServerPIDs)
			if which == 1 {
				ph = r.side(pool, rate, length, bare.pids())
			}
			if pair[which], err = r.run(ctx, ph); err != nil {
				return nil, err
			}
		}
		all.judge(pair)
		r.say("round %d: p99 %s, floor %s; %d sound, %d late, %d void", i+1,
			short(pair[0].after.ValueAtQuantile(99)), short(pair[1].after.ValueAtQuantile(99)),
			len(all.sound), len(all.late), len(all.void))
		if ctx.Err() != nil {
			break
		}
	}
	return all, nil
}

// judge keeps a pair where it belongs.
func (p *floorPairs) judge(pair [2]*tally) {
	faults := append(pair[0].faults(), pair[1].faults()...)
	if len(faults) == 0 {
		p.sound = append(p.sound, pair)
		return
	}
	if len(pair[0].spoilt())+len(pair[1].spoilt()) == 0 {
		p.late = append(p.late, pair)
	} else {
		p.void = append(p.void, pair)
	}
	for _, fault := range faults {
		kind, _, _ := strings.Cut(fault, ":")
		if !slices.Contains(p.why, kind) {
			p.why = append(p.why, kind)
		}
	}
}

func (r *runner) side(p *pool, rate float64, length time.Duration, pids []int) *phase {
	ph := r.phase(p, rate, length)
	ph.closed, ph.pids = r.o.Mode == Saturate, pids
	if p != r.pool {
		ph.expect = nil
	}
	return ph
}

// rowOf compares one figure of the two sides: all rounds together, and each pair.
func rowOf(pairs [][2]*tally, own, floor *tally) func(
	name, unit string, value func(t *tally) float64) (FloorRow, bool) {
	return func(name, unit string, value func(t *tally) float64) (FloorRow, bool) {
		f := FloorRow{Name: name, Unit: unit, Own: value(own), Floor: value(floor)}
		if !(f.Own > 0 && f.Floor > 0) {
			return f, false
		}
		f.Ratio = f.Own / f.Floor
		for _, p := range pairs {
			if a, b := value(p[0]), value(p[1]); a > 0 && b > 0 {
				f.Pairs = append(f.Pairs, a/b)
			}
		}
		if len(f.Pairs) > 0 {
			sorted := slices.Sorted(slices.Values(f.Pairs))
			f.Min, f.Median, f.Max = sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1]
		}
		return f, true
	}
}

// dueRows compares latencies since the due time.
func dueRows(pairs [][2]*tally, own, floor *tally) (rows []FloorRow) {
	row := rowOf(pairs, own, floor)
	for _, p := range percentiles() {
		if f, ok := row(p.name, "ns", func(t *tally) float64 {
			return float64(t.latency.ValueAtQuantile(p.percent))
		}); ok {
			rows = append(rows, f)
		}
	}
	return rows
}

// floorRows compares what does not contain the generator's lateness.
func floorRows(pairs [][2]*tally, own, floor *tally) (rows []FloorRow) {
	row := rowOf(pairs, own, floor)
	for _, p := range percentiles() {
		if f, ok := row(p.name+" after sending", "ns", func(t *tally) float64 {
			return float64(t.after.ValueAtQuantile(p.percent))
		}); ok {
			rows = append(rows, f)
		}
	}
	if f, ok := row("answered", "/s", func(t *tally) float64 {
		return t.perSecond(t.answered)
	}); ok {
		rows = append(rows, f)
	}
	if f, ok := row("server CPU a reply", "ns", func(t *tally) float64 {
		return t.serverCPUPerRequest()
	}); ok {
		rows = append(rows, f)
	}
	return rows
}

// serverCPUPerRequest is in nanoseconds; 0 where it is not known.
func (t *tally) serverCPUPerRequest() float64 {
	if t.serverCPU <= 0 || t.answered == 0 {
		return 0
	}
	return float64(t.serverCPU) / float64(t.answered)
}
