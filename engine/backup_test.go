package engine

import (
	"testing"
	"time"
)

// Whoever is erased goes out of the backups that the server knows, once.
func TestErasedPeopleLeaveBackups(t *testing.T) {
	dir := t.TempDir()
	e, err := Open(t.TempDir(), Options{BackupDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b := e.Begin()
	for _, id := range []string{"ann", "bob"} {
		if res := b.User(&UserDoc{UserID: []byte(id)}); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	if err := b.Commit(time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := e.StartBackup(BackupDoc{}); err != nil {
		t.Fatal(err)
	}
	for e.Backup().Running {
		time.Sleep(time.Millisecond)
	}
	if v := e.Backup(); v.Kind != "full" {
		t.Fatalf("%+v", v)
	}
	b = e.Begin()
	if _, err := b.Erase(&EraseDoc{UserID: []byte("ann")}); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(time.Minute); err != nil {
		t.Fatal(err)
	}
	for round, want := range []int{1, 0} {
		done, err := e.forgetInBackups(t.Context())
		if err != nil || done.Keys != want {
			t.Errorf("round %d: %+v, %v", round, done, err)
		}
	}
}
