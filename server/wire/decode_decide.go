package wire

import (
	"bytes"
	"time"

	"github.com/zeebo/xxh3"

	"tact/engine"
)

// Bounds of members of a decide request.
const (
	maxCount   = 20
	maxTimeout = time.Second
)

// Decoder reads requests. One goroutine at a time; the zero value is ready and
// keeps its buffers from call to call.
type Decoder struct {
	r      reader
	inline engine.UserDoc
}

// Decide reads the body of POST /v1/decide into req, whose capacity is reused.
// Everything in req borrows from src and from d.
//
// Cost: no allocation once the buffers have grown.
func (d *Decoder) Decide(src []byte, req *engine.DecideRequest) *Fault {
	r := &d.r
	r.reset(src)
	*req = engine.DecideRequest{
		BodyHash:   uint32(xxh3.Hash(src)),
		Identities: req.Identities[:0],
		Placements: req.Placements[:0],
		Context:    req.Context[:0],
		Assign:     req.Assign[:0],
	}
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "request_id":
			req.RequestID = r.filled()
		case "user":
			d.user(req)
		case "placements":
			d.placements(req)
		case "context":
			req.Context = r.named(req.Context)
		case "dedupe":
			req.Dedupe = engine.Dedupe(r.oneOf("offer", "offer_group", "none"))
		case "mode":
			req.Mode = engine.Mode(r.oneOf("live", "dry_run", "preview"))
		case "explain":
			req.Explain = engine.Explain(r.oneOf("none", "winners", "all"))
		case "timeout_us":
			us := r.integer(1, int64(maxTimeout/time.Microsecond))
			req.Timeout = time.Duration(us) * time.Microsecond
		default:
			d.rareMember(o.key, req)
		}
	}
	d.checkDecide(req)
	return r.finish()
}

// rareMember reads the members of a decide request that pages do not send.
func (d *Decoder) rareMember(key []byte, req *engine.DecideRequest) {
	r := &d.r
	switch string(key) {
	case "revision":
		req.Revision = uint32(r.integer(1, 1<<32-1))
	case "include":
		if len(r.texts()) > 0 {
			r.fail(CodeInvalidValue, "nothing can be included")
		}
	case "inline_profile":
		resetUser(&d.inline)
		req.Inline = &d.inline
		d.profile(req.Inline, false)
	case "force":
		var o object
		r.object(&o)
		for r.member(&o) {
			if string(o.key) != "assign" {
				r.unknown()
				continue
			}
			req.Assign = r.assignments(req.Assign)
		}
	case "now":
		setMsec(&req.Now, r.time())
	default:
		r.unknown()
	}
}

// setMsec stores milliseconds in a time of another package's type.
func setMsec[T ~int64](dst *T, ms int64) { *dst = T(ms) }

func (d *Decoder) checkDecide(req *engine.DecideRequest) {
	r := &d.r
	switch {
	case r.fault != nil:
	case len(req.Placements) == 0:
		r.missing("placements")
	case req.Revision != 0 && req.Mode != engine.ModePreview:
		r.failIn("revision", CodeInvalidValue, "goes with mode preview only")
	}
}

func (d *Decoder) user(req *engine.DecideRequest) {
	r := &d.r
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "user_id":
			req.UserID = r.filled()
		case "identities":
			req.Identities = r.identities(req.Identities)
		default:
			r.unknown()
		}
	}
}

func (d *Decoder) placements(req *engine.DecideRequest) {
	r := &d.r
	r.list()
	for r.element() {
		if len(req.Placements) == MaxPlacements {
			r.fail(CodeInvalidValue, "more than 64 placements in one request")
			return
		}
		req.Placements = append(req.Placements, engine.PlacementAsk{})
		d.placement(&req.Placements[len(req.Placements)-1])
		d.uniqueKey(req.Placements)
	}
}

func (d *Decoder) placement(ask *engine.PlacementAsk) {
	r := &d.r
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "key":
			ask.Key = r.filled()
		case "placement_id":
			ask.PlacementID = r.filled()
		case "policy_id":
			ask.PolicyID = r.filled()
		case "count":
			ask.Count = int(r.integer(1, maxCount))
		case "allow":
			ask.Allow = r.texts()
		case "block":
			ask.Block = r.texts()
		default:
			r.unknown()
		}
	}
	if ask.PlacementID == nil {
		r.missing("placement_id")
	}
	if ask.Key == nil {
		ask.Key = ask.PlacementID
	}
}

// uniqueKey refuses a placement whose key came before: the reply is an object
// with one member for each key.
func (d *Decoder) uniqueKey(asks []engine.PlacementAsk) {
	last := asks[len(asks)-1].Key
	for i := range asks[:len(asks)-1] {
		if bytes.Equal(asks[i].Key, last) {
			d.r.failIn("key", CodeInvalidValue, "another placement of the request has this key")
		}
	}
}

// oneOf reads a string that must be one of words and gives its position.
func (r *reader) oneOf(words ...string) int {
	s := r.text()
	for i, w := range words {
		if string(s) == w {
			return i
		}
	}
	if r.fault == nil {
		detail := "must be one of"
		for _, w := range words {
			detail += " " + w
		}
		r.fail(CodeInvalidValue, detail)
	}
	return 0
}

// assignments reads force.assign: experiment → variant.
func (r *reader) assignments(dst []engine.NamedValue) []engine.NamedValue {
	var o object
	r.object(&o)
	for r.member(&o) {
		v := engine.RawValue{Kind: engine.RawString, Text: r.filled()}
		dst = append(dst, engine.NamedValue{Name: o.key, Value: v})
	}
	return dst
}

// identities reads a list of {type, value}.
func (r *reader) identities(dst []engine.IdentityRef) []engine.IdentityRef {
	r.list()
	for r.element() {
		var id engine.IdentityRef
		var o object
		r.object(&o)
		for r.member(&o) {
			switch string(o.key) {
			case "type":
				id.Type = r.filled()
			case "value":
				id.Value = r.filled()
			default:
				r.unknown()
			}
		}
		if id.Type == nil {
			r.missing("type")
		}
		if id.Value == nil {
			r.missing("value")
		}
		dst = append(dst, id)
	}
	return dst
}
