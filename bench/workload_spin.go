package bench

import (
	"math"
	"strconv"
	"time"
)

// spinning compares a bare server that works for a known time before each reply
// with one that does not: what a reply costs beyond both is the price of answering
// less often, because the server sleeps and wakes more for each answer.
type spinning struct{ spin time.Duration }

// spinConnections and spinReply are those of the decisions it is compared with.
const (
	spinConnections = 16
	spinReply       = 300 // bytes
)

func (s spinning) ready(w *world) (*trial, error) {
	o := w.options
	if o.Floor == nil {
		return missing("µs", "no way to start a server was given"), nil
	}
	own, err := o.Floor(w.ctx, spinReply, s.spin)
	if err != nil {
		return nil, err
	}
	w.later(func() { _ = own.Stop() })
	floor, err := o.Floor(w.ctx, spinReply, 0)
	if err != nil {
		return nil, err
	}
	w.later(func() { _ = floor.Stop() })
	t := &trial{clock: clockChild, scale: 1e6, figure: Figure{
		Unit: "µs", Reference: "the same without work",
		Curve: "work of a bare server, µs", X: s.spin.Seconds() * 1e6,
		Conditions: map[string]string{
			"connections": strconv.Itoa(spinConnections), "reply, bytes": strconv.Itoa(spinReply),
			"client": "on the same processors",
		},
	}}
	t.child.own, t.child.reference = own.PID, floor.PID
	t.own = w.asker(own, spinConnections, "live")
	t.reference = w.asker(floor, spinConnections, "live")
	t.gather = func(f *Figure) {
		least, bare := math.Inf(1), math.Inf(1)
		for _, p := range f.Pairs {
			least, bare = min(least, p.Own), min(bare, p.Reference)
		}
		f.Conditions["beyond the work, least of each side, µs"] = strconv.FormatFloat(
			least-bare-s.spin.Seconds()*1e6, 'f', 2, 64)
	}
	return t, nil
}
