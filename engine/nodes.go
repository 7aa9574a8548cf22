package engine

import (
	"encoding/hex"

	"tact/storage"
)

// NodeView is one node of the system; today there is one.
type NodeView struct {
	ID         string // of its store, for ever
	Epoch      uint32 // starts of the store
	ServerTime storage.UnixMsec
	LastEnd    EndView
	Groups     []GroupView
}

// GroupView is one log group: a contiguous range of slots with its positions.
type GroupView struct {
	ID                  storage.GroupID
	FirstSlot, LastSlot storage.Slot
	Users               int    // ordinals given
	Frame               uint64 // newest frame that holds anything
	Durable             uint64 // newest frame known to be durable
}

// EndView is how the life of the store before this one ended.
type EndView struct {
	Clean bool   // in order
	Epoch uint32 // of that life; 0: there was none
	// Until is the time of the newest thing that was durable; 0: nothing was. After
	// an end that was not clean what was answered as bounded behind it is missing.
	Until storage.UnixMsec
}

func (e *Engine) lastEnd() EndView {
	cut := e.store.Cut()
	v := EndView{Clean: cut.Clean, Epoch: cut.Epoch}
	for _, at := range cut.Until {
		v.Until = max(v.Until, at)
	}
	return v
}

// Nodes describes the nodes, their groups, slots, epochs and positions.
func (e *Engine) Nodes() []NodeView {
	id := e.store.StoreID()
	node := NodeView{
		ID: hex.EncodeToString(id[:]), Epoch: e.store.Epoch(), ServerTime: e.clock.Now(),
		LastEnd: e.lastEnd(),
	}
	slots := storage.Slots / e.store.Groups()
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		v := GroupView{
			ID: g.GroupID(), FirstSlot: storage.Slot(i * slots),
			LastSlot: storage.Slot((i+1)*slots - 1), Durable: e.store.Durable(g.GroupID()),
		}
		g.Lock()
		v.Users, v.Frame = g.Len(), g.LastFrame()
		g.Unlock()
		node.Groups = append(node.Groups, v)
	}
	return []NodeView{node}
}
