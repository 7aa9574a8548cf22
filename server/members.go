package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"tact/engine"
	"tact/server/wire"
)

// upload is a list of members on its way into a fill: lines of NDJSON or CSV.
type upload struct {
	fill  *engine.Fill
	mode  engine.FillMode
	csv   bool
	end   wire.MembersEnd
	first bool // no line was taken yet
	ended bool // the last line of the reply was made

	malformed *wire.LineError // the first line that says nobody's id
	unknown   *wire.LineError // the first line whose id nobody has
}

// refuse counts a line whose id cannot be read and keeps the first.
func (u *upload) refuse(line int, fault wire.LineError) {
	u.end.Lines++
	u.end.Rejected++
	if u.malformed == nil {
		u.malformed = atLine(line, fault)
	}
}

// atLine names the line in a fault that is told of the whole list.
func atLine(line int, fault wire.LineError) *wire.LineError {
	fault.Detail = fmt.Sprintf("nobody was moved: line %d: %s", line, fault.Detail)
	return &fault
}

// fault says why a list must not replace the members: a line of it cannot be
// read, so that somebody would be taken out who is perhaps meant by it; or it
// names people and none of them is known. nil: it may.
func (u *upload) fault() *wire.LineError {
	switch {
	case u.mode != engine.FillReplace:
		return nil
	case u.malformed != nil:
		return u.malformed
	case u.end.Lines > 0 && u.end.Lines == u.end.Unknown:
		return u.unknown
	}
	return nil
}

// uploadMembers answers a list of ids with a line for each that
// was refused and one that says what has changed. The people are gathered while
// the body is read, and moved when it has come to its end: all of those that are
// known, or, when the body is cut or must not replace the members, nobody.
func (s *Server) uploadMembers(r *request, mode engine.FillMode) {
	kind := r.ctx.Request.Header.ContentType()
	if !isBulk(kind) && !isCSV(kind) {
		s.problem(r.ctx, wire.Problem{
			Status: 415, Code: "unsupported_media_type",
			Detail: "send Content-Type: application/x-ndjson or text/csv",
		})
		return
	}
	id, ok := s.segmentID(r)
	if !ok {
		return
	}
	fill, err := s.engine.BeginFill(id)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	s.readLines(r, &lines{
		batch:  s.engine.Begin(),
		upload: &upload{fill: fill, mode: mode, csv: isCSV(kind), first: true},
	})
}

// take gathers the person of one line; a fault is the line's. malformed: it is
// not that nobody has the id.
func (u *upload) take(r *request, line int, text []byte) (fault *wire.LineError, malformed bool) {
	first := u.first
	u.first = false
	id := text
	if u.csv {
		if id, fault = csvField(text, first); fault != nil {
			return fault, true
		}
		if first && string(id) == "user_id" {
			return nil, false // the header
		}
	} else {
		var fault *wire.Fault
		if id, fault = r.work.decoder.Member(text); fault != nil {
			return &wire.LineError{Code: fault.Code, Field: fault.Field, Detail: fault.Detail}, true
		}
	}
	err := u.fill.Add(id)
	if err == nil {
		u.end.Lines++
		return nil, false
	}
	var p *engine.Problem
	if !errors.As(err, &p) {
		p = &engine.Problem{Code: "internal", Detail: "see the server's log"}
	}
	fault = &wire.LineError{Code: p.Code, Field: p.Field, Detail: p.Detail}
	if p.Class != engine.ProblemMissing {
		return fault, true
	}
	u.end.Lines++
	u.end.Unknown++
	if u.unknown == nil {
		u.unknown = atLine(line, *fault)
	}
	return fault, false
}

// csvField gives the first field of a line; first: the line may begin with a mark
// of UTF-8.
func csvField(text []byte, first bool) ([]byte, *wire.LineError) {
	if first {
		text = bytes.TrimPrefix(text, []byte(utf8Mark))
	}
	if bytes.IndexByte(text, '"') < 0 {
		id, _, _ := bytes.Cut(text, []byte{','})
		return bytes.TrimSpace(id), nil
	}
	record, err := splitCSV(nil, text)
	if err != nil || len(record) == 0 {
		return nil, &wire.LineError{
			Code: wire.CodeInvalidValue, Detail: "not a line of CSV; a field has no line feeds here",
		}
	}
	return []byte(record[0]), nil
}

// endUpload moves the people and writes the last line of the reply.
func (l *lines) endUpload() {
	u := l.upload
	u.ended = true
	if !errors.Is(l.end, io.EOF) {
		u.end.Err = &wire.LineError{
			Code: wire.CodeTruncated, Detail: "the list did not come to its end: nobody was moved",
		}
	} else if fault := u.fault(); fault != nil {
		u.end.Err = fault
	} else if out, err := u.fill.Commit(u.mode, l.server.opts.CommitTimeout); err != nil {
		e := l.server.lineError(err)
		u.end.Err = &e
	} else {
		u.end.Result = out
	}
	l.reply = append(wire.AppendMembersEnd(l.r.work.reply[:0], &u.end), '\n')
	l.r.work.reply = l.reply
}
