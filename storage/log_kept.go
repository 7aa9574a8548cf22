package storage

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// keptFramesMost bounds the frames that wait in memory for the event log, of all groups.
// What does not fit is read back from Pebble.
const keptFramesMost = 64 << 20

// keptFrames are the last durable frames of a group as they lay in memory: clear, each
// personal part behind the key of its person. The logger takes what it can from here, so
// that it need not read and open what the committer sealed a moment before.
//
// Laws:
//  1. Every durable frame of the group from since on is here.
//  2. A frame is kept before it is told to be durable, in the order of numbers.
//  3. With the frame that erases a person all that is kept of the group goes, and what
//     goes is wiped: at once, or when the pass that still reads it ends.
//
// Cost: a copy of the frame for the committer, 64 MiB at most of a store.
type keptFrames struct {
	mu    sync.Mutex
	since uint64
	list  []keptFrame
	buf   []byte
	read  bool     // a pass reads buf
	stale [][]byte // what it may read of what went meanwhile
}

// keptFrame is one of them; its records are a piece of buf.
type keptFrame struct {
	head     frameHead // but for prev
	from, to int
}

// keptIdle is the room that a group with nothing to keep does not give back.
const keptIdle = 64 << 10

// keptAll are the kept frames of all groups.
type keptAll struct {
	groups []keptFrames
	bytes  atomic.Int64 // room taken by buf of all groups
	most   int64
	taken  atomic.Uint64 // frames that were not read back
}

// open begins with none: what the groups have by now is read from Pebble.
func (k *keptAll) open(groups []*Group, most int64) {
	k.groups, k.most = make([]keptFrames, len(groups)), most
	for i, g := range groups {
		k.groups[i].since = g.durable.Load() + 1
	}
}

// keep adds a frame that is in Pebble by now.
func (k *keptAll) keep(h *frameHead, f *frame) {
	g := &k.groups[h.group]
	g.mu.Lock()
	defer g.mu.Unlock()
	from, to := len(g.buf), len(g.buf)+len(f.buf)
	if f.erases || to > cap(g.buf) && !k.resize(g, max(to, min(2*cap(g.buf), to+(1<<20)))) {
		_ = k.resize(g, 0)
		g.list, g.since = nil, h.number+1
		return
	}
	g.buf = append(g.buf, f.buf...)
	g.list = append(g.list, keptFrame{*h, from, to})
}

// resize moves what is kept of a group to room of another size, and wipes what it lay
// in; of a smaller one only the front has place. false: all groups together have no such
// room, and nothing is done.
func (k *keptAll) resize(g *keptFrames, room int) bool {
	more := int64(room - cap(g.buf))
	if more > 0 && k.bytes.Load()+more > k.most {
		return false
	}
	k.bytes.Add(more)
	old := g.buf
	g.buf = nil
	if room > 0 {
		g.buf = append(make([]byte, 0, room), old[:min(room, len(old))]...)
	}
	if g.read {
		g.stale = append(g.stale, old)
	} else {
		clear(old)
	}
	return true
}

// view returns the frames of a group that are here, up to number last, with the bytes
// that they are pieces of, and the number from which on none is missing. They are valid
// until settle, which follows.
func (k *keptAll) view(id GroupID, last uint64) (list []keptFrame, buf []byte, since uint64) {
	g := &k.groups[id]
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.list)
	for n > 0 && g.list[n-1].head.number > last {
		n--
	}
	g.read = true
	return g.list[:n:n], g.buf, g.since
}

// settle wipes and lets go of the frames of a group up to number upTo: they are in the
// event log. Nobody reads what view returned any more.
func (k *keptAll) settle(id GroupID, upTo uint64) {
	g := &k.groups[id]
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, old := range g.stale {
		clear(old)
	}
	g.read, g.stale = false, nil
	g.since = max(g.since, upTo+1)
	n := 0
	for n < len(g.list) && g.list[n].head.number <= upTo {
		n++
	}
	if n == 0 {
		return
	}
	k.taken.Add(uint64(n))
	gone := g.list[n-1].to
	rest := copy(g.buf, g.buf[gone:])
	clear(g.buf[rest:])
	g.buf = g.buf[:rest]
	g.list = slices.Delete(g.list, 0, n)
	for i := range g.list {
		g.list[i].from -= gone
		g.list[i].to -= gone
	}
	if room := max(2*rest, keptIdle); room < cap(g.buf) {
		_ = k.resize(g, room)
	}
}

// plain returns the personal part of a record as it lay in memory, for the person of
// that key.
func (r *record) plain(key *[personalKey]byte) ([]byte, error) {
	if len(r.personal) < personalKey || [personalKey]byte(r.personal[:personalKey]) != *key {
		return nil, fmt.Errorf("%w: a personal part of somebody else", ErrCorrupt)
	}
	return r.personal[personalKey:], nil
}
