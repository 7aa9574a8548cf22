package server

import (
	"tact/server/wire"
)

// decide answers POST /v1/decide.
func (s *Server) decide(r *request) {
	if !s.wantJSON(r) {
		return
	}
	body, ok := s.readBody(r, s.opts.DecideBytes)
	if !ok {
		return
	}
	w := &r.work
	if fault := w.decoder.Decide(body, &w.request); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	s.slowly.wait()
	if err := s.engine.Decide(&w.request, &w.decision); err != nil {
		s.fail(r.ctx, err)
		return
	}
	w.reply = wire.AppendDecision(w.reply[:0], &w.decision)
	h := &r.ctx.Response.Header
	if w.decision.Durability != "" {
		h.Set("Tact-Durability", w.decision.Durability)
	}
	if w.decision.Replayed {
		h.Set("Idempotent-Replay", "true")
	}
	reply(r.ctx, w.reply)
	if c, ok := r.ctx.Conn().(*conn); ok && !r.ctx.Request.MayContinue() {
		c.trust()
	}
}
