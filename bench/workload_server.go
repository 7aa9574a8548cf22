package bench

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"golang.org/x/sys/unix"

	"tact/bench/synth"
	"tact/engine"
)

// overHTTP compares the processor time of the server with that of a bare one
// whose replies have the same size.
type overHTTP struct{ connections int }

const (
	// using is the share of decisions over HTTP that use a cap.
	using = 0.1
	// usePlacement is where they do: everybody's session was opened at openPlacement.
	usePlacement = 1
)

func (h overHTTP) ready(w *world) (*trial, error) {
	o := w.options
	if o.Server == nil || o.Floor == nil {
		return missing("µs", "no way to start a server was given"), nil
	}
	if err := w.serve(); err != nil {
		return nil, err
	}
	size, err := w.warm(w.server)
	if err != nil {
		return nil, err
	}
	floor, err := o.Floor(w.ctx, size, 0)
	if err != nil {
		return nil, err
	}
	w.later(func() { _ = floor.Stop() })
	t := &trial{clock: clockChild, scale: 1e6, figure: Figure{
		Unit: "µs", Reference: "bare fasthttp, replies of the same size",
		Target: &Target{"P1: ≥ 90 % is ≤ 1.11", 1 / 0.9},
		Conditions: map[string]string{
			"connections": strconv.Itoa(h.connections), "reply, bytes": strconv.Itoa(size),
			"people": strconv.Itoa(o.Users), "offers": "1000", "caps": "10, one of them used by a tenth",
			"client": "on the same processors", "asked for": strconv.Itoa(w.cold()),
		},
	}}
	t.child.own, t.child.reference = w.server.PID, floor.PID
	t.own = w.asker(w.server, h.connections, "live")
	t.reference = w.asker(floor, h.connections, "live")
	// Tables that the load has left are joined for seconds, which no decision costs.
	t.rest(func() time.Duration { return childTime(w.server.PID) })
	before, err := decisionsOf(w.server)
	if err != nil {
		return nil, err
	}
	t.gather = func(f *Figure) {
		if after, err := decisionsOf(w.server); err == nil && after.all > before.all {
			share := func(part, all float64) string {
				return strconv.FormatFloat(100*part/max(all, 1), 'f', 2, 64) + " %"
			}
			f.Conditions["decisions that waited"] = share(after.waited-before.waited,
				after.all-before.all)
			inside := after.inside - before.inside
			f.Conditions["in an open session, of those that took a use"] = share(inside,
				inside+after.outside-before.outside)
		}
	}
	return t, nil
}

// decisions are those that a server has made, those that waited for the disk, and the
// uses that were taken inside and outside of an open session.
type decisions struct{ all, waited, inside, outside float64 }

// decisionsOf reads them from /metrics.
func decisionsOf(p *Process) (d decisions, err error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI("http://" + p.Address + "/metrics")
	req.Header.Set("Authorization", "Bearer "+p.Key)
	if err = fasthttp.DoTimeout(req, res, 10*time.Second); err != nil {
		return d, err
	}
	for line := range strings.Lines(string(res.Body())) {
		series, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment
		}
		switch {
		case strings.HasPrefix(series, "tact_decisions_waited_total{"):
			d.waited += value
			if strings.Contains(series, `cause="no_lease"`) {
				d.outside = value
			}
		case series == "tact_grants_at_once_total":
			d.inside = value
		case strings.HasPrefix(series, "tact_http_request_seconds_count{") &&
			strings.HasSuffix(series, `route="/v1/decide"}`):
			d.all = value
		}
	}
	return d, nil
}

// serve closes the store and starts the server on it, once.
func (w *world) serve() (err error) {
	if w.server != nil {
		return nil
	}
	shown := catalogue{offers: 1000, placements: 16, caps: 9, reserve: true}
	if err := w.publish(shown); err != nil {
		return err
	}
	if err := w.engine.Close(); err != nil {
		return err
	}
	w.engine = nil
	w.server, err = w.options.Server(w.ctx, w.folder)
	return err
}

// asker sends decisions over connections, each waiting for its answer.
func (w *world) asker(p *Process, connections int, mode string) side {
	turn := uint64(0)
	return func(n int) (float64, error) {
		turn++
		client := &fasthttp.HostClient{Addr: p.Address, MaxConns: connections}
		defer client.CloseIdleConnections()
		each := max(n/connections, 1)
		errs := make([]error, connections)
		var all sync.WaitGroup
		for k := range connections {
			all.Go(func() {
				random := rand.New(rand.NewPCG(turn, uint64(k)))
				errs[k] = w.ask(client, p, caller{random, mode, each})
			})
		}
		all.Wait()
		return float64(each * connections), first(errs)
	}
}

// caller is what one connection sends: n decisions, one behind the other.
type caller struct {
	random *rand.Rand
	mode   string
	n      int
}

func (w *world) ask(client *fasthttp.HostClient, p *Process, c caller) error {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	header(req, p)
	var body []byte
	for range c.n {
		body = w.body(body[:0], c.random, c.random.IntN(w.cold()), c.mode)
		req.SetBodyRaw(body)
		if err := client.Do(req, res); err != nil {
			return err
		}
		if res.StatusCode() != fasthttp.StatusOK {
			return fmt.Errorf("status %d: %s", res.StatusCode(), res.Body())
		}
	}
	return nil
}

func header(req *fasthttp.Request, p *Process) {
	req.SetRequestURI("http://" + p.Address + "/v1/decide")
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
	req.Header.Set("Authorization", "Bearer "+p.Key)
}

func (w *world) body(dst []byte, random *rand.Rand, person int, mode string) []byte {
	place := usePlacement + 1 + random.IntN(15-usePlacement)
	if random.Float64() < using {
		place = usePlacement
	}
	return decideBody(dst, person, place, mode)
}

func decideBody(dst []byte, person, place int, mode string) []byte {
	dst = append(dst, `{"user":{"user_id":"`...)
	dst = synth.AppendUserID(dst, person)
	dst = append(dst, `"},"placements":[{"key":"p","placement_id":"`...)
	dst = append(dst, placeID(place)...)
	dst = append(dst, `"}],"mode":"`...)
	dst = append(dst, mode...)
	return append(dst, `"}`...)
}

// warm opens the session of every person and gives the mean size of a reply.
func (w *world) warm(p *Process) (int, error) {
	people := w.cold()
	const workers = 32
	client := &fasthttp.HostClient{Addr: p.Address, MaxConns: workers}
	defer client.CloseIdleConnections()
	sizes, errs := make([]int, workers), make([]error, workers)
	var all sync.WaitGroup
	for k := range workers {
		all.Go(func() {
			req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(res)
			header(req, p)
			for person := k; person < people && errs[k] == nil; person += workers {
				req.SetBodyRaw(decideBody(nil, person, openPlacement, "live"))
				if errs[k] = client.Do(req, res); errs[k] == nil && res.StatusCode() != 200 {
					errs[k] = fmt.Errorf("status %d: %s", res.StatusCode(), res.Body())
				}
				sizes[k] += len(res.Body())
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range sizes {
		sum += n
	}
	return sum / people, first(errs)
}

// first gives one of the errors: connections that fail do so for one reason.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// processorSeconds is what this process has used of the processors: on a machine
// that others use too it says more of a start than the clock.
func processorSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// startUp opens the store again and again, against a direct read of its bytes.
func startUp(w *world) (*trial, error) {
	if w.server != nil {
		if err := w.server.Stop(); err != nil {
			return nil, err
		}
		w.server = nil
	}
	request := decideTrial{shown: catalogue{placements: 16}}.requests(w, 1)
	var dec engine.Decision
	var total int64
	direct := true
	least := math.Inf(1) // processor seconds of a start
	t := &trial{clock: clockWall, scale: 1, fixed: true, figure: Figure{
		Unit: "s", Reference: "reading the same bytes with direct I/O",
		Target: &Target{"P10: ≤ 1.5 × (first landing ≤ 4 ×)", 4},
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "events": strconv.Itoa(w.events),
		},
	}}
	t.between = func() error {
		if w.engine != nil {
			if err := w.engine.Close(); err != nil {
				return err
			}
			w.engine = nil
		}
		return dropCache(w.storeFolder())
	}
	t.own = func(int) (_ float64, err error) {
		if w.engine != nil {
			return 0, errors.New("the store is open")
		}
		before := processorSeconds()
		if w.engine, err = engine.Open(w.storeFolder(), engine.Options{}); err != nil {
			return 0, err
		}
		err = w.engine.Decide(&request[0], &dec)
		least = min(least, processorSeconds()-before)
		return 1, err
	}
	t.reference = func(int) (_ float64, err error) {
		total, direct, err = readDirect(w.storeFolder())
		return 1, err
	}
	t.gather = func(f *Figure) {
		f.Conditions["bytes of the store"] = strconv.FormatInt(total, 10)
		f.Conditions["least processor seconds of a start"] = strconv.FormatFloat(least, 'f', 2, 64)
		if !direct {
			f.Missing = "this file system refuses direct I/O"
		}
	}
	return t, nil
}
