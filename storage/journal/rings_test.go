package journal

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Every ring of a folder is told of, also one that is cut or of another store than its
// name says, and nothing of other files.
func TestRingFiles(t *testing.T) {
	dir := shared(t)
	o := realOptions(t, "")
	path := filepath.Join(dir, RingName(o.StoreID))
	o.Shm = SharedFile(path)
	j, rec, err := Recover(o, State{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Start(j.First(7, rec, 1000), 1000); err != nil {
		t.Fatal(err)
	}
	f := func(what string, want ...RingFile) {
		t.Helper()
		got, err := Rings(dir)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %+v, %v", what, got, err)
		}
		for i := range got {
			if got[i].Made == 0 {
				t.Errorf("%s: nobody knows when %s was made", what, got[i].Path)
			}
			got[i].Made = 0
			if got[i] != want[i] {
				t.Errorf("%s: %+v, want %+v", what, got[i], want[i])
			}
		}
	}
	ours := RingFile{
		Path: path, StoreID: o.StoreID, Bytes: j.fileSize(), Whole: true, Epoch: 7,
		UsedBy: os.Getpid(),
	}
	if runtime.GOOS != "linux" {
		ours.UsedBy = 0
	}
	f("without a record", ours)
	for id := range uint64(3) {
		r := Record{Kind: Reserve, ID: id + 1, Frame: 1, Time: 1000 + Msec(id)}
		if n, _ := j.Put(&r, &Ask{}); n == 0 {
			t.Fatal("the journal is full")
		}
	}
	ours.Newest = 1002
	f("three records", ours)
	if err := j.Abandon(); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	ours.UsedBy = 0
	f("of nobody", ours)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut, other := RingName([16]byte{10}), RingName([16]byte{11})
	err = errors.Join(os.WriteFile(filepath.Join(dir, cut), whole[:100], 0o600),
		os.WriteFile(filepath.Join(dir, other), whole, 0o600),
		os.WriteFile(filepath.Join(dir, "tact-nothing"), whole, 0o600),
		os.Mkdir(filepath.Join(dir, RingName([16]byte{12})), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	f("of other bytes", ours,
		RingFile{Path: filepath.Join(dir, cut), StoreID: [16]byte{10}, Bytes: 100},
		RingFile{Path: filepath.Join(dir, other), StoreID: [16]byte{11}, Bytes: ours.Bytes})
	if _, err := Rings(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Of two that open one ring, as copies of a store on one machine do, the second is told
// that it is used, and has it once the first is closed.
func TestRingHasOneUser(t *testing.T) {
	path, size := filepath.Join(shared(t), "ring"), 1<<16
	first, second := SharedFile(path), SharedFile(path)
	mem, err := first.Open(size)
	if err != nil {
		t.Fatal(err)
	}
	copy(mem, "of the first")
	if _, err := second.Open(size); !errors.Is(err, errRingUsed) {
		t.Errorf("the second has it too: %v", err)
	}
	if err := second.Close(true); err != nil {
		t.Error(err)
	}
	if err := first.Close(false); err != nil {
		t.Fatal(err)
	}
	mem, err = second.Open(size)
	if err != nil || string(mem[:12]) != "of the first" {
		t.Errorf("%v; it holds %q", err, mem[:min(len(mem), 12)])
	}
	if err := second.Close(true); err != nil {
		t.Error(err)
	}
}
