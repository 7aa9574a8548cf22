package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
	"tact/storage/seeds"
)

const (
	loweredUsers   = 6
	loweredCallers = 4
	loweredAsks    = 30 // a caller
)

// lowered lets callers decide, time out and ask again under the same request_id while
// the limit of the one cap is published anew again and again.
type lowered struct {
	rng *rand.Rand
	m   *machine
	e   *Engine

	mu     sync.Mutex
	limits map[uint32]int // by revision
	grants map[string]map[storage.ReservationID]loweredGrant
	late   int
	fault  error
}

// loweredGrant is an answer: decisions of one person have the order of their ids.
type loweredGrant struct {
	id       storage.DecisionID
	revision uint32
}

func (l *lowered) publish(limit int) error {
	view, faults, _, err := l.e.Publish(testFiles(capWorld+"scope: person\nper: offer\n"+
		"count_on: impression\nwindow: {rolling: 7d}\nlimit: "+strconv.Itoa(limit)+"\n"), "test", "", 0)
	if err != nil || len(faults) > 0 {
		return fmt.Errorf("%w %v", err, faults)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits[view.Number] = limit
	return nil
}

// ask decides once, and notes a grant.
func (l *lowered) ask(user, request string, timeout time.Duration, out *Decision) (granted bool) {
	req := DecideRequest{
		UserID: []byte(user), Timeout: timeout, RequestID: []byte(request), BodyHash: 1,
		Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte("spot")}},
	}
	err := l.e.Decide(&req, out)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.fault = err
		return false
	case slices.Contains(out.Degraded, "deadline"):
		l.late++
		return false
	case len(out.Items) == 0:
		return false
	}
	by := l.grants[user]
	if by == nil {
		by = map[storage.ReservationID]loweredGrant{}
		l.grants[user] = by
	}
	if _, known := by[out.Items[0].Reservation]; !known {
		by[out.Items[0].Reservation] = loweredGrant{out.ID, out.Revision}
	}
	return true
}

// caller asks for random people; now and then it sends a request again that it, or
// another, has sent before or has under way.
func (l *lowered) caller(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	var out Decision
	for i := range loweredAsks {
		user := fmt.Sprint("u", rng.IntN(loweredUsers))
		request := fmt.Sprintf("%s-%d", user, (i+rng.IntN(3))/3)
		timeout := 5 * time.Second
		if rng.IntN(2) == 0 {
			timeout = time.Duration(1+rng.IntN(3)) * time.Millisecond
		}
		l.ask(user, request, timeout, &out)
	}
}

func (l *lowered) run(seed uint64, ring string) error {
	o := storage.Options{
		Groups: 2, FS: &slowDisk{FS: vfs.NewMem(), seed: seed}, RingDir: ring,
		BoundedMax: 4 * time.Millisecond, JournalSlots: 64,
	}
	var err error
	if l.e, err = Open("store", Options{Read: l.m.read, Storage: o}); err != nil {
		return err
	}
	defer func() { _ = l.e.Close() }() // of a test; its store is in memory
	if err := l.publish(3); err != nil {
		return err
	}
	var all sync.WaitGroup
	for i := range uint64(loweredCallers) {
		all.Go(func() { l.caller(seed*loweredCallers + i) })
	}
	for _, limit := range []int{1, 1 + l.rng.IntN(3), 1 + l.rng.IntN(2), 1} {
		time.Sleep(time.Duration(l.rng.IntN(8)) * time.Millisecond)
		if err := l.publish(limit); err != nil {
			return err
		}
	}
	all.Wait()
	if l.fault != nil {
		return l.fault
	}
	return l.settle(2)
}

// settle judges every answer, then asks until everybody is capped by the last limit:
// what was late must have been given back.
func (l *lowered) settle(last int) error {
	if err := l.publish(last); err != nil {
		return err
	}
	var out Decision
	for i := range loweredUsers {
		user := fmt.Sprint("u", i)
		before := len(l.grants[user])
		for n := 0; l.ask(user, fmt.Sprintf("%s-end-%d", user, n), 5*time.Second, &out); n++ {
			if n > last {
				return fmt.Errorf("%s: %d grants more under a limit of %d", user, n, last)
			}
		}
		if got := len(l.grants[user]); got != max(before, last) {
			return fmt.Errorf("%s: %d grants before, %d in the end, limit %d: %+v",
				user, before, got, last, out.Slots)
		}
		if err := l.judge(user); err != nil {
			return err
		}
	}
	return nil
}

// judge is the naive oracle: the i-th grant of a person, from 0, was given under a
// limit above i.
func (l *lowered) judge(user string) error {
	var list []loweredGrant
	for _, g := range l.grants[user] {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b loweredGrant) int { return bytes.Compare(a.id[8:], b.id[8:]) })
	for i, g := range list {
		if limit := l.limits[g.revision]; i >= limit {
			return fmt.Errorf("%s: grant %d of %d was given by revision %d, whose limit is %d: %+v",
				user, i+1, len(list), g.revision, limit, list)
		}
	}
	return nil
}

// A limit that is lowered binds from the publish on: what a person holds already
// counts against it, whatever is late, sent again or under way at the same time. Of
// what was late and released nothing stays.
func TestLoweredLimit(t *testing.T) {
	late, grants := 0, 0
	run := seeds.Run{
		Name: "lowered limit", Full: 2000, Few: 12,
		Counts: func() string { return fmt.Sprintf("%d grants, %d late answers", grants, late) },
	}
	run.Play(t, func(seed uint64) (uint64, error) {
		l := &lowered{
			rng: rand.New(rand.NewPCG(seed, 3)), m: &machine{wall: clockStart, mono: 1},
			limits: map[uint32]int{}, grants: map[string]map[storage.ReservationID]loweredGrant{},
		}
		ring := ""
		if _, err := os.Stat("/dev/shm"); err == nil && seed%3 != 0 {
			ring = sharedFolder(t)
		}
		if err := l.run(seed, ring); err != nil {
			return 1, err
		}
		late += l.late
		for _, by := range l.grants {
			grants += len(by)
		}
		return 1, nil
	})
}
