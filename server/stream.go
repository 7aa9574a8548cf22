package server

import (
	"errors"
	"io"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"

	"tact/server/wire"
)

// stream is a reply that is made while it is read: fasthttp asks for the next
// piece when the last has been written, in the connection's goroutine. A client
// that reads slowly slows the making; one that has gone ends it.
type stream struct {
	server *Server
	r      *request
	next   func(dst []byte) (piece []byte, done bool, err error)
	long   bool   // it may go on for as long as there are people
	lines  bool   // a line of its own says what breaks it off
	piece  []byte // made, not yet read
	done   bool
	closed bool
	end    func() // called once, when nothing more is asked for; may be nil
}

// pieceBytes is about how much is made at a time.
const pieceBytes = 64 << 10

// streamReply answers with what next gives, piece by piece. next appends to dst
// and says when there is no more; its error breaks the reply off. A long reply,
// over a population, is broken off when the server drains; its cursor would be
// gone with the server. The request is given back when the reply has been written
// or cannot be; the caller may set what else is done then.
func (s *Server) streamReply(
	r *request, kind string, long bool, next func(dst []byte) ([]byte, bool, error),
) *stream {
	r.streams = true
	r.ctx.SetContentType(kind)
	t := &stream{server: s, r: r, next: next, long: long}
	r.ctx.Response.SetBodyStream(t, -1)
	return t
}

// streamLines answers with lines, each of which next gives whole. An error before the
// first of them is a problem document; one behind it is a last line, {"error": …}. end
// is called once, when nothing more is asked for.
func (s *Server) streamLines(
	r *request, next func(dst []byte) ([]byte, bool, error), end func(),
) {
	piece, done, err := next(r.work.reply[:0])
	if err != nil && len(piece) == 0 {
		end()
		s.fail(r.ctx, err)
		return
	}
	again := func(dst []byte) ([]byte, bool, error) {
		if first := piece; first != nil {
			piece = nil
			return first, done, err
		}
		return next(dst)
	}
	t := s.streamReply(r, ndjson, true, again)
	t.lines, t.end = true, end
}

// fill makes the next piece, if the last was taken whole; io.EOF when there is none.
func (t *stream) fill() (err error) {
	defer func() {
		if v := recover(); v != nil {
			t.server.log.Error("panic in a bulk reply", "panic", v, "stack", string(debug.Stack()))
			err = errAborted
		}
	}()
	for len(t.piece) == 0 {
		if t.done {
			return io.EOF
		}
		if t.long && t.server.draining.Load() {
			return errAborted
		}
		if t.piece, t.done, err = t.next(t.r.work.reply[:0]); err != nil {
			t.server.log.Error("bulk reply broken off", "error", err)
			if !t.lines {
				return errAborted
			}
			p, _ := t.server.problemOf(err, t.server.routeOf(t.r.ctx))
			t.piece, t.done = wire.AppendStreamFault(t.piece, p.Code, p.Detail), true
		}
		t.r.work.reply = t.piece
	}
	_ = t.r.ctx.Conn().SetWriteDeadline(time.Now().Add(t.server.opts.BulkIdle))
	return nil
}

// Read implements io.Reader for fasthttp.
func (t *stream) Read(p []byte) (int, error) {
	if err := t.fill(); err != nil {
		return 0, err
	}
	n := copy(p, t.piece)
	t.piece = t.piece[n:]
	return n, nil
}

// SupportsBodyWriteTo lets fasthttp take pieces as they are, in chunks of pieceBytes, in
// place of reading 4 KiB at a time with a system call each.
func (t *stream) SupportsBodyWriteTo() bool { return true }

// WriteTo implements io.WriterTo: all that Read would give.
func (t *stream) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if err := t.fill(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		m, err := w.Write(t.piece[:min(len(t.piece), pieceBytes)])
		n, t.piece = n+int64(m), t.piece[m:]
		if err != nil {
			return n, err
		}
	}
}

// Close gives the request back. fasthttp calls it when the reply is written or
// cannot be.
func (t *stream) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	if t.end != nil {
		t.end()
	}
	t.server.leave(t.r)
	return nil
}

// ndjson is the content type of lines.
const ndjson = "application/x-ndjson"

// setCount sets a header to a number.
func setCount(h *fasthttp.ResponseHeader, name string, n uint64) {
	h.SetBytesV(name, fasthttp.AppendUint(nil, int(n)))
}
