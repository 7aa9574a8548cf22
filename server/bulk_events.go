package server

import (
	"tact/engine"
	"tact/server/wire"
)

// eventsAhead gathers lines of events, so that the engine is given many at once: see
// engine.Batch.Events. What is gathered borrows from the text of the request and from
// its decoder.
type eventsAhead struct {
	docs    []engine.EventDoc
	results []engine.LineResult
	places  []int // of the lines in the group: one for each document gathered
}

// takeEvent gathers one line, or refuses it. Its place among the replies is kept.
func (l *lines) takeEvent(text []byte) {
	a := &l.ahead
	if a.docs == nil {
		n := engine.EventsBlock()
		a.docs, a.results = make([]engine.EventDoc, n), make([]engine.LineResult, n)
		a.places = make([]int, 0, n)
	}
	doc, decoder := &a.docs[len(a.places)], &l.r.work.decoder
	var fault *wire.Fault
	if len(a.places) == 0 {
		fault = decoder.Event(text, doc)
	} else {
		fault = decoder.EventBehind(text, doc)
	}
	l.bytes += len(text)
	if fault != nil {
		l.answer(wire.LineError{Code: fault.Code, Field: fault.Field, Detail: fault.Detail})
		return
	}
	l.group = append(l.group, lineReply{line: l.line})
	if a.places = append(a.places, len(l.group)-1); len(a.places) == len(a.docs) {
		l.applyEvents()
	}
}

// applyEvents adds what is gathered to the batch.
func (l *lines) applyEvents() {
	a := &l.ahead
	n := len(a.places)
	if n == 0 {
		return
	}
	a.places = a.places[:0]
	l.batch.Events(a.docs[:n], a.results[:n])
	for i, at := range a.places[:n] {
		out := &l.group[at]
		if out.res = a.results[i]; out.res.Status == engine.LineRejected {
			out.err = l.server.lineError(out.res.Err)
		}
	}
}
