package engine

import (
	"fmt"
	"testing"
	"time"

	"tact/storage"
)

// A decision's record takes at most 160 bytes, and at most 80 in the event log.
// The catalogue has 500 offers of 16 placements, each with a rule over attributes;
// the winner is found by product. The figures are printed with -v.
func TestDecisionRecordSize(t *testing.T) {
	const people, decisions = 1000, 6000
	e := benchBed(t, people, 500)
	var out Decision
	var raw, lost int
	req := &DecideRequest{Placements: []PlacementAsk{{Key: []byte("k")}}}
	for i := range decisions {
		req.UserID = fmt.Appendf(nil, "user-%d", i*37%people)
		req.RequestID = fmt.Appendf(nil, "request-%d", i)
		req.Placements[0].PlacementID = fmt.Appendf(nil, "p%d", i%16)
		if err := e.Decide(req, &out); err != nil {
			t.Fatal(err)
		}
		if !out.HasID {
			t.Fatal("nothing was recorded")
		}
	}
	for g := range e.store.Groups() {
		group := e.store.Group(storage.GroupID(g))
		group.Lock()
		frame := group.LastFrame()
		group.Unlock()
		if err := e.store.Wait(storage.GroupID(g), frame, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.store.FlushLog(); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := e.store.ScanLog(&storage.LogQuery{Decisions: true}, func(entry *storage.LogEntry) error {
		n++
		raw += len(entry.Effect.Decision.Record)
		if entry.Lost {
			lost++
		}
		return nil
	})
	if err != nil || n != decisions || lost != 0 {
		t.Fatalf("%d decisions, %d lost: %v", n, lost, err)
	}
	disk := e.StoreStats().Log.Decisions
	perRaw, perDisk := float64(raw)/float64(n), float64(disk.Bytes)/float64(disk.Records)
	t.Logf("%d decisions: %.1f bytes a record, %.1f in the event log, in %d blocks", n, perRaw,
		perDisk, disk.Blocks)
	if perRaw > 160 || perDisk > 80 {
		t.Errorf("%.1f bytes a record, %.1f in the event log", perRaw, perDisk)
	}
}
