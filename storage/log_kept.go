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
// Cost: a copy of each frame for the committer, into chunks that are used again; 64 MiB
// at most of a store, an eighth of it of chunks that hold nothing.
type keptFrames struct {
	mu     sync.Mutex
	since  uint64
	list   []keptFrame
	chunks []keptChunk // in the order of the frames they hold; the last one is being filled
	gone   uint32      // chunks that lay before the first of them
	read   bool        // a pass reads the frames
	stale  [][]byte    // chunks with what it may read of what went meanwhile
}

// keptFrame is one of them; its records are a piece of a chunk. It has no pointers, since
// there may be thousands.
type keptFrame struct {
	head     frameHead // but for prev
	chunk    uint32    // its number, from the first of the group on
	from, to uint32
}

// keptView is what is kept of a group.
type keptView struct {
	list   []keptFrame
	chunks [][]byte
	gone   uint32
	since  uint64 // no frame from here on is missing
}

// records returns those of a frame of the view.
func (v *keptView) records(f *keptFrame) []byte { return v.chunks[f.chunk-v.gone][f.from:f.to] }

// keptChunk is room for frames, one at least.
type keptChunk struct {
	buf    []byte
	frames int
}

// keptChunkMost is the size of a chunk, unless a frame is larger: then it has its own.
const keptChunkMost = 64 << 10

// keptAll are the kept frames of all groups.
type keptAll struct {
	groups []keptFrames
	most   int64
	chunk  int
	taken  atomic.Uint64 // frames that were not read back

	mu    sync.Mutex // behind that of a group
	bytes int64      // of all chunks
	free  [][]byte   // wiped chunks
}

// open begins with none: what the groups have by now is read from Pebble.
func (k *keptAll) open(groups []*Group, most int64) {
	k.groups, k.most = make([]keptFrames, len(groups)), most
	k.chunk = int(max(0, min(keptChunkMost, most/16)))
	for i, g := range groups {
		k.groups[i].since = g.durable.Load() + 1
	}
}

// keep adds a frame that is in Pebble by now.
func (k *keptAll) keep(h *frameHead, f *frame) {
	g := &k.groups[h.group]
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.erases {
		k.drop(g, len(g.chunks), h.number+1)
		return
	}
	for !k.room(g, len(f.buf)) {
		if len(g.chunks) == 0 {
			g.since = h.number + 1
			return
		}
		k.drop(g, 1, h.number)
	}
	c := &g.chunks[len(g.chunks)-1]
	from := len(c.buf)
	c.buf, c.frames = append(c.buf, f.buf...), c.frames+1
	number := g.gone + uint32(len(g.chunks)-1)
	g.list = append(g.list, keptFrame{*h, number, uint32(from), uint32(len(c.buf))})
}

// room sees that the last chunk of a group has n bytes left. false: all groups together
// have no such room.
func (k *keptAll) room(g *keptFrames, n int) bool {
	if last := len(g.chunks) - 1; last >= 0 && cap(g.chunks[last].buf)-len(g.chunks[last].buf) >= n {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if last := len(k.free) - 1; last >= 0 && n <= k.chunk {
		g.chunks = append(g.chunks, keptChunk{buf: k.free[last]})
		k.free = k.free[:last]
		return true
	}
	n = max(n, k.chunk)
	if k.bytes+int64(n) > k.most {
		return false
	}
	k.bytes += int64(n)
	g.chunks = append(g.chunks, keptChunk{buf: make([]byte, 0, n)})
	return true
}

// release takes a chunk of which nobody reads anything any more; what it held is wiped.
func (k *keptAll) release(buf []byte) {
	clear(buf)
	k.mu.Lock()
	defer k.mu.Unlock()
	if cap(buf) == k.chunk && int64((len(k.free)+1)*k.chunk) <= k.most/8 {
		k.free = append(k.free, buf[:0])
		return
	}
	k.bytes -= int64(cap(buf))
}

// drop lets the frames of the first n chunks of a group go; next is the number of the
// frame behind the last one that is kept.
func (k *keptAll) drop(g *keptFrames, n int, next uint64) {
	frames := 0
	for _, c := range g.chunks[:n] {
		frames += c.frames
		if g.read {
			g.stale = append(g.stale, c.buf)
		} else {
			k.release(c.buf)
		}
	}
	g.chunks, g.gone = slices.Delete(g.chunks, 0, n), g.gone+uint32(n)
	if g.list = g.list[frames:]; len(g.list) > 0 {
		next = g.list[0].head.number
	}
	g.since = next
}

// view returns the frames of a group that are here, up to number last. It is valid until
// settle, which follows.
func (k *keptAll) view(id GroupID, last uint64) keptView {
	g := &k.groups[id]
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.list)
	for n > 0 && g.list[n-1].head.number > last {
		n--
	}
	g.read = true
	v := keptView{list: g.list[:n:n], gone: g.gone, since: g.since}
	for _, c := range g.chunks {
		v.chunks = append(v.chunks, c.buf)
	}
	return v
}

// settle wipes and lets go of the frames of a group up to number upTo: they are in the
// event log. Nobody reads what view returned any more.
func (k *keptAll) settle(id GroupID, upTo uint64) {
	g := &k.groups[id]
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, buf := range g.stale {
		k.release(buf)
	}
	g.read, g.stale = false, nil
	g.since = max(g.since, upTo+1)
	n, chunks := 0, 0
	for ; n < len(g.list) && g.list[n].head.number <= upTo; n++ {
		c := &g.chunks[chunks]
		clear(c.buf[g.list[n].from:g.list[n].to])
		if c.frames--; c.frames == 0 {
			k.release(c.buf)
			chunks++
		}
	}
	k.taken.Add(uint64(n))
	g.list = slices.Delete(g.list, 0, n)
	g.chunks, g.gone = slices.Delete(g.chunks, 0, chunks), g.gone+uint32(chunks)
}

// plain returns the personal part of a record as it lay in memory, for the person of
// that key.
func (r *record) plain(key *[personalKey]byte) ([]byte, error) {
	if len(r.personal) < personalKey || [personalKey]byte(r.personal[:personalKey]) != *key {
		return nil, fmt.Errorf("%w: a personal part of somebody else", ErrCorrupt)
	}
	return r.personal[personalKey:], nil
}
