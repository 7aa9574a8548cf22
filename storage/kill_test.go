package storage

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// killChild is set in the child process of TestKill: the folder to write to.
const killChild = "TACT_KILL_CHILD"

const killWriters = 8

// TestKill starts this binary again as a child whose writers print a line after
// each Wait, kills it with SIGKILL at a random moment, opens its folder and looks
// for all that was printed. 5 kills, or TACT_KILLS.
func TestKill(t *testing.T) {
	if dir := os.Getenv(killChild); dir != "" {
		killedChild(t, dir)
		return
	}
	kills := 5
	if v := os.Getenv("TACT_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(firstSeed(t), 5))
	acked := map[string]int{} // events by person
	for kill := range kills {
		runChild(t, dir, time.Duration(20+rng.IntN(300))*time.Millisecond, acked)
		o := Options{Groups: 4, MinFree: 1, Now: func() UnixMsec { return testDay }}
		s, err := Open(dir, o)
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		mustCheck(t, s)
		for id, want := range acked {
			slot := s.SlotOf(1, []byte(id))
			g := s.GroupOf(slot)
			g.Lock()
			ord, ok := g.Find(1, s.IndexHash(1, []byte(id)), []byte(id))
			var got int
			if ok {
				got = g.Tail(ord).Len()
			}
			g.Unlock()
			if !ok || got < min(want, 64) {
				t.Fatalf("kill %d: %s has %d events (found %v), %d were answered",
					kill, id, got, ok, want)
			}
		}
		mustClose(t, s)
	}
	if len(acked) == 0 {
		t.Fatal("no child answered anything")
	}
	t.Logf("%d people with answered events over %d kills", len(acked), kills)
}

// runChild lets a child write until it has answered something and life has
// passed, kills it and adds what it printed to acked.
func runChild(t *testing.T, dir string, life time.Duration, acked map[string]int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKill$", "-test.v=false")
	cmd.Env = append(os.Environ(), killChild+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var once sync.Once
	for lines.Scan() {
		id, ok := strings.CutPrefix(lines.Text(), "ack ")
		if !ok {
			continue
		}
		acked[id]++
		once.Do(func() {
			time.AfterFunc(life, func() { _ = cmd.Process.Kill() })
		})
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}

// killedChild writes until it is killed.
func killedChild(t *testing.T, dir string) {
	s, err := Open(dir, Options{
		Groups: 4, MinFree: 1, FlushEvery: 20 * time.Millisecond,
		Now: func() UnixMsec { return testDay },
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range killWriters {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("user-%d-%d", w, i%40)
				g, ord, _ := addPerson(t, s, id)
				frame := mustAppend(t, g, &Effect{
					Kind: EffectEvent, Ord: ord, Time: testDay,
					Event: EventEffect{Event: 1, Occurred: testDay},
				})
				if s.Wait(g.GroupID(), frame, 0) != nil {
					return
				}
				mu.Lock()
				fmt.Println("ack", id) // one write: a line is whole or not there
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
