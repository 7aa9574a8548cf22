package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tact/storage"
	"tact/storage/backup"
)

func newRestore() *cobra.Command {
	var to, at, caps string
	var erased []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore DIR --to DATA --caps protect|trust",
		Short: "Make a data folder of backups, as it was at a time",
		Long: "restore makes the store of the new data folder DATA of the backups in DIR: as it was\n" +
			"at the newest moment that they hold, or --at another between. Everything that is read is\n" +
			"checked first; a backup with one wrong byte is refused. What caps were used for since\n" +
			"is not known: --caps protect exceeds none, --caps trust gives the uses once more.\n" +
			"Whoever was erased since, as far as the newest backup in DIR and in each --erased\n" +
			"knows, stays erased. The next `tact serve` makes a new admin key.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			policy, err := storage.ParseCapsPolicy(caps)
			if err != nil || policy != storage.CapsProtect && policy != storage.CapsTrust || to == "" {
				return wrongUse(cmd, errors.New("--to DATA and --caps protect or --caps trust are needed"))
			}
			r := backup.Restoring{Caps: policy, Erased: erased}
			if at != "" {
				when, err := time.Parse(time.RFC3339Nano, at)
				if err != nil {
					return wrongUse(cmd, fmt.Errorf("--at: %w", err))
				}
				r.At = storage.UnixMsec(when.UnixMilli())
			}
			r.Storage.Logger = newLogger(cmd.ErrOrStderr(), false)
			keepAll(&r.Storage)
			if _, err := os.Stat(storeFolder(to)); !errors.Is(err, fs.ErrNotExist) {
				return errors.Join(err, fmt.Errorf("%s holds a store already: name a new folder", to))
			}
			done, err := backup.Restore(cmd.Context(), args[0], storeFolder(to), r,
				backup.Options{Logger: r.Storage.Logger})
			if errors.Is(err, storage.ErrCorrupt) {
				return &exitError{exitDamaged, fmt.Errorf("%w\nnothing was made", err)}
			}
			if err != nil {
				return err
			}
			for _, name := range done.Ignored {
				fmt.Fprintf(cmd.ErrOrStderr(), "not usable and not used: %s\n", name)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), done)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ok: %s users as of %s, from %s\n", grouped(done.People),
				time.UnixMilli(int64(done.Until)).UTC().Format(stampLayout),
				strings.Join(done.From, ", "))
			if done.Erased+done.LeftOut > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%d erased since, %d without a key are left out\n",
					done.Erased, done.LeftOut)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the new data folder")
	f.StringVar(&at, "at", "", "moment, as 2026-11-22T13:04:05.000Z (default the newest)")
	f.StringVar(&caps, "caps", "", "protect or trust")
	f.StringArrayVar(&erased, "erased", nil,
		"another folder of backups of the same store, whose ledger of erasures counts too")
	f.BoolVar(&asJSON, "json", false, "one line of JSON")
	return cmd
}
