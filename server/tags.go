package server

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"tact/engine"
	"tact/server/wire"
)

const (
	// bitmapBytes bounds a bitmap of members, which is held whole so that a broken
	// one changes nothing: about 16 million scattered people.
	bitmapBytes = 32 << 20
	// utf8Mark is what some programs begin a CSV file with.
	utf8Mark = "\xef\xbb\xbf"
	// maxErrors bounds the rejected ids that a list's reply names.
	maxErrors = 1000
)

// tags answers GET /v1/tags, filtered by namespace.
func (s *Server) tags(r *request) {
	query, ok := s.query(r, "namespace")
	if !ok {
		return
	}
	all := s.engine.TagCounts()
	if space := string(query.Peek("namespace")); space != "" {
		all = slices.DeleteFunc(all, func(c engine.TagCount) bool { return c.Namespace != space })
	}
	r.work.reply = wire.AppendTagCounts(r.work.reply[:0], all)
	reply(r.ctx, r.work.reply)
}

// tag answers GET /v1/tags/{id}.
func (s *Server) tag(r *request) {
	name, ok := s.pathParam(r, "id")
	if !ok {
		return
	}
	c, err := s.engine.TagCount(name)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.work.reply = wire.AppendTagCount(r.work.reply[:0], &c)
	reply(r.ctx, r.work.reply)
}

// tagMembers answers POST /v1/tags/{id}/members: a list of ids as JSON, a CSV
// file, or a bitmap of ordinals.
func (s *Server) tagMembers(r *request) {
	name, ok := unescape(nil, r.param)
	if !ok || len(name) > 256 {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: "id",
			Detail: "must have 1 to 256 bytes, percent-encoded",
		})
		return
	}
	doc, clear, ok := s.tagQuery(r)
	if !ok {
		return
	}
	doc.Name = name
	key, ok := s.idempotencyKey(r, kindTag)
	if !ok {
		return
	}
	kind := r.ctx.Request.Header.ContentType()
	u := tagUpload{clear: clear, doc: doc, key: bytes.Clone(key), batch: s.engine.Begin()}
	var err error
	if u.change, err = u.batch.TagChange(&doc, clear); err != nil {
		s.fail(r.ctx, err)
		return
	}
	switch {
	case isCSV(kind):
		r.work.tag = u
		s.ingestBatch(r, kindTag, u.key, u.batch)
	case mediaType(kind, "application/octet-stream"):
		s.tagBitmap(r, &u)
	case mediaType(kind, "application/json"):
		s.tagList(r, &u)
	default:
		s.problem(r.ctx, wire.Problem{
			Status: 415, Code: "unsupported_media_type", Detail: "send application/json (a list of " +
				"ids), text/csv, or application/octet-stream (a bitmap)",
		})
	}
}

func isCSV(contentType []byte) bool { return mediaType(contentType, "text/csv") }

// tagQuery reads what is said of all people of a bulk change.
func (s *Server) tagQuery(r *request) (doc engine.TagDoc, clear, ok bool) {
	query, ok := s.query(r, "action", "is", "ttl", "expires_at", "source")
	if !ok {
		return doc, false, false
	}
	bad := func(field, detail string) (engine.TagDoc, bool, bool) {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: field, Detail: detail,
		})
		return engine.TagDoc{}, false, false
	}
	switch action := string(query.Peek("action")); action {
	case "", "add":
	case "remove":
		clear = true
	default:
		return bad("action", "must be add or remove")
	}
	doc = engine.TagDoc{
		Is: bytes.Clone(query.Peek("is")), TTL: bytes.Clone(query.Peek("ttl")),
		Source: bytes.Clone(query.Peek("source")),
	}
	if at := query.Peek("expires_at"); len(at) > 0 {
		ms, good := wire.ParseTime(at)
		if !good {
			return bad("expires_at", "must be an RFC 3339 time with its zone")
		}
		setMsec(&doc.ExpiresAt, ms)
	}
	if clear && (len(doc.Is) > 0 || len(doc.TTL) > 0 || doc.ExpiresAt != 0) {
		return bad("action", "what is removed has no value and no end")
	}
	if len(doc.Source) == 0 {
		doc.Source = []byte("import")
	}
	return doc, clear, true
}

// tagUpload is a bulk change of a tag on its way.
type tagUpload struct {
	batch   *engine.Batch
	change  *engine.TagChange
	doc     engine.TagDoc
	clear   bool
	key     []byte
	columns []string // of a CSV file; nil = its header is not read yet
	fields  []string // of a line
	text    []byte   // of a line's question
}

// header reads the first line of a CSV file: user_id, and is and expires_at where
// lines differ in them.
func (u *tagUpload) header(line []byte) wire.LineError {
	names, err := splitCSV(nil, bytes.TrimPrefix(line, []byte(utf8Mark)))
	if err != nil {
		return wire.LineError{Code: "invalid_csv", Detail: err.Error()}
	}
	known := []string{"user_id", "is", "expires_at"}
	for i, name := range names {
		if !slices.Contains(known, name) || slices.Contains(names[:i], name) {
			return wire.LineError{
				Code: wire.CodeUnknownField, Field: name,
				Detail: "the header names user_id, and is and expires_at where needed, each once",
			}
		}
	}
	if !slices.Contains(names, "user_id") {
		return wire.LineError{
			Code: "missing_field", Field: "user_id", Detail: "the first line is the header, with user_id",
		}
	}
	u.columns = names
	return wire.LineError{}
}

// asks sets a line's idempotency key, which is that of the request whoever the
// line's person is, and the hash of the whole question: what is said of all people,
// what the line says, and body, a hash of what else must not differ.
func (u *tagUpload) asks(line *engine.TagLine, body uint64) {
	line.Key = u.key
	if len(u.key) == 0 {
		return
	}
	u.text = u.text[:0]
	for _, part := range [...][]byte{u.doc.Name, u.doc.Is, u.doc.TTL, u.doc.Source, line.Is} {
		u.text = append(binary.LittleEndian.AppendUint32(u.text, uint32(len(part))), part...)
	}
	clear := uint64(0)
	if line.Clear {
		clear = 1
	}
	for _, n := range [...]uint64{
		clear, uint64(u.doc.ExpiresAt), uint64(line.ExpiresAt), body,
	} {
		u.text = binary.LittleEndian.AppendUint64(u.text, n)
	}
	line.BodyHash = uint32(xxh3.Hash(u.text))
}

// apply adds one line of a CSV file to the batch.
func (u *tagUpload) apply(b *engine.Batch, text []byte) (engine.LineResult, *wire.Fault) {
	refused := engine.LineResult{Status: engine.LineRejected}
	var err error
	if u.fields, err = splitCSV(u.fields[:0], text); err != nil {
		return refused, &wire.Fault{Code: "invalid_csv", Detail: err.Error()}
	}
	if len(u.fields) != len(u.columns) {
		return refused, &wire.Fault{
			Code:   "invalid_csv",
			Detail: fmt.Sprintf("%d fields, the header has %d", len(u.fields), len(u.columns)),
		}
	}
	line := engine.TagLine{Clear: u.clear}
	for i, name := range u.columns {
		value := u.fields[i]
		switch name {
		case "user_id":
			line.UserID = []byte(value)
		case "is":
			line.Is = []byte(value)
		case "expires_at":
			if value == "" {
				continue
			}
			ms, ok := wire.ParseTime([]byte(value))
			if !ok {
				return refused, &wire.Fault{
					Code: wire.CodeInvalidValue, Field: "expires_at",
					Detail: "must be an RFC 3339 time with its zone",
				}
			}
			setMsec(&line.ExpiresAt, ms)
		}
	}
	u.asks(&line, 0)
	return b.Tag(u.change, &line), nil
}

// splitCSV appends the fields of one line (RFC 4180, without line breaks inside
// quotes) to dst.
func splitCSV(dst []string, line []byte) ([]string, error) {
	if bytes.IndexByte(line, '"') < 0 {
		for field := range strings.SplitSeq(string(line), ",") {
			dst = append(dst, strings.TrimSpace(field))
		}
		return dst, nil
	}
	fields, err := csv.NewReader(bytes.NewReader(line)).Read()
	if err != nil {
		return dst, fmt.Errorf("not a line of CSV: %w", err)
	}
	return append(dst, fields...), nil
}

// bothWays finds, for a request with a key, who is to be added and removed: what is
// removed has a key of its own, and is refused as the adding was.
func (u *tagUpload) bothWays(m *wire.Members) map[string]engine.LineResult {
	if len(u.key) == 0 || len(m.Add) == 0 || len(m.Remove) == 0 {
		return nil
	}
	both := make(map[string]engine.LineResult, len(m.Remove))
	for _, id := range m.Remove {
		both[string(id)] = engine.LineResult{}
	}
	add := make(map[string]bool, len(m.Add))
	for _, id := range m.Add {
		add[string(id)] = true
	}
	maps.DeleteFunc(both, func(id string, _ engine.LineResult) bool { return !add[id] })
	return both
}

// tagList applies a list of ids, in blocks that become durable one by one.
func (s *Server) tagList(r *request, u *tagUpload) {
	body, ok := s.readBody(r, s.opts.DefinitionBytes)
	if !ok {
		return
	}
	var m wire.Members
	if fault := r.work.decoder.Members(body, &m); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	if u.clear && len(m.Add) > 0 {
		s.problem(r.ctx, wire.Problem{
			Status: 422, Code: wire.CodeInvalidValue, Field: "add",
			Detail: "action=remove takes a list remove",
		})
		return
	}
	hash := xxh3.Hash(body)
	added := u.bothWays(&m)
	var out wire.TagTally
	n := 0
	for _, list := range [...]struct {
		name  string
		ids   [][]byte
		clear bool
	}{{"add", m.Add, false}, {"remove", m.Remove, true}} {
		for i, id := range list.ids {
			line := engine.TagLine{UserID: id, Clear: list.clear}
			u.asks(&line, hash)
			res, both := added[string(id)]
			if both && list.clear {
				line.Key = append(bytes.Clone(u.key), 0)
			}
			if !both || !list.clear || res.Status != engine.LineRejected {
				res = u.batch.Tag(u.change, &line)
			}
			if both && !list.clear {
				added[string(id)] = res
			}
			s.tallyTag(&out, res, list.name+"["+strconv.Itoa(i)+"]")
			if n++; n%maxLines != 0 {
				continue
			}
			if err := u.batch.Commit(s.opts.CommitTimeout); err != nil {
				s.fail(r.ctx, err)
				return
			}
		}
	}
	if err := u.batch.Commit(s.opts.CommitTimeout); err != nil {
		s.fail(r.ctx, err)
		return
	}
	s.replyTally(r, &out)
}

func (s *Server) tallyTag(out *wire.TagTally, res engine.LineResult, at string) {
	switch res.Status {
	case engine.LineApplied:
		out.Applied++
	case engine.LineDuplicate:
		out.Duplicates++
	default:
		if out.Rejected++; len(out.Errors) < maxErrors {
			e := s.lineError(res.Err)
			e.Field = at
			out.Errors = append(out.Errors, e)
		}
	}
}

func (s *Server) replyTally(r *request, out *wire.TagTally) {
	r.ctx.Response.Header.Set("Tact-Durability", "strict")
	r.work.reply = wire.AppendTagTally(r.work.reply[:0], out)
	reply(r.ctx, r.work.reply)
}

// tagBitmap applies a bitmap of ordinals: whole and checked before anything is
// changed.
func (s *Server) tagBitmap(r *request, u *tagUpload) {
	body, ok := s.readBody(r, bitmapBytes)
	if !ok {
		return
	}
	header := &r.ctx.Request.Header
	crc, err := strconv.ParseUint(string(header.Peek("Tact-Crc32c")), 16, 32)
	if err != nil || crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != uint32(crc) {
		s.problem(r.ctx, wire.Problem{
			Status: 422, Code: "bad_crc", Field: "Tact-Crc32c",
			Detail: "must be the CRC-32C of the body, in hexadecimal",
		})
		return
	}
	who, err := s.engine.ReadOrdinals(&engine.OrdinalList{
		Map: header.Peek("Tact-Ordinals"), CRC32: uint32(crc), Data: body,
	}, "body")
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	line := engine.TagLine{Clear: u.clear}
	u.asks(&line, xxh3.Hash(body))
	tally, err := u.batch.TagPeople(u.change, who, &line, s.opts.CommitTimeout)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	s.replyTally(r, &wire.TagTally{
		Applied: tally.Applied, Duplicates: tally.Duplicate, Rejected: tally.Gone,
	})
}

func setMsec[T ~int64](dst *T, ms int64) { *dst = T(ms) }
