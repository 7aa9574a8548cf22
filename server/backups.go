package server

import (
	"strconv"

	"tact/engine"
	"tact/server/wire"
)

// backupRoutes are the operations on backups.
func backupRoutes() []Route {
	return []Route{
		{Method: "POST", Path: "/v1/backups", class: classQuick, handle: (*Server).startBackup},
		{Method: "GET", Path: "/v1/backups", class: classQuick, handle: (*Server).backup},
	}
}

// startBackup answers POST /v1/backups.
func (s *Server) startBackup(r *request) {
	query, ok := s.query(r, "to", "full", "bytes_per_second")
	if !ok {
		return
	}
	doc := engine.BackupDoc{To: string(query.Peek("to"))}
	faulty := ""
	switch full := string(query.Peek("full")); full {
	case "", "false", "true":
		doc.Full = full == "true"
	default:
		faulty = "full"
	}
	if rate := query.Peek("bytes_per_second"); len(rate) > 0 {
		n, err := strconv.ParseInt(string(rate), 10, 64)
		if err != nil || n < 0 {
			faulty = "bytes_per_second"
		}
		doc.Rate = n
	}
	if faulty != "" {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: faulty,
			Detail: "full is true or false, bytes_per_second a whole number that is not negative",
		})
		return
	}
	view, err := s.engine.StartBackup(doc)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	reply(r.ctx, wire.AppendBackup(nil, &view))
	r.ctx.SetStatusCode(202)
}

// backup answers GET /v1/backups.
func (s *Server) backup(r *request) {
	if _, ok := s.query(r); !ok {
		return
	}
	view := s.engine.Backup()
	reply(r.ctx, wire.AppendBackup(nil, &view))
}
