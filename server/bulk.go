package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tact/engine"
	"tact/server/wire"
)

// Bounds of one commit of a bulk body.
const (
	maxLines      = 1024
	maxGroupBytes = 1 << 20
	readChunk     = 64 << 10
)

// errAborted ends a bulk reply whose request cannot be read on.
var errAborted = errors.New("bulk request aborted")

// lines is a bulk request at work: fasthttp reads the reply from it, and it
// reads the body as far as the next group of lines needs. Both happen in the
// connection's goroutine.
type lines struct {
	server *Server
	r      *request
	kind   kind
	key    []byte // Idempotency-Key, or empty

	body    *bodyReader
	text    io.Reader // body, unpacked
	free    func()    // of text
	left    int64     // unpacked bytes still allowed
	batch   *engine.Batch
	group   []lineReply // lines applied since the last commit
	bytes   int         // of these lines
	line    int         // number of the last line taken, from 1
	start   int         // of what is unread in r.work.body
	end     error       // why there is no more text
	long    bool        // the rest of a line that was too long is being skipped
	closed  bool
	bounded bool // the lines may be answered before they are durable

	ahead  eventsAhead
	upload *upload // a list of members instead of documents; or nil

	reply []byte // produced, not yet read
}

// lineReply is the result of one line on its way out.
type lineReply struct {
	line int
	res  engine.LineResult
	err  wire.LineError
}

// ingestLines answers a body of many lines with one result a line.
func (s *Server) ingestLines(r *request, l *lines) {
	l.batch = s.engine.Begin()
	s.readLines(r, l)
}

// ingestBatch is ingestLines into a batch that was begun.
func (s *Server) ingestBatch(r *request, k kind, key []byte, batch *engine.Batch) {
	s.readLines(r, &lines{kind: k, key: append([]byte(nil), key...), batch: batch})
}

// readLines makes l, which says what the lines are, the reply.
func (s *Server) readLines(r *request, l *lines) {
	r.work.source = bodyReader{ctx: r.ctx}
	body := &r.work.source
	text, free, err := unpack(body, string(r.ctx.Request.Header.ContentEncoding()))
	if errors.Is(err, errCoding) {
		r.ctx.Response.Header.Set("Accept-Encoding", "gzip, zstd")
		s.problem(r.ctx, wire.Problem{
			Status: 415, Code: "unsupported_encoding", Detail: "Content-Encoding: gzip, zstd or none",
		})
		return
	}
	if err != nil {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: "bad_encoding", Detail: "the body is not what Content-Encoding says",
		})
		return
	}
	r.work.body = r.work.body[:0]
	l.server, l.r, l.body, l.text, l.free = s, r, body, text, free
	l.left = s.opts.UnpackedBytes
	if l.upload == nil && l.refused() {
		return
	}
	r.ctx.SetContentType("application/x-ndjson")
	r.ctx.Response.Header.Set(durabilityHeader, durabilityStrict)
	if l.bounded { // or more: a group of lines waits when the disk is late
		r.ctx.Response.Header.Set(durabilityHeader, durabilityBounded)
	}
	r.streams = true
	r.ctx.Response.SetBodyStream(l, -1)
}

// refused takes the first group of lines, while the reply can still have a status.
// When none of them was taken and the disk is full, nothing of the body is, and the
// answer is the problem of the first line that was refused for it.
func (l *lines) refused() (refused bool) {
	refused = true // also by a panic
	defer func() {
		if refused {
			l.free()
		}
	}()
	l.fillGroup()
	full := l.noRoom()
	if full == nil {
		l.commit()
		return false
	}
	l.server.problem(l.r.ctx, wire.Problem{
		Status: fasthttp.StatusInsufficientStorage, Code: full.Code,
		Detail: full.Detail + "; nothing of the body was taken: send it again when there is room",
	})
	return true
}

// noRoom is the first line that the full disk refused, of a group of which no line
// was taken; else nil.
func (l *lines) noRoom() (full *wire.LineError) {
	for i := range l.group {
		g := &l.group[i]
		if g.res.Status != engine.LineRejected {
			return nil
		}
		if full == nil && g.err.Code == codeDiskFull {
			full = &g.err
		}
	}
	return full
}

// codeDiskFull is the engine's code of what is refused for want of room on the disk.
const codeDiskFull = "disk_full"

// Read produces the results of the next group of lines when the last are read.
func (l *lines) Read(p []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			l.server.log.Error("panic in a bulk request", "panic", v, "stack", string(debug.Stack()))
			n, err = 0, errAborted
		}
	}()
	for len(l.reply) == 0 {
		if l.end != nil && l.start == len(l.r.work.body) {
			if l.upload != nil && !l.upload.ended {
				l.endUpload()
				break
			}
			return 0, l.finish()
		}
		l.fillGroup()
		l.commit()
	}
	n = copy(p, l.reply)
	l.reply = l.reply[n:]
	_ = l.r.ctx.Conn().SetWriteDeadline(time.Now().Add(l.server.opts.BulkIdle))
	return n, nil
}

// finish brings the body to its end, so that no byte of it is taken for the next
// request, and gives the error that ends the reply: io.EOF, or errAborted when
// only a broken reply can close the connection.
func (l *lines) finish() error {
	rest := l.r.work.rest[:]
	if l.body.end == nil {
		// The reading stopped before the body did: at the end of what was packed,
		// at a fault in it, or at a limit.
		_ = l.r.ctx.Conn().SetReadDeadline(time.Now().Add(drainWait))
		for n := 0; l.body.end == nil && n < maxDrain; {
			more, _ := l.body.Read(rest)
			n += more
		}
	}
	if errors.Is(l.body.end, io.EOF) {
		return io.EOF
	}
	// From here on the connection gives nothing; what fasthttp has read ahead
	// is taken out of its buffer.
	endReading(l.r.ctx)
	for l.body.end == nil {
		_, _ = l.body.Read(rest)
	}
	var timeout net.Error
	if errors.Is(l.body.end, net.ErrClosed) || errors.Is(l.body.end, io.ErrUnexpectedEOF) ||
		errors.As(l.body.end, &timeout) {
		return io.EOF
	}
	return errAborted // the framing of the body is broken
}

// Close gives the request back. fasthttp calls it when the reply is written or
// cannot be.
func (l *lines) Close() error {
	if l.closed {
		return nil
	}
	l.closed = true
	l.free()
	l.server.leave(l.r)
	return nil
}

// fillGroup takes lines until a commit is due.
func (l *lines) fillGroup() {
	l.reply = l.r.work.reply[:0]
	l.group, l.bytes = l.group[:0], 0
	for len(l.group) < maxLines && l.bytes < maxGroupBytes {
		text, ok := l.next()
		if !ok {
			break
		}
		l.take(text)
	}
	l.applyEvents()
}

// next gives the next line without its end; false when there is none.
func (l *lines) next() ([]byte, bool) {
	w := &l.r.work
	scanned := l.start
	for {
		if i := bytes.IndexByte(w.body[scanned:], '\n'); i >= 0 {
			text := w.body[l.start : scanned+i]
			l.start = scanned + i + 1
			l.line++
			if l.long {
				l.long = false
				l.line--
				scanned = l.start
				continue
			}
			return text, true
		}
		scanned = len(w.body)
		if l.end != nil {
			return l.last()
		}
		if len(w.body)-l.start > l.server.opts.LineBytes {
			l.tooLong()
			scanned = 0
		}
		scanned -= l.start
		l.more()
		scanned += l.start
	}
}

// tooLong rejects the line that is being read and skips the rest of it.
func (l *lines) tooLong() {
	if !l.long {
		l.long = true
		l.line++
		l.reject(wire.LineError{
			Code:   "too_large",
			Detail: "the line exceeds " + strconv.Itoa(l.server.opts.LineBytes) + " bytes",
		})
	}
	l.r.work.body = l.r.work.body[:0]
	l.start = 0
}

// last gives what stands behind the last line feed: a line when the body came
// to its end, else a line that was cut, which is rejected.
func (l *lines) last() ([]byte, bool) {
	w := &l.r.work
	text := w.body[l.start:]
	l.start = len(w.body)
	if errors.Is(l.end, io.EOF) {
		if len(text) == 0 || l.long {
			return nil, false
		}
		l.line++
		return text, true
	}
	if !l.long {
		l.line++
		l.reject(l.cutError())
	}
	return nil, false
}

func (l *lines) cutError() wire.LineError {
	switch {
	case errors.Is(l.end, errTooLarge):
		return wire.LineError{
			Code: "too_large", Detail: fmt.Sprintf("the unpacked body exceeds %d bytes; "+
				"the lines before this one were taken", l.server.opts.UnpackedBytes),
		}
	case l.body.end == nil || errors.Is(l.body.end, io.EOF):
		return wire.LineError{
			Code: "bad_encoding", Detail: "the packed body is damaged from here on; " +
				"the lines before this one were taken",
		}
	}
	return wire.LineError{
		Code: wire.CodeTruncated, Detail: "the body ends inside this line or before it; " +
			"the lines before this one were taken",
	}
}

// more reads the next piece of text behind what is unread.
func (l *lines) more() {
	l.applyEvents() // what is gathered borrows from the text
	w := &l.r.work
	if l.start > 0 {
		n := copy(w.body, w.body[l.start:])
		w.body, l.start = w.body[:n], 0
	}
	if cap(w.body)-len(w.body) < readChunk {
		grown := make([]byte, len(w.body), max(2*cap(w.body), len(w.body)+readChunk))
		copy(grown, w.body)
		w.body = grown
	}
	_ = l.r.ctx.Conn().SetReadDeadline(time.Now().Add(l.server.opts.BulkIdle))
	n, err := l.text.Read(w.body[len(w.body) : len(w.body)+readChunk])
	w.body = w.body[:len(w.body)+n]
	if l.left -= int64(n); l.left < 0 && err == nil {
		err = errTooLarge
	}
	l.end = err
}

// take applies one line to the batch.
func (l *lines) take(text []byte) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return
	}
	if len(text) > l.server.opts.LineBytes {
		l.reject(wire.LineError{
			Code:   "too_large",
			Detail: "the line exceeds " + strconv.Itoa(l.server.opts.LineBytes) + " bytes",
		})
		return
	}
	if l.upload != nil {
		l.bytes += len(text)
		switch fault, malformed := l.upload.take(l.r, l.line, text); {
		case malformed:
			l.reject(*fault)
		case fault != nil:
			l.answer(*fault)
		}
		return
	}
	if l.kind == kindTag && l.r.work.tag.columns == nil {
		if err := l.r.work.tag.header(text); err.Code != "" {
			l.reject(err)
			l.stop()
		}
		return
	}
	if l.kind == kindEvent {
		l.takeEvent(text)
		return
	}
	var key []byte
	if len(l.key) > 0 {
		key = strconv.AppendInt(append(l.key, ':'), int64(l.line), 10)
	}
	res, fault := l.r.work.apply(l.batch, l.kind, text, key)
	out := lineReply{line: l.line, res: res}
	switch {
	case fault != nil:
		out.err = wire.LineError{Code: fault.Code, Field: fault.Field, Detail: fault.Detail}
	case res.Status == engine.LineRejected:
		out.err = l.server.lineError(res.Err)
	}
	l.group = append(l.group, out)
	l.bytes += len(text)
}

// stop takes no further line: the rest of the body is read and left out.
func (l *lines) stop() {
	l.end = io.EOF
	l.r.work.body, l.start = l.r.work.body[:0], 0
}

// reject refuses the current line, which cannot be read. Nothing is applied.
func (l *lines) reject(err wire.LineError) {
	if l.upload != nil {
		l.upload.refuse(l.line, err)
	}
	l.answer(err)
}

// answer says that nothing was applied of the current line.
func (l *lines) answer(err wire.LineError) {
	l.group = append(l.group, lineReply{
		line: l.line, res: engine.LineResult{Status: engine.LineRejected}, err: err,
	})
}

// commit makes the group durable and writes its results. When it is not known
// to be durable in time, each of its lines that was not rejected is in doubt.
func (l *lines) commit() {
	if len(l.group) == 0 {
		return
	}
	var doubt *wire.LineError
	_, err := commitBatch(l.batch, l.bounded, l.server.opts.CommitTimeout)
	if err != nil {
		e := l.server.lineError(err)
		doubt = &e
	}
	for i := range l.group {
		g := &l.group[i]
		if doubt != nil && g.res.Status != engine.LineRejected {
			l.reply = wire.AppendInDoubt(l.reply, g.line, *doubt)
			continue
		}
		l.reply = wire.AppendLine(l.reply, g.line, g.res, g.err)
	}
	l.r.work.reply = l.reply
}
