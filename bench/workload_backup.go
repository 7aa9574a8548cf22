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

// backup takes a full backup, and removes it; it gives its bytes. begun is told, without
// waiting, that it runs.
func (w *world) backup(begun chan<- struct{}) (int64, error) {
	if _, err := w.engine.StartBackup(engine.BackupDoc{Full: true}); err != nil {
		return 0, err
	}
	select {
	case begun <- struct{}{}:
	default:
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
	size, err := w.backup(nil)
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
		n, err := w.backup(nil)
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

// underBackup calls f again and again for a window, from when a full backup has begun,
// and another where one ends sooner; it then waits for the end of the last one.
func (w *world) underBackup(f func() (float64, error)) (ops float64, err error) {
	begun, stop, done := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			_, err := w.backup(begun)
			select {
			case <-stop:
				done <- err
				return
			default:
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	select {
	case <-begun:
	case err := <-done:
		return 0, err
	}
	ops, err = w.forWindow(f)
	close(stop)
	return ops, errors.Join(err, <-done)
}

// forWindow calls f for the length of a turn.
func (w *world) forWindow(f func() (float64, error)) (ops float64, err error) {
	for began := time.Now(); time.Since(began) < w.options.Window; {
		n, err := f()
		if err != nil {
			return ops, err
		}
		ops += n
	}
	return ops, nil
}

// besideBackups says how many operations a figure has in windows with a backup.
const besideBackups = "done beside backups"

// besideBackup is the trial of what f does in a window beside a backup, against the same
// without one. Both are charged what f adds to spent: the end of a backup, which takes many
// times a window, is nobody's.
func (w *world) besideBackup(f func() (float64, error), spent *time.Duration) *trial {
	var done float64
	return &trial{
		clock: clockOwn, spent: spent, fixed: true,
		own: func(int) (float64, error) {
			n, err := w.underBackup(f)
			done += n
			return n, err
		},
		reference: func(int) (float64, error) { return w.forWindow(f) },
		gather: func(f *Figure) {
			f.Conditions[besideBackups] = strconv.FormatFloat(done, 'f', 0, 64)
		},
		figure: Figure{
			Unit: "ns", Reference: "the same without a backup",
			Conditions: map[string]string{
				"people": strconv.Itoa(w.options.Users), "bytes a second": "no limit",
			},
		},
	}
}

// decisionsAtOnce is how many decisions are made between two looks at the clock.
const decisionsAtOnce = 1024

// decideUnderBackup measures decisions by thread time: what they lose to the memory and
// the locks that a backup uses, not to the processor that it takes.
func decideUnderBackup(w *world) (*trial, error) {
	d := decideTrial{shown: catalogue{offers: 1000, placements: 16}}
	if err := w.publish(d.shown); err != nil {
		return nil, err
	}
	decide := decider(w.engine, d.requests(w, w.cold()))
	if _, err := decide(2 * w.cold()); err != nil {
		return nil, err
	}
	var spent time.Duration
	return w.besideBackup(func() (float64, error) {
		began := threadTime()
		defer func() { spent += threadTime() - began }()
		return decide(decisionsAtOnce)
	}, &spent), nil
}

// ingestUnderBackup measures by the wall: on a machine whose processors are all at work
// the backup takes its share of them too.
func ingestUnderBackup(w *world) (*trial, error) {
	source := w.newEvents(4)
	var spent time.Duration
	t := w.besideBackup(func() (float64, error) {
		began := time.Now()
		defer func() { spent += time.Since(began) }()
		return w.ingest(source, ingestBatch)
	}, &spent)
	t.figure.Conditions["events a batch"] = strconv.Itoa(ingestBatch)
	return t, nil
}
