package server

import (
	"iter"
	"time"

	"tact/engine"
	"tact/server/wire"
)

// purgeWait is how long POST /v1/erasures:purge waits.
const purgeWait = 20 * time.Second

// eraseUser answers DELETE /v1/users/{id}.
func (s *Server) eraseUser(r *request) {
	whom, ok := s.whom(r)
	if !ok {
		return
	}
	doc := engine.EraseDoc{UserID: whom.UserID}
	if whom.UserID == nil {
		doc.Identities = []engine.IdentityRef{whom.Identity}
	}
	batch := s.engine.Begin()
	receipt, err := batch.Erase(&doc)
	if err == nil {
		err = batch.Commit(s.opts.CommitTimeout)
	}
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.ctx.Response.Header.Set("Tact-Durability", "strict")
	r.work.reply = wire.AppendReceipt(r.work.reply[:0], &receipt)
	reply(r.ctx, r.work.reply)
}

// eraseUsers answers POST /v1/users:erase: each person is erased or has an error.
func (s *Server) eraseUsers(r *request) {
	if !s.wantJSON(r) {
		return
	}
	body, ok := s.readBody(r, s.opts.LineBytes)
	if !ok {
		return
	}
	docs, fault := r.work.decoder.Erase(body)
	if fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	batch := s.engine.Begin()
	done := make([]wire.Erased, len(docs))
	for i := range docs {
		receipt, err := batch.Erase(&docs[i])
		if err != nil {
			line := s.lineError(err)
			done[i].Err = &line
			continue
		}
		done[i].Receipt = receipt
	}
	if err := batch.Commit(s.opts.CommitTimeout); err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.ctx.Response.Header.Set("Tact-Durability", "strict")
	r.work.reply = wire.AppendErased(r.work.reply[:0], done)
	reply(r.ctx, r.work.reply)
}

// erasure answers GET /v1/erasures/{receipt}.
func (s *Server) erasure(r *request) {
	id, err := engine.ReceiptID(r.param)
	var receipt *engine.Receipt
	if err == nil {
		receipt, err = s.engine.Receipt(id)
	}
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.work.reply = wire.AppendReceipt(r.work.reply[:0], receipt)
	reply(r.ctx, r.work.reply)
}

// ledgerPiece is how many entries of the ledger are read together.
const ledgerPiece = 256

// erasures answers GET /v1/erasures: the ledger, a line an entry.
func (s *Server) erasures(r *request) {
	if _, ok := s.query(r); !ok {
		return
	}
	var last *engine.ErasedPerson
	end := wire.LedgerEnd{Store: s.engine.StoreID()}
	s.streamLines(r, func(dst []byte) ([]byte, bool, error) {
		n := 0
		err := s.engine.Erasures(last, func(p *engine.ErasedPerson) bool {
			dst = wire.AppendErasedPerson(dst, p)
			if n++; n == ledgerPiece {
				last = new(*p)
			}
			return n < ledgerPiece
		})
		end.Erasures += int64(n)
		if err != nil || n == ledgerPiece {
			return dst, err != nil, err
		}
		end.Names, err = s.engine.NamesGone()
		return wire.AppendLedgerEnd(dst, &end), true, err
	}, func() {})
}

// purge answers POST /v1/erasures:purge.
func (s *Server) purge(r *request) {
	if _, ok := s.query(r); !ok {
		return
	}
	if err := s.engine.Purge(purgeWait); err != nil {
		s.fail(r.ctx, err)
		return
	}
	reply(r.ctx, []byte(`{"status":"purged"}`))
}

// exportUser answers GET /v1/users/{id}/export.
func (s *Server) exportUser(r *request) {
	whom, ok := s.whom(r)
	if !ok {
		return
	}
	x, err := s.engine.ExportPerson(whom)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	p := &personPieces{export: x}
	var endEvents, endDecisions func()
	p.event, endEvents = iter.Pull2(x.Events())
	p.decision, endDecisions = iter.Pull2(x.Decisions())
	s.streamReply(r, "application/json", true, p.piece).end = func() {
		endEvents()
		endDecisions()
	}
}

// personPieces gives everything that is held of a person, piece by piece.
type personPieces struct {
	export   *engine.PersonExport // nil: given
	event    func() (*engine.LoggedEvent, error, bool)
	decision func() (*engine.LoggedDecision, error, bool)
	events   bool // given
}

func (p *personPieces) piece(dst []byte) ([]byte, bool, error) {
	if p.export != nil {
		dst, p.export = wire.AppendExport(dst, p.export), nil
	}
	for len(dst) < pieceBytes {
		if !p.events {
			v, err, more := p.event()
			switch {
			case err != nil:
				return dst, true, err
			case !more:
				dst, p.events = wire.AppendExportDecisions(dst), true
			case !v.Unreadable:
				dst = wire.AppendExportEvent(dst, v)
			}
			continue
		}
		v, err, more := p.decision()
		if err != nil {
			return dst, true, err
		}
		if !more {
			return wire.AppendExportEnd(dst), true, nil
		}
		dst = wire.AppendExportDecision(dst, v)
	}
	return dst, false, nil
}
