package server

import (
	"bytes"
	"errors"
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
}

// uploadMembers answers a list of ids with a line for each that
// was refused and one that says what has changed. The people are gathered while
// the body is read, and moved when it has come to its end: all of those that are
// known, or, when the body is cut, nobody.
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

// take gathers the person of one line; a fault is the line's.
func (u *upload) take(r *request, text []byte) *wire.LineError {
	first := u.first
	u.first = false
	id := text
	if u.csv {
		var fault *wire.LineError
		if id, fault = csvField(text, first); fault != nil {
			u.end.Rejected++
			return fault
		}
		if first && string(id) == "user_id" {
			return nil // the header
		}
	} else {
		var fault *wire.Fault
		if id, fault = r.work.decoder.Member(text); fault != nil {
			u.end.Lines++
			u.end.Rejected++
			return &wire.LineError{Code: fault.Code, Field: fault.Field, Detail: fault.Detail}
		}
	}
	u.end.Lines++
	err := u.fill.Add(id)
	if err == nil {
		return nil
	}
	var p *engine.Problem
	if !errors.As(err, &p) {
		p = &engine.Problem{Code: "internal", Detail: "see the server's log"}
	}
	if p.Class == engine.ProblemMissing {
		u.end.Unknown++
	} else {
		u.end.Rejected++
	}
	return &wire.LineError{Code: p.Code, Field: p.Field, Detail: p.Detail}
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
	} else if out, err := u.fill.Commit(u.mode, l.server.opts.CommitTimeout); err != nil {
		e := l.server.lineError(err)
		u.end.Err = &e
	} else {
		u.end.Result = out
	}
	l.reply = append(wire.AppendMembersEnd(l.r.work.reply[:0], &u.end), '\n')
	l.r.work.reply = l.reply
}
