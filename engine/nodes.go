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

// Nodes describes the nodes, their groups, slots, epochs and positions.
func (e *Engine) Nodes() []NodeView {
	id := e.store.StoreID()
	node := NodeView{
		ID: hex.EncodeToString(id[:]), Epoch: e.store.Epoch(), ServerTime: e.clock.Now(),
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
