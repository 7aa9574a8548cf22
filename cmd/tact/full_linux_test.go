package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const fullShop = `kind: workspace
id: default
---
kind: event
id: noted
properties: {n: {type: int}, note: {type: string}}
---
kind: offer
id: hello
message_class: marketing
treatments: [{id: web, channel: web, placements: [home], content: {type: text, body: "hi"}}]
` + homePage

// The disk of the test in MiB, and what of it is kept free.
const (
	fullDiskSize = 320
	fullDiskKeep = 64
	fullWorkers  = 8
	fullEach     = 40 // events of a person: fewer than a tail holds
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", fullDiskSize))
	if err != nil {
		t.Skipf("a file system of limited size cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// On a disk that fills up, what comes in is refused with 507 before anything
// hangs; reads and decisions go on; it is taken again by itself when there is
// room; what was acknowledged is there, also after kill -9. TACT_EFFORT=1 fills
// and frees 50 times.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a disk")
	}
	rounds := 1
	if x, err := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64); err == nil {
		rounds = max(1, int(50*x))
	}
	f := &fullDisk{t: t, disk: smallDisk(t), address: freeAddress(t)}
	f.config = folder(t, map[string]string{"shop.yaml": fullShop})
	f.load = &load{t: t, base: "http://" + f.address, key: "full-test-admin-key"}
	for i := range fullWorkers {
		f.workers = append(f.workers, &fullWorker{fullDisk: f, number: i, events: map[string]int{}})
	}
	r := f.serve()
	for round := range rounds {
		f.fill()
		f.lives()
		f.takeRest()
		f.lives()
		f.free()
		f.resumes()
		f.resize(fullDiskKeep + 16)
		reportRun(t, "full disk", round+1, rounds)
		if t.Failed() {
			t.Fatalf("stderr: %s", r.stderr)
		}
	}
	f.startsOnlyWithRoom(r)
	r = f.serve()
	f.check()
	if t.Failed() {
		t.Logf("stderr: %s", r.stderr)
	}
	t.Logf("filled %d times; %d events acknowledged, %d refused with 507", rounds, f.acked, f.refused)
}

// fullDisk is a server on a small disk and its clients.
type fullDisk struct {
	t       *testing.T
	load    *load
	disk    string
	config  string
	address string
	workers []*fullWorker

	mu             sync.Mutex
	acked, refused int
}

type fullWorker struct {
	*fullDisk
	number, person, n int
	events            map[string]int // acknowledged, by person
}

func (f *fullDisk) serve() *running {
	r := start(f.t, []string{keyVariable + "=" + f.load.key}, "serve",
		"--data", filepath.Join(f.disk, "data"), "--config", f.config, "--listen", f.address,
		"--min-free", fmt.Sprint(fullDiskKeep))
	r.wait(r.stdout, "serving at")
	return r
}

// post sends a body and gives the status; a minute without an answer is a hang.
func (f *fullDisk) post(path, body string) (int, string) {
	f.t.Helper()
	client := http.Client{Timeout: time.Minute}
	req, err := http.NewRequest("POST", f.load.base+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.load.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		f.t.Errorf("%s: %v", path, err)
		return 0, ""
	}
	defer res.Body.Close()
	return res.StatusCode, res.Status
}

// fill lets all workers send until each was refused.
func (f *fullDisk) fill() {
	var all sync.WaitGroup
	for _, w := range f.workers {
		all.Go(func() {
			for w.send() && !f.t.Failed() {
			}
		})
	}
	all.Wait()
	if free := f.room(); free < fullDiskKeep<<20/4 {
		f.t.Errorf("refused with only %d bytes free", free)
	}
}

// send sends one event; false when it was refused for want of room.
func (w *fullWorker) send() bool {
	id := fmt.Sprintf("p%d-%d", w.number, w.person)
	note := make([]byte, 8<<10)
	_, _ = rand.Read(note) // never fails
	status, text := w.post("/v1/events", fmt.Sprintf(
		`{"event_id":"%s-%d","user_id":%q,"event":"noted","properties":{"n":%d,"note":"%s"}}`,
		id, w.n, id, w.n, hex.EncodeToString(note)))
	w.mu.Lock()
	defer w.mu.Unlock()
	switch status {
	case http.StatusOK:
		w.acked++
		w.events[id]++
		if w.n++; w.n == fullEach {
			w.person, w.n = w.person+1, 0
		}
		return true
	case http.StatusInsufficientStorage:
		w.refused++
	default:
		w.t.Errorf("event: status %d %s", status, text)
	}
	return false
}

// lives asks for what must go on while the disk is full.
func (f *fullDisk) lives() {
	f.t.Helper()
	if status, _ := f.post("/v1/users", `{"user_id":"new"}`); status != 507 {
		f.t.Errorf("full disk: a user was answered with %d", status)
	}
	status, body := request(f.t, "GET", f.load.base+"/v1/users/p0-0", f.load.key, "")
	if status != 200 {
		f.t.Errorf("full disk: reading a user: status %d: %s", status, body)
	}
	status, body = request(f.t, "POST", f.load.base+"/v1/decide", f.load.key,
		`{"user":{"user_id":"p0-0"},"placements":[{"key":"k","placement_id":"home"}]}`)
	if status != 200 || !strings.Contains(body, `"hello"`) {
		f.t.Errorf("full disk: a decision: status %d: %s", status, body)
	}
	if status, body := request(f.t, "GET", f.load.base+"/readyz", "", ""); status != 200 {
		f.t.Errorf("full disk: readyz: status %d: %s", status, body)
	}
}

func (f *fullDisk) room() uint64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(f.disk, &st); err != nil {
		f.t.Fatal(err)
	}
	return st.Bavail * uint64(st.Bsize)
}

// takeRest is another process that takes all that is left, also what the server
// gives up of its reserve.
func (f *fullDisk) takeRest() {
	file, err := os.OpenFile(filepath.Join(f.disk, "filler"),
		os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	for range 10 {
		for err == nil {
			_, err = file.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			f.t.Fatal(err)
		}
		err = nil
		time.Sleep(50 * time.Millisecond)
	}
}

func (f *fullDisk) free() {
	if err := os.Remove(filepath.Join(f.disk, "filler")); err != nil {
		f.t.Fatal(err)
	}
	f.resize(fullDiskSize)
}

// resize leaves so many MiB beside what is used.
func (f *fullDisk) resize(free uint64) {
	var st syscall.Statfs_t
	err := syscall.Statfs(f.disk, &st)
	if err == nil {
		used := (st.Blocks - st.Bfree) * uint64(st.Bsize) >> 20
		err = syscall.Mount("tmpfs", f.disk, "tmpfs", syscall.MS_REMOUNT,
			fmt.Sprintf("size=%dm", used+free))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// resumes waits until events are taken again, without a restart.
func (f *fullDisk) resumes() {
	for range 1200 {
		if f.workers[0].send() || f.t.Failed() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	f.t.Error("there is room again, and events are still refused")
}

// startsOnlyWithRoom kills the server on a disk without a single free byte: a
// start says why it cannot, and works when there is room.
func (f *fullDisk) startsOnlyWithRoom(r *running) {
	f.takeRest()
	if err := r.cmd.Process.Kill(); err != nil {
		f.t.Fatal(err)
	}
	<-r.ended
	f.takeRest()
	_, stderr, code := tact(f.t, "serve", "--data", filepath.Join(f.disk, "data"),
		"--listen", f.address)
	if code != exitFailure || !strings.Contains(stderr, "no space left") {
		f.t.Errorf("start on a full disk: exit code %d: %s", code, stderr)
	}
	f.free()
}

// check looks for every acknowledged event.
func (f *fullDisk) check() {
	for _, w := range f.workers {
		for id, want := range w.events {
			status, body := request(f.t, "GET", f.load.base+"/v1/users/"+id, f.load.key, "")
			var user struct {
				Events []struct{ Event string }
			}
			if err := json.Unmarshal([]byte(body), &user); err != nil || status != 200 {
				f.t.Errorf("%s: status %d, %v", id, status, err)
				continue
			}
			if got := len(user.Events); got < want {
				f.t.Errorf("%s has %d events, %d were acknowledged", id, got, want)
			}
		}
	}
}
