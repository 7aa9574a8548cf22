package server

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"tact/server/wire"
)

// A plain decision is one whose head is, but for the length of its body, that of
// a request which came before on the same connection, went the whole way through
// [Server.handle] and was answered with a decision. All that a head decides has
// been decided then: framing, path, key, media type. It is answered where its
// bytes are read, in the memory they were read into, with one write. Whatever is
// not plain is left to fasthttp, which has seen nothing of the plain ones: to it
// the connection was idle. So a request that came in pieces or with others behind
// it, that has another head or a fault in its body, or that meets a limit or a
// server that drains, goes the whole way. A connection on which plain decisions
// follow each other is lent to a loop, see loops.
type plain struct {
	server *Server
	// idle: no byte of a request has been read, and no reply is left to write.
	idle bool
	seen head // of the request that the last read gave to fasthttp whole and alone
	head head // of requests that are plain
	// run counts plain decisions in a row; after so many the connection is lent.
	run, after int
	loan       *loan // while it is; nil otherwise
	// state says who closes the connection: another goroutine may want to while a
	// decision is being answered.
	state atomic.Int32 // connFree and so on
}

// States of a connection.
const (
	connFree    int32 = iota
	connBusy          // a plain decision is being answered
	connClosing       // the same, and the connection is closed behind the reply
	connClosed
)

// head is the head of a request, from its first line to the empty one.
type head struct {
	text     []byte // empty: not known
	from, to int    // of the digits of Content-Length
}

const (
	decideRoute = "POST /v1/decide"
	decideLine  = "POST /v1/decide HTTP/1.1\r\n"
	maxHead     = 1 << 10 // longer ones are not kept
	// headRoom is what the head of a reply takes at most.
	headRoom = 256
)

// read reads the head of a request that is all of b: a decision with a body of
// known length. Else it is empty. What is in it has yet to be judged.
func (h *head) read(b []byte) {
	h.text = h.text[:0]
	if !bytes.HasPrefix(b, []byte(decideLine)) {
		return
	}
	end := bytes.Index(b[:min(len(b), maxHead)], []byte("\r\n\r\n"))
	if end < 0 {
		return
	}
	end += len("\r\n\r\n")
	for at := len(decideLine); at < end; {
		line := b[at : at+bytes.IndexByte(b[at:end], '\n')+1]
		if !bytes.HasSuffix(line, []byte("\r\n")) || line[0] <= ' ' {
			return // read in several ways, or without Content-Length
		}
		if named(line, "content-length") {
			h.from = at + len("content-length:")
			for b[h.from] == ' ' {
				h.from++
			}
			n := 0
			n, h.to = digits(b, h.from)
			if h.to == h.from || h.to != at+len(line)-len("\r\n") || end+n != len(b) {
				return
			}
			h.text = append(h.text, b[:end]...)
			return
		}
		at += len(line)
	}
}

// body gives the body of a request that is all of b and has the head h; nil when
// it has not.
func (h *head) body(b []byte) []byte {
	if len(h.text) == 0 || len(b) < len(h.text) || !bytes.Equal(b[:h.from], h.text[:h.from]) {
		return nil
	}
	n, to := digits(b, h.from)
	rest := h.text[h.to:]
	if to == h.from || len(b)-to < len(rest) || !bytes.Equal(b[to:to+len(rest)], rest) ||
		to+len(rest)+n != len(b) {
		return nil
	}
	return b[to+len(rest):]
}

// digits reads a number of at most six digits from b[at:].
func digits(b []byte, at int) (n, end int) {
	for end = at; end < len(b) && end < at+6 && b[end] >= '0' && b[end] <= '9'; end++ {
		n = n*10 + int(b[end]-'0')
	}
	return n, end
}

// trust says that the request which the last read gave away was answered with a
// decision: the next with the same head is plain.
func (c *conn) trust() {
	if len(c.seen.text) > 0 {
		c.head, c.seen = c.seen, c.head
		c.seen.text = c.seen.text[:0]
	}
}

// plainly answers b if that is a plain decision; else b is fasthttp's.
func (c *conn) plainly(b []byte) (answered bool, err error) {
	s := c.server
	body := c.head.body(b)
	if body == nil {
		c.seen.read(b)
		return false, nil
	}
	c.seen.text = c.seen.text[:0]
	if s.draining.Load() || len(body) > s.opts.DecideBytes {
		return false, nil
	}
	if !c.state.CompareAndSwap(connFree, connBusy) {
		return false, net.ErrClosed
	}
	answered, err = s.decidePlain(c, body, nil)
	if !c.state.CompareAndSwap(connBusy, connFree) {
		_ = c.Conn.Close()
		return false, net.ErrClosed
	}
	return answered, err
}

// decidePlain decides and writes the reply. It gives false, and has done nothing,
// for a body with a fault and for a request too many. waits, if not nil, is called
// when the decision has to wait for the disk.
func (s *Server) decidePlain(c *conn, body []byte, waits func()) (answered bool, err error) {
	began := time.Now()
	if s.inFlight.Add(1) > s.admission.limit.Load() {
		s.inFlight.Add(-1)
		return false, nil
	}
	r := s.requests.Get().(*request)
	r.route, r.held = &s.routes[0], true
	defer s.leave(r)
	defer func() {
		if v := recover(); v != nil {
			answered, err = false, s.endPlain(c, v)
		}
	}()
	w := &r.work
	if w.decoder.Decide(body, &w.request) != nil {
		return false, nil
	}
	w.request.Waits = waits
	reply, status := s.plainReply(w)
	s.inFlight.Add(-1) // a client that reads slowly takes no place
	r.held = false
	ended := time.Now()
	s.observe(r.route, status, began, ended)
	return true, c.send(reply, ended)
}

// send writes a reply, and lets the connection be idle from now on.
func (c *conn) send(reply []byte, now time.Time) error {
	if c.loan != nil {
		return c.loan.reply(c, reply, now)
	}
	if err := c.SetWriteDeadline(now.Add(c.server.opts.WriteTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(reply); err != nil {
		return err
	}
	return c.SetReadDeadline(now.Add(c.server.opts.IdleTimeout))
}

// plainReply decides what w asks for and makes the whole reply, head and body, in
// the memory of w.
func (s *Server) plainReply(w *work) (reply []byte, status int) {
	s.slowly.wait()
	if err := s.engine.Decide(&w.request, &w.decision); err != nil {
		p, retry := s.problemOf(err, decideRoute)
		return w.problemReply(p, retry), p.Status
	}
	if cap(w.reply) < headRoom {
		w.reply = make([]byte, headRoom, 4*headRoom)
	}
	d := &w.decision
	w.reply = wire.AppendDecision(w.reply[:headRoom], d)
	var room [headRoom]byte
	h := append(room[:0], "HTTP/1.1 200 OK\r\nServer: tact\r\nContent-Type: application/json\r\n"+
		"Content-Length: "...)
	h = strconv.AppendInt(h, int64(len(w.reply)-headRoom), 10)
	if d.Durability != "" {
		h = append(append(h, "\r\nTact-Durability: "...), d.Durability...)
	}
	if d.Replayed {
		h = append(h, "\r\nIdempotent-Replay: true"...)
	}
	h = append(h, "\r\n\r\n"...)
	reply = w.reply[headRoom-len(h):]
	copy(reply, h)
	return reply, fasthttp.StatusOK
}

// endPlain answers a decision that panicked; the connection ends with it.
func (s *Server) endPlain(c *conn, v any) error {
	p := s.panicked(v, decideRoute)
	s.metrics.observe(&s.routes[0], p.Status, 0)
	reply := (&work{}).problemReply(p, 0)
	return errors.Join(net.ErrClosed, c.send(reply, time.Now()))
}

// problemReply makes the whole reply a problem document.
func (w *work) problemReply(p wire.Problem, retry int64) []byte {
	p.Title = fasthttp.StatusMessage(p.Status)
	body := wire.AppendProblem(nil, &p)
	h := append(w.reply[:0], "HTTP/1.1 "...)
	h = strconv.AppendInt(h, int64(p.Status), 10)
	h = append(append(append(h, ' '), p.Title...), "\r\nServer: tact\r\n"+
		"Content-Type: application/problem+json\r\nContent-Length: "...)
	h = strconv.AppendInt(h, int64(len(body)), 10)
	if after := retryHeader(p.Status, retry); after != "" {
		h = append(append(h, "\r\nRetry-After: "...), after...)
	}
	w.reply = append(append(h, "\r\n\r\n"...), body...)
	return w.reply
}
