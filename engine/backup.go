package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tact/storage"
	"tact/storage/backup"
)

// BackupDoc asks for a backup of the store in use.
type BackupDoc struct {
	To   string // a folder: Options.BackupDir or one below it; "" = Options.BackupDir
	Full bool   // not an incremental one
	Rate int64  // bytes a second; 0 = as fast as it goes
}

// BackupView says what the last backup of this process is doing or has done. The zero
// BackupView: there was none.
type BackupView struct {
	To          string
	Running     bool
	Done, Of    int64 // bytes written, and about how many there will be
	Started     storage.UnixMsec
	Ended       storage.UnixMsec // 0 while it runs
	Name, Kind  string           // of the backup, when it has ended well
	WhyFull     string
	From, Until storage.UnixMsec // restorable from here to here
	Fault       string           // why it did not end well
	Damaged     bool             // it did not, since bytes on the disk are not what was written
}

// backups is the backup that is being taken, or was last.
type backups struct {
	begin func(f func(ctx context.Context)) // runs f beside; ctx ends with the engine
	mu    sync.Mutex
	view  BackupView
}

// StartBackup begins a backup and returns at once; Backup says how far it is. It
// refuses with a Problem: no folder for backups, one outside of it, or a backup that
// runs already.
func (e *Engine) StartBackup(doc BackupDoc) (BackupView, error) {
	to, err := e.backupFolder(doc.To)
	if err != nil {
		return BackupView{}, err
	}
	if doc.Rate < 0 {
		return BackupView{}, invalid("invalid_value", "bytes_per_second", "must not be negative")
	}
	b := &e.backups
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.view.Running {
		return BackupView{}, &Problem{
			Class: ProblemConflict, Code: "backup_running", Field: "to",
			Detail: "a backup to " + b.view.To + " is being taken",
		}
	}
	b.view = BackupView{To: to, Running: true, Started: e.clock.Now()}
	doc.To = to
	b.begin(func(ctx context.Context) {
		_ = e.takeBackup(ctx, doc) // Backup tells it
	})
	return b.view, nil
}

// backupFolder says where a backup goes.
func (e *Engine) backupFolder(to string) (string, error) {
	root := e.opts.BackupDir
	if root == "" {
		return "", &Problem{
			Class: ProblemForbidden, Code: "backup_folder", Field: "to",
			Detail: "this server takes no backups: it was started without --backup-dir",
		}
	}
	if to == "" {
		return root, nil
	}
	below, err := filepath.Rel(root, to)
	if err != nil || below == ".." || strings.HasPrefix(below, ".."+string(filepath.Separator)) {
		return "", &Problem{
			Class: ProblemForbidden, Code: "backup_folder", Field: "to",
			Detail: fmt.Sprintf("%s is not in %s, the server's --backup-dir", to, root),
		}
	}
	return filepath.Clean(to), nil
}

func (e *Engine) takeBackup(ctx context.Context, doc BackupDoc) error {
	b := &e.backups
	m, err := backup.Take(ctx, e.store, doc.To, backup.Options{
		FS: e.opts.Storage.FS, Rate: doc.Rate, Full: doc.Full, Logger: e.log,
		Progress: func(done, of int64) {
			b.mu.Lock()
			b.view.Done, b.view.Of = done, of
			b.mu.Unlock()
		},
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	v := &b.view
	v.Running, v.Ended = false, e.clock.Now()
	if err != nil {
		v.Fault, v.Damaged = err.Error(), errors.Is(err, storage.ErrCorrupt)
		if !errors.Is(err, context.Canceled) {
			e.log.Error("backup failed", "error", err)
		}
		return err
	}
	v.Name, v.Kind, v.WhyFull, v.Done, v.Of = m.Name, m.Kind, m.WhyFull, m.Bytes, m.Bytes
	v.From, v.Until = storage.UnixMsec(m.From), storage.UnixMsec(m.Until)
	e.log.Info("backup taken", "to", doc.To, "name", m.Name, "bytes", m.Bytes, "why_full", m.WhyFull)
	return nil
}

// forgetEvery is how often erasures reach the backups.
const forgetEvery = 20 * time.Second

// forgottenKey is the document that says up to when erasures have reached the backups:
// ms u64, little-endian.
const forgottenKey = "backup/forgotten"

// forgetLoop throws the keys of erased people out of the backups in BackupDir.
func (e *Engine) forgetLoop(ctx context.Context) {
	every(ctx, forgetEvery, func() {
		if _, err := e.forgetInBackups(ctx); err != nil && ctx.Err() == nil {
			e.log.Error("erased people are still in backups: it is tried again", "error", err)
		}
	})
}

// forgetInBackups throws the keys of those out of the backups who were erased since it
// last did. A backup that is taken meanwhile takes no key of anybody in the ledger.
func (e *Engine) forgetInBackups(ctx context.Context) (done backup.Forgotten, err error) {
	e.forgetting.Lock()
	defer e.forgetting.Unlock()
	var since storage.UnixMsec
	value, err := e.store.GetDoc(forgottenKey)
	switch {
	case err == nil && len(value) == 8:
		since = storage.UnixMsec(binary.LittleEndian.Uint64(value))
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return done, err
	}
	newest := since
	var people []backup.Person
	err = e.store.Erasures(func(x storage.Erasure) bool {
		at := max(x.At, x.Purged) // names that nobody else had are gone with the purge
		newest = max(newest, at)
		if at > since-forgetMargin { // clocks of groups differ a little
			people = append(people, backup.Person{Slot: x.Slot, Workspace: x.Workspace, ID: x.Person})
		}
		return true
	})
	if err != nil || newest == since {
		return done, err
	}
	names, err := e.store.NamesGone()
	if err != nil {
		return done, err
	}
	gone := backup.Gone{Store: e.store.StoreID(), People: people, Names: names}
	done, err = backup.Forget(ctx, e.opts.BackupDir, gone, backup.Options{FS: e.opts.Storage.FS})
	if err != nil {
		return done, err
	}
	e.log.Info("erased people are out of the backups", "backups", done.Backups, "keys", done.Keys)
	return done, e.store.PutDoc(storage.Doc{
		Key: forgottenKey, Value: binary.LittleEndian.AppendUint64(nil, uint64(newest)),
	})
}

// forgetMargin covers what the times of groups may differ by, in ms.
const forgetMargin storage.UnixMsec = 10 * 60 * 1000

// Backup says what the last backup of this process is doing or has done.
func (e *Engine) Backup() BackupView {
	e.backups.mu.Lock()
	defer e.backups.mu.Unlock()
	return e.backups.view
}

// BackupOf takes a backup of the store under dir, which no process may use: it is
// started and ended as by a server.
func BackupOf(ctx context.Context, dir string, o Options, doc BackupDoc) (
	v BackupView, err error,
) {
	o.BackupDir = doc.To
	e, err := Open(dir, o)
	if err != nil {
		return v, err
	}
	err = e.takeBackup(ctx, doc)
	return e.Backup(), errors.Join(err, e.Close())
}
