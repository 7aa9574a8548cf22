package main

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tact/engine"
	"tact/storage"
)

func newUpgrade() *cobra.Command {
	var asJSON bool
	var ringDir string
	cmd := &cobra.Command{
		Use:   "upgrade DIR",
		Short: "Bring the store of a data folder to this version, after a checkpoint of it",
		Long: "upgrade looks at the store in DIR as doctor does, makes a checkpoint of it beside it\n" +
			"(second names of the tables, copies of the rest), opens it with this version, compares\n" +
			"everything in memory with the disk, and ends it. No server may use it. A server\n" +
			"does the same without the checkpoint when it starts on an older store.\n\n" +
			"The way back, with the version of before: remove DIR/store and give the checkpoint\n" +
			"its name; serve then asks once for --caps protect or --caps trust, since caps may\n" +
			"have been used in between. Remove the checkpoint when it is not needed: it holds\n" +
			"disk space, and people who were erased since.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := engine.Options{Logger: newLogger(cmd.ErrOrStderr(), false)}
			o.Storage.Logger, o.Storage.RingDir = o.Logger, ringDir
			keepAll(&o.Storage)
			out, err := upgrade(args[0], o)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), out)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %s users, revision %d\nbefore  %s\n",
				grouped(int64(out.Users)), out.Revision, out.Checkpoint)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one line of JSON")
	cmd.Flags().StringVar(&ringDir, "ring-dir", defaultRingDir, "as of serve")
	return cmd
}

// keepAll lets a store that a command opens for a moment keep its whole event log: how
// much of it stays is for the server to say.
func keepAll(o *storage.Options) {
	o.KeepEffects, o.KeepDecisions, o.LogBytes = -1, -1, math.MaxInt64
}

// upgraded is what upgrade prints.
type upgraded struct {
	Users      int    `json:"users"`
	Revision   uint32 `json:"revision"`
	Checkpoint string `json:"checkpoint"`
}

func upgrade(data string, o engine.Options) (_ *upgraded, err error) {
	store := storeFolder(data)
	d, _, err := engine.Examine(store, o.Storage)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, noStore(data)
	case err != nil:
		return nil, err
	case d.Damaged():
		return nil, &exitError{exitDamaged, fmt.Errorf(
			"the store is damaged: nothing was done; see: tact doctor %s", data)}
	}
	out := &upgraded{Checkpoint: filepath.Join(data,
		"checkpoint-"+time.Now().UTC().Format("20060102-150405.000"))}
	if err := storage.Checkpoint(store, out.Checkpoint, o.Storage); err != nil {
		return nil, err
	}
	// Whoever goes back to it must say what becomes of caps that were used since.
	mark := storage.OlderCopy{Caps: storage.CapsRefuse}
	if err := storage.MarkOlderCopy(out.Checkpoint, mark, o.Storage); err != nil {
		return nil, err
	}
	e, err := engine.Open(store, o)
	if err != nil {
		return nil, fmt.Errorf("%w\nas it was before: %s", err, out.Checkpoint)
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if err := e.CheckStore(); err != nil {
		return nil, fmt.Errorf("%w\nas it was before: %s", err, out.Checkpoint)
	}
	out.Users, out.Revision = int(e.StoreStats().People), e.Revision()
	return out, nil
}
