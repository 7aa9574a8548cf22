package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tact/engine"
	"tact/engine/definition"
)

func newCheck() *cobra.Command {
	var asJSON, declare bool
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
			if declare {
				if files, err = declareMissing(args[0], files); err != nil {
					return err
				}
			}
			faults, tests := engine.CheckFiles(files)
			return engineReport(args[0], len(files), faults, tests).print(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&declare, "declare", false,
		"first write documents for what rules name and nobody defines into DIR/"+declaredFile)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one line of JSON")
	return cmd
}

// declaredFile is where check --declare writes.
const declaredFile = "declared.yaml"

// declareMissing appends the missing documents to the folder's file of them and
// reads the folder again.
func declareMissing(dir string, files []definition.File) ([]definition.File, error) {
	set, _ := definition.Load(files) // its faults are reported by the check
	text := definition.Declare(set)
	if len(text) == 0 {
		return files, nil
	}
	path := filepath.Join(dir, declaredFile)
	head := "# Written by tact check --declare: look at the types, then move them where they belong.\n"
	if _, err := os.Stat(path); err == nil {
		head = "---\n"
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("write the declarations: %w", err)
	}
	_, err = f.WriteString(head + string(text))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("write the declarations: %w", err)
	}
	return definition.LoadDir(dir)
}
