package server

import (
	"tact/engine"
	"tact/server/wire"
)

// decideBatch answers POST /v1/decide:batch.
func (s *Server) decideBatch(r *request) {
	body, ok := s.bulkBody(r)
	if !ok {
		return
	}
	var q wire.DecideBatch
	if fault := r.work.decoder.DecideBatch(body, &q); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	batch, err := s.engine.BeginDecisions(&q.Request, q.Prefix)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	b := &batchLines{server: s, batch: batch, users: q.Users, head: &wire.BulkHead{
		At: int64(s.engine.Now()), Revision: batch.Revision(), Users: uint64(len(q.Users)),
	}}
	if !q.HasUsers {
		batch.OnlyKnown()
		if b.a, b.from, err = s.audience(&q.Population); err != nil {
			s.fail(r.ctx, err)
			return
		}
		b.head = s.head(b.a, b.from)
	}
	s.streamReply(r, ndjson, b.a != nil, b.next)
}

// batchLines gives the decisions of a batch, block by block: the next block is
// decided when the last has been taken by the connection.
type batchLines struct {
	server *Server
	batch  *engine.DecisionBatch
	head   *wire.BulkHead
	lines  wire.BatchLines

	users [][]byte // what is left of a list
	a     *engine.Audience
	from  engine.PeoplePos

	ids    [][]byte // of a block of an audience, in buffer
	buffer []byte
	end    wire.BulkEnd
}

func (b *batchLines) next(dst []byte) ([]byte, bool, error) {
	if b.head != nil {
		dst = append(wire.AppendBulkHead(dst, b.head), '\n')
		b.head = nil
	}
	ids, last, err := b.block()
	if err != nil {
		return dst, true, err
	}
	err = b.batch.Decide(ids, func(i int, d *engine.Decision, err error) bool {
		if err != nil {
			b.end.Failed++
			dst = wire.AppendBulkError(dst, ids[i], b.server.lineError(err))
			return true
		}
		b.end.Users++
		dst = b.lines.Append(dst, ids[i], d)
		return true
	})
	if err != nil { // the rest cannot be decided as it was asked for
		return wire.AppendBulkError(dst, nil, b.server.lineError(err)), true, nil
	}
	switch {
	case !last && b.a != nil:
		return wire.AppendCursorLine(dst, b.a.AppendCursor(nil, b.from)), false, nil
	case !last:
		return dst, false, nil
	case b.a != nil:
		b.a.Done()
	}
	return wire.AppendBulkEnd(dst, &b.end), true, nil
}

// block gives the next people; last says that there are no more behind them.
func (b *batchLines) block() (ids [][]byte, last bool, err error) {
	n := b.batch.Block()
	if b.a == nil {
		n = min(n, len(b.users))
		ids, b.users = b.users[:n], b.users[n:]
		return ids, len(b.users) == 0, nil
	}
	b.ids, b.buffer, last = b.ids[:0], b.buffer[:0], true
	err = b.server.engine.EachPerson(b.a.People, b.from,
		func(pos engine.PeoplePos, id []byte) bool {
			from := len(b.buffer)
			b.buffer = append(b.buffer, id...) // ids of before stay in the memory they are in
			b.ids = append(b.ids, b.buffer[from:len(b.buffer):len(b.buffer)])
			b.from = pos.Next()
			last = len(b.ids) < n
			return last
		})
	return b.ids, last, err
}
