package server

import (
	"bytes"
	"fmt"

	"tact/engine"
	"tact/server/wire"
)

// listEntries answers POST /v1/lists/{id}/entries: the whole body or nothing.
func (s *Server) listEntries(r *request) {
	query, ok := s.query(r, "kind", "encoding", "remove")
	if !ok {
		return
	}
	list, ok := unescape(nil, r.param)
	if !ok {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: "id", Detail: "must be percent-encoded",
		})
		return
	}
	of := listBody{decoder: &r.work.decoder, entry: engine.ListEntry{}}
	contentType := r.ctx.Request.Header.ContentType()
	encoding, remove := string(query.Peek("encoding")), string(query.Peek("remove"))
	switch {
	case isBulk(contentType):
		of.form = listNDJSON
	case mediaType(contentType, "text/plain") && encoding == "sha256":
		of.form = listHex
	case mediaType(contentType, "text/plain"):
		of.form = listPlain
	case mediaType(contentType, "application/octet-stream"):
		of.form = listBinary
	default:
		s.problem(r.ctx, wire.Problem{
			Status: 415, Code: "unsupported_media_type",
			Detail: "send application/x-ndjson, text/plain or application/octet-stream",
		})
		return
	}
	if of.form != listNDJSON {
		of.entry.Kind, ok = engine.ListKindByName(query.Peek("kind"))
		of.entry.Remove = remove == "true"
	}
	field := ""
	switch {
	case of.form == listNDJSON && query.Len() > 0:
		field = "kind, encoding and remove are said on each line"
	case !ok:
		field = "kind must be user, email, phone, push, wechat or wecom"
	case encoding != "" && encoding != "plain" && encoding != "sha256":
		field = "encoding must be plain or sha256"
	case remove != "" && remove != "true" && remove != "false":
		field = "remove must be true or false"
	}
	if field != "" {
		s.problem(r.ctx, wire.Problem{Status: 400, Code: wire.CodeInvalidValue, Detail: field})
		return
	}
	s.editList(r, list, &of)
}

// editList reads the body and edits the list.
func (s *Server) editList(r *request, list []byte, of *listBody) {
	body, ok := s.readBody(r, s.opts.DefinitionBytes)
	if !ok {
		return
	}
	if fault := of.read(body); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	done, err := s.engine.EditList(list, of.entries)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.ctx.Response.Header.Set("Tact-Durability", "strict")
	r.work.reply = wire.AppendListEdited(r.work.reply[:0], len(of.entries), done)
	reply(r.ctx, r.work.reply)
}

// listForm is how a body says its entries.
type listForm uint8

const (
	listNDJSON listForm = iota
	listPlain
	listHex
	listBinary
)

// listBody reads the entries of one body.
type listBody struct {
	form    listForm
	decoder *wire.Decoder
	entry   engine.ListEntry // kind and remove, where the query says them
	entries []engine.ListEntry
}

// read appends the entries of a body. A fault names the line, from 1.
func (l *listBody) read(body []byte) *wire.Fault {
	if l.form == listBinary {
		if len(body)%32 != 0 {
			return &wire.Fault{
				Code: wire.CodeInvalidValue, Detail: "digests have 32 bytes each, all told a multiple",
			}
		}
		for ; len(body) > 0 && len(l.entries) <= engine.MaxListEntries; body = body[32:] {
			l.entry.Digest = [32]byte(body)
			l.entries = append(l.entries, l.entry)
		}
		return l.bound()
	}
	for n := 1; len(body) > 0 && len(l.entries) <= engine.MaxListEntries; n++ {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if fault := l.line(line); fault != nil {
			fault.Field = fmt.Sprintf("lines[%d]", n) + dotted(fault.Field)
			return fault
		}
		l.entries = append(l.entries, l.entry)
	}
	return l.bound()
}

func dotted(field string) string {
	if field == "" {
		return ""
	}
	return "." + field
}

func (l *listBody) line(line []byte) *wire.Fault {
	switch l.form {
	case listPlain:
		return wire.ListValue(line, &l.entry)
	case listHex:
		return wire.ListHex(line, &l.entry)
	}
	return l.decoder.ListEntry(line, &l.entry)
}

func (l *listBody) bound() *wire.Fault {
	if len(l.entries) <= engine.MaxListEntries {
		return nil
	}
	return &wire.Fault{
		Code: wire.CodeInvalidValue, Field: "lines",
		Detail: fmt.Sprintf("at most %d entries a request", engine.MaxListEntries),
	}
}

// lists answers GET /v1/lists.
func (s *Server) lists(r *request) {
	if _, ok := s.query(r); !ok {
		return
	}
	r.work.reply = wire.AppendLists(r.work.reply[:0], s.engine.Lists())
	reply(r.ctx, r.work.reply)
}
