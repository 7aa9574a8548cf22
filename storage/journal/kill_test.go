package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// The kill test: a process grants and reports each grant the moment it may be
// answered; it is killed at any time; what it reported must be there.

const (
	killFolder = "TACT_JOURNAL_KILL"       // the child's folder
	killRing   = "TACT_JOURNAL_KILLRING"   // its ring
	killBuffer = "TACT_JOURNAL_KILLBUFFER" // set: the control
	killGroups = 4
)

// killRows is the child's store: its state, renamed into place. A kill alone
// loses nothing that was written.
func loadRows(dir string) (st State, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "rows"))
	if errors.Is(err, os.ErrNotExist) {
		return st, nil
	}
	if err == nil && len(b) != 28 {
		err = fmt.Errorf("rows of %d bytes", len(b))
	}
	if err != nil {
		return st, err
	}
	le := binary.LittleEndian
	return State{
		Epoch: le.Uint32(b), Water: le.Uint64(b[4:]), Synced: Msec(le.Uint64(b[12:])),
		Ahead: Msec(le.Uint64(b[20:])),
	}, nil
}

func saveRows(dir string, st State) error {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, st.Epoch)
	b = le.AppendUint64(b, st.Water)
	b = le.AppendUint64(b, uint64(st.Synced))
	b = le.AppendUint64(b, uint64(st.Ahead))
	if err := os.WriteFile(filepath.Join(dir, "new"), b, 0o600); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "rows"))
}

func killOptions(dir, ring string) Options {
	return Options{
		Disk: Folder(dir), Shm: SharedFile(ring), StoreID: [16]byte{3}, Groups: killGroups,
		Slots: 2048,
	}
}

// TestKillChild is the killed process, and a test of nothing by itself.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killFolder)
	if dir == "" {
		t.Skip("only as a child of TestKill")
	}
	st, err := loadRows(dir)
	if err != nil {
		t.Fatal(err)
	}
	j, rec, err := Recover(killOptions(dir, os.Getenv(killRing)), st)
	if err != nil {
		t.Fatal(err)
	}
	now := func() Msec { return Msec(time.Now().UnixMilli()) }
	st = j.First(st.Epoch+1, rec, max(now(), rec.Floor))
	if err := errors.Join(saveRows(dir, st), j.Start(st, now())); err != nil {
		t.Fatal(err)
	}
	go j.Run()
	out := io.Writer(os.Stdout)
	if os.Getenv(killBuffer) != "" { // the control: what is reported is not stored
		j.ring.mem = make([]byte, len(j.mem))
		j.mem = j.ring.mem
	}
	var mu sync.Mutex // frames: a number's frame is the number
	for g := range killGroups {
		go killGrants(j, uint16(g), now, func(n uint64) {
			var line [20]byte
			mu.Lock()
			_, _ = fmt.Fprintf(out, "%s\n", strconv.AppendUint(line[:0], n, 10))
			mu.Unlock()
		})
	}
	for frame := uint64(1); ; frame++ {
		time.Sleep(5 * time.Millisecond)
		st := j.Prospect([]uint64{frame, frame, frame, frame})
		if err := saveRows(dir, st); err != nil {
			t.Fatal(err)
		}
		j.Settle(st)
	}
}

// killGrants grants as fast as it may, one owner a group.
func killGrants(j *Journal, group uint16, now func() Msec, report func(uint64)) {
	var lease Lease
	for id := uint64(1); ; id++ {
		r := Record{
			Kind: Reserve, Group: group, ID: id, Time: now(), Frame: 1 + id/64,
			Payload: []byte("a reservation of some counters"),
		}
		a := Ask{AtOnce: true, Lease: lease}
		next, carries := j.Renew(lease, &r, 60, 60)
		a.Carries = carries
		n, atOnce := j.Put(&r, &a)
		switch {
		case n == 0:
			time.Sleep(time.Millisecond)
			continue
		case carries:
			lease = next
		}
		if atOnce || j.Wait(n, time.Minute) == nil {
			report(n)
		}
	}
}

// TestKill kills the child again and again: no report may be lost. A control
// whose ring lies in the memory of the process must lose some.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	cycles := 8
	if v, err := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64); err == nil {
		cycles = max(2, int(v*200))
	}
	reported, replayed, lost := killCycles(t, cycles, "")
	t.Logf("%d kills, %d grants reported, %d found in the journal, %d lost",
		cycles, reported, replayed, lost)
	if lost != 0 || reported == 0 {
		t.Errorf("%d of %d grants lost to a kill alone", lost, reported)
	}
	lost = 0
	for tries := 20; lost == 0 && tries > 0; tries-- { // a kill may come when nothing is under way
		reported, replayed, lost = killCycles(t, max(4, cycles/8), "1")
		t.Logf("control: %d reported, %d found, %d lost", reported, replayed, lost)
	}
	if lost == 0 {
		t.Error("the control lost nothing: the test would not see a loss")
	}
}

func killCycles(t *testing.T, cycles int, buffer string) (reported, replayed, lost int) {
	dir, ring := t.TempDir(), filepath.Join(shared(t), "ring")
	for range cycles {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), killFolder+"="+dir, killRing+"="+ring, killBuffer+"="+buffer)
		pipe, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		numbers := make(chan []uint64)
		go func() { numbers <- readNumbers(pipe) }()
		time.Sleep(time.Duration(40+rand.IntN(60)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		got := <-numbers
		_ = cmd.Wait() // it was killed
		st, err := loadRows(dir)
		if err != nil {
			t.Fatal(err)
		}
		j, rec, err := Recover(killOptions(dir, ring), st)
		if err != nil {
			t.Fatal(err)
		}
		if buffer == "" && !rec.Harmless && len(got) > 0 {
			t.Errorf("a kill is no incident: %s", rec.Why)
		}
		found := make(map[uint64]bool)
		for _, r := range rec.Records {
			found[r.Number] = true
		}
		for _, n := range got {
			if n > st.Water && !found[n] {
				lost++
			}
		}
		reported, replayed = reported+len(got), replayed+len(rec.Records)
		if err := j.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	return reported, replayed, lost
}

// readNumbers reads whole lines; what else the child says is passed over.
func readNumbers(r io.Reader) (numbers []uint64) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return numbers
		}
		if n, err := strconv.ParseUint(line[:len(line)-1], 10, 64); err == nil {
			numbers = append(numbers, n)
		}
	}
}
