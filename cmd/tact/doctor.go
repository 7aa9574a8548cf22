package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"tact/engine"
)

func newDoctor() *cobra.Command {
	var asJSON bool
	var ringDir string
	cmd := &cobra.Command{
		Use:   "doctor DIR",
		Short: "Check the store of a data folder that no server uses",
		Long: "doctor opens the store in DIR as a start would, brings everything into memory and\n" +
			"compares rows, indexes, bitmaps, counters and disk. The server must not be running.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := examine(cmd, args[0], ringDir)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), found)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %s users, revision %d\n",
				grouped(int64(found.Users)), found.Revision)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one line of JSON")
	cmd.Flags().StringVar(&ringDir, "ring-dir", "", "as of serve")
	return cmd
}

// diagnosis is what doctor found in a store that is whole.
type diagnosis struct {
	OK       bool   `json:"ok"`
	Users    int    `json:"users"`
	Revision uint32 `json:"revision"`
}

func examine(cmd *cobra.Command, dir, ringDir string) (_ *diagnosis, err error) {
	if _, err := os.Stat(storeFolder(dir)); err != nil {
		return nil, fmt.Errorf("%s holds no store: %w", dir, err)
	}
	options := engine.Options{Logger: newLogger(cmd.ErrOrStderr(), false)}
	options.Storage.RingDir = ringDir
	e, err := engine.Open(storeFolder(dir), options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if err := e.CheckStore(); err != nil {
		return nil, fmt.Errorf("the store is damaged: %w", err)
	}
	return &diagnosis{OK: true, Users: int(e.StoreStats().People), Revision: e.Revision()}, nil
}
