package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"tact/engine/definition"
)

func newPlan() *cobra.Command {
	var (
		server remote
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "plan DIR",
		Short: "Show what publishing a definitions folder would change, and change nothing",
		Long: "plan has a running server check the definitions in DIR and compares them with those\n" +
			"in force: - a document that would be removed, ~ one that would say something else,\n" +
			"+ a new one.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := server.client()
			if err != nil {
				return err
			}
			defer c.Close()
			loaded, err := definition.LoadDir(args[0])
			if err != nil {
				return err
			}
			failed := func(err error) error {
				return remoteError(cmd.Context(), fmt.Errorf("plan: %w", err))
			}
			checked, err := c.Check(cmd.Context(), clientFiles(loaded))
			if err != nil {
				return failed(err)
			}
			revision, files, err := c.Files(cmd.Context(), 0)
			if err != nil {
				return failed(err)
			}
			r := serverReport(args[0], len(loaded), checked.Faults, checked.Tests)
			if r.OK {
				r.Changes = changesOf(definitionFiles(files), loaded)
			}
			if !asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "against revision %d\n", revision)
			}
			r.Against = revision
			return r.print(cmd.OutOrStdout(), asJSON)
		},
	}
	server.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one line of JSON")
	return cmd
}
