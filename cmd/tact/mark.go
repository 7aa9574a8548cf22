package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tact/storage"
)

// newMark marks a data folder as an older copy.
func newMark() *cobra.Command {
	var caps string
	cmd := &cobra.Command{
		Use:   "mark DIR --caps protect|trust",
		Short: "Mark a data folder as a copy that was taken while another went on",
		Long: "mark says that the store in DIR, which no server may use, was put back as it was at an\n" +
			"earlier time by other means than tact restore: a copy of the folder, a snapshot of its\n" +
			"disk. The next start then does what --caps says to the caps: protect exceeds none,\n" +
			"whatever was used since; trust takes the copy for all there is. A start cannot see by\n" +
			"itself that a copy which ended cleanly is not the newest.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			policy, err := storage.ParseCapsPolicy(caps)
			if err != nil || policy != storage.CapsProtect && policy != storage.CapsTrust {
				return wrongUse(cmd, errors.New("--caps is protect or trust"))
			}
			o := storage.Options{Logger: newLogger(cmd.ErrOrStderr(), false)}
			err = storage.MarkOlderCopy(storeFolder(args[0]), storage.OlderCopy{Caps: policy}, o)
			if errors.Is(err, storage.ErrNotFound) {
				return noStore(args[0])
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: the next start of %s does %s to the caps\n",
				args[0], policy)
			return err
		},
	}
	cmd.Flags().StringVar(&caps, "caps", "", "protect or trust")
	return cmd
}
