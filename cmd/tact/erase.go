package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"tact/server/client"
)

// eraseFlags are what `tact erase` is told.
type eraseFlags struct {
	server   remote
	who      client.Person
	list     client.EraseOptions
	wait     bool
	json     bool
	backups  string
	ledgers  []string // folders of backups whose ledgers count
	noServer bool
}

func newErase() *cobra.Command {
	var o eraseFlags
	cmd := &cobra.Command{
		Use:   "erase USER_ID | --list FILE | --backups DIR",
		Short: "Erase people, with a receipt",
		Long: "erase makes a person a stranger: from its return on nobody is told anything of them.\n" +
			"The receipt names them by a keyed hash and counts what was held.\n\n" +
			"--list erases everybody of a file, one user id a line, or one JSON object a line:\n" +
			`  {"user_id":"u1"} or {"identities":[{"type":"email","value":"a@example.com"}]}` + "\n" +
			"Receipts go to FILE.receipts.ndjson, with the number of the line. What was interrupted\n" +
			"goes on where it stopped when the same command is given again.\n\n" +
			"--wait returns when no file of the server's folder, nor of its --backup-dir, holds the\n" +
			"keys any more that open what else lies there of them; without it that is so within some\n" +
			"two minutes.\n\n" +
			"--backups throws the keys of everybody who was ever erased out of the backups in a folder\n" +
			"of this machine that no server has as its --backup-dir: whom the server knows and whom\n" +
			"the newest backup there, and in each --erased, knows. With --offline no server is asked.",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.who.ID = args[0]
			}
			if err := o.check(); err != nil {
				return wrongUse(cmd, err)
			}
			return o.run(cmd)
		},
	}
	o.server.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.who.Identity, "identity", "", "USER_ID is the value of an identity of this type")
	f.StringVar(&o.list.Path, "list", "", "erase everybody of this file")
	f.StringVar(&o.list.Receipts, "receipts", "", "with --list: where the receipts go")
	f.BoolVar(&o.list.Restart, "restart", false, "with --list: forget an interrupted erasure")
	f.BoolVar(&o.wait, "wait", false, "wait until the keys are off the server's disk")
	f.StringVar(&o.backups, "backups", "", "forget erased people in the backups of this folder")
	f.StringArrayVar(&o.ledgers, "erased", nil, "with --backups: another folder of backups of the\n"+
		"same store, whose ledger of erasures counts too")
	f.BoolVar(&o.noServer, "offline", false, "with --backups: ask no server whom it has erased")
	f.BoolVar(&o.json, "json", false, "with --list or --backups: a line of JSON")
	return cmd
}

func (o *eraseFlags) check() error {
	named := o.who.ID != "" || o.list.Path != ""
	switch {
	case o.who.ID != "" && o.list.Path != "", !named && o.backups == "":
		return errors.New("name a user, or --list FILE, or --backups DIR")
	case o.backups == "" && (o.noServer || len(o.ledgers) > 0):
		return errors.New("--erased and --offline go with --backups")
	case named && o.noServer:
		return errors.New("--offline erases nobody: it forgets in --backups who is erased already")
	}
	return nil
}

func (o *eraseFlags) run(cmd *cobra.Command) error {
	if o.noServer {
		return o.forget(cmd, nil)
	}
	c, err := o.server.client()
	if err != nil {
		return err
	}
	defer c.Close()
	switch {
	case o.list.Path != "":
		err = eraseList(cmd, c, o.list, o.wait, o.json)
	case o.who.ID != "":
		err = eraseOne(cmd, c, o.who, o.wait)
	}
	if err != nil || o.backups == "" {
		return err
	}
	return o.forget(cmd, c)
}

// eraseOne erases one person and prints the receipt.
func eraseOne(cmd *cobra.Command, c *client.Client, who client.Person, wait bool) error {
	ctx := cmd.Context()
	receipt, err := c.EraseUser(ctx, who)
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
func exportUser(cmd *cobra.Command, server remote, who client.Person, args []string) error {
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
		return remoteError(ctx, c.ExportUser(ctx, who, cmd.OutOrStdout()))
	}
	part := args[0] + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = c.ExportUser(ctx, who, file); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(remoteError(ctx, err), os.Remove(part))
	}
	return os.Rename(part, args[0])
}
