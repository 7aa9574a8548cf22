package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"tact/loadtest"
)

func newLoadtestMerge() *cobra.Command {
	var asJSON bool
	var out, html string
	cmd := &cobra.Command{
		Use:   "merge A.json B.json ...",
		Short: "Add up the results of processes that shared one test",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			results := make([]*loadtest.Result, len(names))
			for i, name := range names {
				f, err := os.Open(name)
				if err != nil {
					return err
				}
				results[i], err = loadtest.ReadResult(f)
				if err = errors.Join(err, f.Close()); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			r, err := loadtest.Merge(results)
			if err != nil {
				return err
			}
			return writeResult(cmd, r, asJSON, out, html)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.Flags().StringVar(&out, "out", "", "write the result as JSON to this file")
	cmd.Flags().StringVar(&html, "html", "", "write a report to this file")
	return cmd
}
