package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"tact/server/client"
)

func newErase() *cobra.Command {
	var (
		server  remote
		options client.EraseOptions
		wait    bool
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use:   "erase USER_ID | --list FILE",
		Short: "Erase people, with a receipt",
		Long: "erase makes a person a stranger: from its return on nobody is told anything of them.\n" +
			"The receipt names them by a keyed hash and counts what was held.\n\n" +
			"--list erases everybody of a file, one user id a line, or one JSON object a line:\n" +
			`  {"user_id":"u1"} or {"identities":[{"type":"email","value":"a@example.com"}]}` + "\n" +
			"Receipts go to FILE.receipts.ndjson, with the number of the line. What was interrupted\n" +
			"goes on where it stopped when the same command is given again.\n\n" +
			"--wait returns when no file of the server's folder holds the keys any more that open\n" +
			"what else lies there of them; without it that is so within some two minutes.",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (options.Path != "") {
				return wrongUse(cmd, errors.New("name a user, or --list FILE"))
			}
			c, err := server.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if options.Path != "" {
				return eraseList(cmd, c, options, wait, asJSON)
			}
			return eraseOne(cmd, c, args[0], wait)
		},
	}
	server.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&options.Path, "list", "", "erase everybody of this file")
	f.StringVar(&options.Receipts, "receipts", "", "with --list: where the receipts go")
	f.BoolVar(&options.Restart, "restart", false, "with --list: forget an interrupted erasure")
	f.BoolVar(&wait, "wait", false, "wait until the keys are off the server's disk")
	f.BoolVar(&asJSON, "json", false, "with --list: one line of JSON")
	return cmd
}

// eraseOne erases one person and prints the receipt.
func eraseOne(cmd *cobra.Command, c *client.Client, id string, wait bool) error {
	ctx := cmd.Context()
	receipt, err := c.EraseUser(ctx, id)
	if err == nil && wait {
		var r struct{ Receipt string }
		if err = json.Unmarshal(receipt, &r); err == nil {
			err = c.Purge(ctx)
		}
		if err == nil {
			receipt, err = c.Receipt(ctx, r.Receipt)
		}
	}
	if err != nil {
		return remoteError(ctx, fmt.Errorf("erase: %w", err))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", receipt)
	return err
}

func eraseList(
	cmd *cobra.Command, c *client.Client, o client.EraseOptions, wait, asJSON bool,
) error {
	var bar *progress
	o.Progress = func(p client.ErasedList) {
		if bar == nil {
			bar = newProgress(cmd.ErrOrStderr(), "bytes", p.TotalBytes)
		}
		bar.at(p.Bytes)
	}
	ctx := cmd.Context()
	done, err := c.EraseList(ctx, o)
	if bar != nil {
		bar.end()
	}
	if err == nil && wait {
		err = c.Purge(ctx)
	}
	if err != nil {
		return remoteError(ctx, fmt.Errorf("erase %s: %w", o.Path, err))
	}
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), map[string]any{
			"erased": done.Erased, "before": done.Before, "unknown": done.Unknown,
			"rejected": done.Rejected, "resumed_at": done.Resumed, "receipts": done.Receipts,
			"purged": wait,
		})
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s erased, %s erased before, %s unknown, "+
			"%s rejected; receipts in %s\n", grouped(done.Erased), grouped(done.Before),
			grouped(done.Unknown), grouped(done.Rejected), done.Receipts)
	}
	if err == nil && done.Rejected > 0 {
		err = &exitError{exitFailure, fmt.Errorf("%s rejected: see %s",
			count(int(done.Rejected), "line"), done.Receipts)}
	}
	return err
}

// exportUser writes everything that is held of a person to a file, or to stdout.
func exportUser(cmd *cobra.Command, server remote, id string, args []string) error {
	if len(args) != 1 {
		return wrongUse(cmd, errors.New("name the file to write, - for stdout"))
	}
	c, err := server.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	if args[0] == "-" {
		return remoteError(ctx, c.ExportUser(ctx, id, cmd.OutOrStdout()))
	}
	part := args[0] + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = c.ExportUser(ctx, id, file); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(remoteError(ctx, err), os.Remove(part))
	}
	return os.Rename(part, args[0])
}
