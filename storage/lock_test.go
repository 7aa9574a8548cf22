package storage

import (
	"sync"
	"testing"
	"time"
)

// Whoever holds the mutex is alone, also when others have tried in vain and sleep.
func TestGroupMutexExcludes(t *testing.T) {
	var m groupMutex
	var all sync.WaitGroup
	const callers, turns = 8, 2_000
	inside, sum := 0, 0
	for i := range callers {
		all.Go(func() {
			for k := range turns {
				m.Lock()
				if inside++; inside != 1 {
					t.Errorf("%d are inside", inside)
				}
				sum++
				if k%500 == i { // longer than anybody tries
					time.Sleep(time.Millisecond)
				}
				inside--
				m.Unlock()
			}
		})
	}
	all.Wait()
	if sum != callers*turns {
		t.Errorf("%d turns, want %d", sum, callers*turns)
	}
}
