package bench

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tact/engine"
)

func backupWorkloads() []workload {
	return []workload{
		{"backup/full", "a byte of a full backup, by the wall, the store in use by nobody", fullBackup},
		{"mixed/decide-under-backup", "decisions while full backups are taken", decideUnderBackup},
		{
			"mixed/ingest-under-backup", "events in batches while full backups are taken",
			ingestUnderBackup,
		},
	}
}

// backupFolder is where the engine of the world may write backups.
func (w *world) backupFolder() string { return filepath.Join(w.folder, "backups") }

// backup takes a full backup, and removes it; it gives its bytes.
func (w *world) backup() (int64, error) {
	if _, err := w.engine.StartBackup(engine.BackupDoc{Full: true}); err != nil {
		return 0, err
	}
	v := w.engine.Backup()
	for ; v.Running; v = w.engine.Backup() {
		time.Sleep(time.Millisecond)
	}
	if v.Fault != "" {
		return 0, errors.New(v.Fault)
	}
	return v.Done, os.RemoveAll(filepath.Join(w.backupFolder(), v.Name))
}

// fullBackup is measured against a file of as many bytes, written and synced.
func fullBackup(w *world) (*trial, error) {
	size, err := w.backup()
	if err != nil {
		return nil, err
	}
	t := &trial{clock: clockWall, fixed: true, figure: Figure{
		Unit: "ns", Reference: "a byte of a file of that size, written and synced",
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "bytes of the backup": strconv.FormatInt(size, 10),
		},
	}}
	t.own = func(int) (float64, error) {
		n, err := w.backup()
		return float64(n), err
	}
	t.reference = func(int) (float64, error) { return float64(size), writeSynced(w.folder, size) }
	return t, nil
}

// writeSynced writes a file of zeros, and removes it.
func writeSynced(folder string, size int64) error {
	f, err := os.CreateTemp(folder, "bytes-*")
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for left := size; left > 0 && err == nil; left -= int64(len(piece)) {
		_, err = f.Write(piece[:min(int64(len(piece)), left)])
	}
	if err == nil {
		err = unix.Fdatasync(int(f.Fd()))
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// underBackup runs f while full backups are taken, one after the other.
func (w *world) underBackup(f func() (float64, error)) (float64, error) {
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := w.backup(); err != nil {
				done <- err
				return
			}
		}
	}()
	ops, err := f()
	close(stop)
	return ops, errors.Join(err, <-done)
}

// decideUnderBackup measures decisions by thread time: what they lose to the memory and
// the locks that a backup uses, not to the processor that it takes.
func decideUnderBackup(w *world) (*trial, error) {
	d := decideTrial{shown: catalogue{offers: 1000, placements: 16}}
	if err := w.publish(d.shown); err != nil {
		return nil, err
	}
	quiet := decider(w.engine, d.requests(w, w.cold()))
	t := &trial{clock: clockThread, warm: 2 * w.cold(), figure: Figure{
		Unit: "ns", Reference: "the same without a backup",
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "bytes a second": "no limit",
		},
	}}
	t.own = func(n int) (float64, error) {
		return w.underBackup(func() (float64, error) { return quiet(n) })
	}
	t.reference = quiet
	return t, nil
}

// ingestUnderBackup measures by the wall: on a machine whose processors are all at work
// the backup takes its share of them too.
func ingestUnderBackup(w *world) (*trial, error) {
	source := w.newEvents(4)
	var spent time.Duration // without the end of the backup behind it
	t := &trial{clock: clockOwn, spent: &spent, figure: Figure{
		Unit: "ns", Reference: "the same without a backup",
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "events a batch": strconv.Itoa(ingestBatch),
			"bytes a second": "no limit",
		},
	}}
	quiet := func(n int) (float64, error) {
		began := time.Now()
		defer func() { spent += time.Since(began) }()
		return w.ingest(source, max(n, ingestBatch))
	}
	t.own = func(n int) (float64, error) {
		return w.underBackup(func() (float64, error) { return quiet(n) })
	}
	t.reference = quiet
	return t, nil
}
