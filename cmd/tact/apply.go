package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tact/engine/definition"
	"tact/server/client"
)

// applyFlags are what `tact apply` is told.
type applyFlags struct {
	remote   remote
	revision uint32
	ifMatch  uint32
	note     string
	json     bool
}

func newApply() *cobra.Command {
	var o applyFlags
	cmd := &cobra.Command{
		Use:   "apply DIR | apply --revision N",
		Short: "Publish a definitions folder to a running server, all or nothing",
		Long: "apply publishes the definitions in DIR as a new revision: a fault or a failed test\n" +
			"changes nothing. It names what it removed (-), changed (~) and added (+).\n" +
			"With --revision N it publishes the content of revision N again.",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (o.revision != 0) {
				return wrongUse(cmd, errors.New("give a folder, or --revision, and not both"))
			}
			c, err := o.remote.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if o.revision != 0 {
				return o.rollback(cmd, c)
			}
			return o.publish(cmd, c, args[0])
		},
	}
	o.remote.flags(cmd)
	f := cmd.Flags()
	f.Uint32Var(&o.revision, "revision", 0, "go back to the content of this revision")
	f.Uint32Var(&o.ifMatch, "if-match", 0, "publish only when this revision is in force")
	f.StringVar(&o.note, "note", "", "why, for the list of revisions")
	f.BoolVar(&o.json, "json", false, "one line of JSON")
	return cmd
}

func (o *applyFlags) publish(cmd *cobra.Command, c *client.Client, dir string) error {
	loaded, err := definition.LoadDir(dir)
	if err != nil {
		return err
	}
	done, err := c.Publish(cmd.Context(), clientFiles(loaded), o.note, o.ifMatch)
	var refused *client.Error
	if errors.As(err, &refused) && len(refused.Faults)+len(refused.Tests) > 0 {
		return serverReport(dir, len(loaded), refused.Faults, refused.Tests).
			print(cmd.OutOrStdout(), o.json)
	}
	if err != nil {
		return o.failed(cmd.Context(), err)
	}
	r := serverReport(dir, len(loaded), nil, done.Tests)
	r.Revision = done.Revision.Number
	if !o.json {
		fmt.Fprintf(cmd.OutOrStdout(), "published revision %d\n", r.Revision)
	}
	if r.Changes, err = publishedChanges(cmd.Context(), c, r.Revision); err != nil {
		return o.failed(cmd.Context(), err)
	}
	return r.print(cmd.OutOrStdout(), o.json)
}

func (o *applyFlags) rollback(cmd *cobra.Command, c *client.Client) error {
	r, err := c.Rollback(cmd.Context(), o.revision, o.ifMatch)
	if err != nil {
		return o.failed(cmd.Context(), err)
	}
	if o.json {
		return writeJSON(cmd.OutOrStdout(), r)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "published revision %d with the content of revision %d\n",
		r.Number, o.revision)
	changes, err := publishedChanges(cmd.Context(), c, r.Number)
	if err != nil {
		return o.failed(cmd.Context(), err)
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), changes.lines())
	return err
}

func (o *applyFlags) failed(ctx context.Context, err error) error {
	return remoteError(ctx, fmt.Errorf("apply: %w", err))
}
