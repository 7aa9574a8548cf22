package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tact/storage"
	"tact/storage/backup"
)

// restoreFlags are what `tact restore` is told.
type restoreFlags struct {
	to, at, caps, store string
	erased              []string
	json                bool
}

func newRestore() *cobra.Command {
	var o restoreFlags
	cmd := &cobra.Command{
		Use:   "restore DIR --to DATA --caps protect|trust",
		Short: "Make a data folder of backups, as it was at a time",
		Long: "restore makes the store of the new data folder DATA of the backups in DIR: as it was\n" +
			"at the newest moment that they hold, or --at another between. Everything that is read is\n" +
			"checked; a backup with one wrong byte is refused with exit code 5. Until all is well the\n" +
			"store lies in DATA/store.restoring. A restore that fails leaves nothing; after one that\n" +
			"was killed run it again, which begins anew: tact serve waits for that.\n\n" +
			"What caps were used for since is not known: --caps protect exceeds none, --caps trust\n" +
			"gives the uses once more. Whoever was erased since, as far as the newest backup in DIR\n" +
			"and in each --erased knows, stays erased. The next `tact serve` makes a new admin key.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := o.restoring()
			if err != nil {
				return wrongUse(cmd, err)
			}
			return o.run(cmd.Context(), args[0], r, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "the new data folder")
	f.StringVar(&o.at, "at", "", "moment, as 2026-11-22T13:04:05.000Z (default the newest)")
	f.StringVar(&o.caps, "caps", "", "protect or trust")
	f.StringVar(&o.store, "store", "", "id of the store, where DIR has backups of more than one")
	f.StringArrayVar(&o.erased, "erased", nil,
		"another folder of backups of the same store, whose ledger of erasures counts too")
	f.BoolVar(&o.json, "json", false, "one line of JSON")
	return cmd
}

// restoring reads the flags.
func (o *restoreFlags) restoring() (r backup.Restoring, err error) {
	r = backup.Restoring{Store: o.store, Erased: o.erased}
	r.Caps, err = storage.ParseCapsPolicy(o.caps)
	if err != nil || r.Caps != storage.CapsProtect && r.Caps != storage.CapsTrust || o.to == "" {
		return r, errors.New("--to DATA and --caps protect or --caps trust are needed")
	}
	if o.at == "" {
		return r, nil
	}
	when, err := time.Parse(time.RFC3339Nano, o.at)
	if err != nil {
		return r, fmt.Errorf("--at: %w", err)
	}
	r.At = storage.UnixMsec(when.UnixMilli())
	if r.At <= 0 {
		return r, errors.New("--at: no backup is of before 1970")
	}
	return r, nil
}

func (o *restoreFlags) run(ctx context.Context, dir string, r backup.Restoring,
	stdout, stderr io.Writer,
) error {
	if err := isBackups(dir); err != nil {
		return err
	}
	if err := newFolder(o.to, append([]string{dir}, o.erased...)); err != nil {
		return err
	}
	r.Storage.Logger = newLogger(stderr, false)
	keepAll(&r.Storage)
	var p *progress
	done, err := backup.Restore(ctx, dir, storeFolder(o.to), r, backup.Options{
		Logger: r.Storage.Logger,
		Progress: func(done, of int64) {
			if p == nil {
				p = newProgress(stderr, "bytes", of)
			}
			p.at(done)
		},
	})
	if p != nil {
		p.end()
	}
	switch {
	case errors.Is(err, backup.ErrDamaged), errors.Is(err, storage.ErrCorrupt):
		return &exitError{exitDamaged, fmt.Errorf("%w\nnothing was made; what is wrong in all: "+
			"tact backup verify %s", err, dir)}
	case errors.Is(err, backup.ErrManyStores):
		return fmt.Errorf("%w, with --store", err)
	case err != nil:
		return err
	}
	for _, b := range done.Ignored {
		fmt.Fprintf(stderr, "warning: not usable, and not needed: %s: %s\n", b.Name, b.Why)
	}
	if o.json {
		return writeJSON(stdout, newRestoreReport(o.to, done))
	}
	fmt.Fprintf(stdout, "ok: %s users as of %s in %s, from %s\n", grouped(done.People),
		time.UnixMilli(int64(done.Until)).UTC().Format(stampLayout), o.to,
		strings.Join(done.From, ", "))
	if done.Erased+done.LeftOut > 0 {
		fmt.Fprintf(stdout, "%d erased since, %d without a key are left out\n",
			done.Erased, done.LeftOut)
	}
	return nil
}

// restoreReport is what restore prints with --json.
type restoreReport struct {
	Data    string           `json:"data"`
	Users   int64            `json:"users"`
	Until   time.Time        `json:"until"`
	From    []string         `json:"from"`
	Ignored []backup.Ignored `json:"ignored"`
	LeftOut int              `json:"left_out"`
	Erased  int              `json:"erased"`
	Frames  uint64           `json:"frames"`
	Bytes   int64            `json:"bytes"`
}

func newRestoreReport(to string, r *backup.Restored) restoreReport {
	return restoreReport{
		Data: to, Users: r.People, Until: time.UnixMilli(int64(r.Until)).UTC(), From: r.From,
		Ignored: append([]backup.Ignored{}, r.Ignored...), LeftOut: r.LeftOut, Erased: r.Erased,
		Frames: r.Frames, Bytes: r.Bytes,
	}
}

// isBackups refuses what is no folder of backups, and says what it is.
func isBackups(dir string) error {
	all, err := backup.List(dir, backup.Options{})
	if err != nil || len(all) > 0 {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "manifest.json")); err == nil {
		return fmt.Errorf("%s is one backup: name the folder that it lies in, %s", dir,
			filepath.Dir(filepath.Clean(dir)))
	}
	if _, err := os.Stat(storeFolder(dir)); err == nil {
		return fmt.Errorf("%s is a data folder and holds no backups", dir)
	}
	below, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var hints []string
	for _, e := range below {
		path := filepath.Join(dir, e.Name())
		if inside, err := backup.List(path, backup.Options{}); err == nil && len(inside) > 0 {
			hints = append(hints, path)
		}
	}
	if len(hints) > 0 {
		return fmt.Errorf("%s holds no backups; name one of %s", dir, strings.Join(hints, ", "))
	}
	return fmt.Errorf("%s holds no backups: name the folder that tact backup wrote into", dir)
}

// newFolder refuses a data folder that something lies in which is not of a data folder.
// What an operator has put aside there, as store.NAME, and backups may lie there.
func newFolder(data string, backups []string) error {
	info, err := os.Stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		return outside(data, backups)
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is a file: name a new folder", data)
	}
	if _, err := os.Stat(storeFolder(data)); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s holds a store already: name a new folder, or put that "+
			"one aside: mv %s %s.aside", data, storeFolder(data), storeFolder(data)))
	}
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if name == keyFile || name == "lost+found" || strings.HasPrefix(name, "store.") ||
			strings.HasPrefix(name, "checkpoint-") || isOneOf(filepath.Join(data, name), backups) {
			continue
		}
		return fmt.Errorf("%s is not empty: %s is no part of a data folder: name a new or an "+
			"empty folder", data, filepath.Join(data, name))
	}
	return outside(data, backups)
}

// outside refuses a data folder in a folder of backups.
func outside(data string, backups []string) error {
	at, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	for ; ; at = filepath.Dir(at) {
		if isOneOf(at, backups) {
			return fmt.Errorf("%s lies in %s, a folder of backups: name a folder outside of it", data, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// isOneOf tells whether a path is that of one of some folders.
func isOneOf(path string, folders []string) bool {
	a, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, dir := range folders {
		if b, err := os.Stat(dir); err == nil && os.SameFile(a, b) {
			return true
		}
	}
	return false
}
