package main

import (
	"github.com/spf13/cobra"

	"tact/engine"
	"tact/engine/definition"
)

func newCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Check a definitions folder and run its tests, without a server",
		Long: "check reads every *.yaml below DIR, names file, line and field of every fault,\n" +
			"and runs the documents of kind test. It exits with 3 when something is wrong.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := definition.LoadDir(args[0])
			if err != nil {
				return err
			}
			faults, tests := engine.CheckFiles(files)
			return engineReport(args[0], len(files), faults, tests).print(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one line of JSON")
	return cmd
}
