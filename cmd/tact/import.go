package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tact/server/client"
)

func newImport() *cobra.Command {
	var (
		server  remote
		options client.ImportOptions
		list    client.ListOptions
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use:   "import --kind users|events FILE",
		Short: "Send a file of users, events or listed values to a running server",
		Long: "import reads FILE (.csv, .tsv, .ndjson; also .gz and .zst) and sends it in batches.\n" +
			"An import that was interrupted goes on where it stopped when it is started again.\n" +
			"Rejected lines are named in FILE.rejected.ndjson, with line number and reason.\n\n" +
			"--map TARGET=COLUMN[:TYPE] names the columns, for example\n" +
			"  --map user_id=id --map attributes.birthday=born:date --map tags.vip=is_vip:bool\n" +
			"  --map \"consents.marketing.sms=sms_ok:bool\" --map \"locale='zh-CN'\"\n" +
			"Types: string int float bool date time unix unixms list json.\n\n" +
			"--list ID sends values into a suppression list: --kind is then user, email, phone,\n" +
			"push, wechat or wecom, FILE has one value a line (.txt), a column of them (.csv, .tsv),\n" +
			"lines as of POST /v1/lists/{id}/entries (.ndjson, without --kind), or SHA-256 digests\n" +
			"of 32 bytes (.bin). --hashed: the values are digests in hexadecimal.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if list.List == "" && options.Kind != "users" && options.Kind != "events" {
				return wrongUse(cmd, errors.New("--kind must be users or events"))
			}
			options.Path = args[0]
			c, err := server.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if list.List != "" {
				list.Path, list.Kind, list.Restart = options.Path, options.Kind, options.Restart
				return runListImport(cmd, c, list, asJSON)
			}
			return runImport(cmd, c, options, asJSON)
		},
	}
	server.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&options.Kind, "kind", "", "what the records are: users or events")
	f.StringArrayVar(&options.Map, "map", nil, "TARGET=COLUMN[:TYPE]; may be given many times")
	f.IntVar(&options.Connections, "connections", 0, "requests at the same time (default 4)")
	f.BoolVar(&options.Restart, "restart", false, "forget an interrupted import of the file")
	f.StringVar(&list.List, "list", "", "send values into this suppression list")
	f.BoolVar(&list.Hashed, "hashed", false, "with --list: SHA-256 digests in hexadecimal")
	f.StringVar(&list.Column, "column", "", "with --list: the column of the values")
	f.BoolVar(&list.Remove, "remove", false, "with --list: take the values out")
	f.BoolVar(&asJSON, "json", false, "one line of JSON")
	return cmd
}

func runImport(
	cmd *cobra.Command, c *client.Client, o client.ImportOptions, asJSON bool,
) error {
	var bar *progress
	o.Progress = func(p client.ImportProgress) {
		if bar == nil {
			bar = newProgress(cmd.ErrOrStderr(), "bytes", p.TotalBytes)
		}
		bar.at(p.Bytes)
	}
	done, err := c.Import(cmd.Context(), o)
	if bar != nil {
		bar.end()
	}
	if err != nil {
		if done.Line > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(),
				"stopped at line %d; the same command goes on from there\n", done.Line)
		}
		return remoteError(cmd.Context(), fmt.Errorf("import %s: %w", o.Path, err))
	}
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), map[string]any{
			"lines": done.Line, "applied": done.Applied, "duplicate": done.Duplicate,
			"rejected": done.Rejected, "rejected_file": done.RejectedFile,
			"resumed_at": done.Resumed,
		})
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s applied, %s applied before, %s rejected\n",
			grouped(done.Applied), grouped(done.Duplicate), grouped(done.Rejected))
	}
	if err == nil && done.Rejected > 0 {
		err = &exitError{exitFailure, fmt.Errorf("%s rejected: see %s",
			count(int(done.Rejected), "line"), done.RejectedFile)}
	}
	return err
}

func runListImport(
	cmd *cobra.Command, c *client.Client, o client.ListOptions, asJSON bool,
) error {
	var bar *progress
	o.Progress = func(p client.ListProgress) {
		if bar == nil {
			bar = newProgress(cmd.ErrOrStderr(), "bytes", p.TotalBytes)
		}
		bar.at(p.Bytes)
	}
	done, err := c.ImportList(cmd.Context(), o)
	if bar != nil {
		bar.end()
	}
	if err != nil {
		return remoteError(cmd.Context(), fmt.Errorf("import %s: %w", o.Path, err))
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), map[string]any{
			"values": done.Values, "changed": done.Changed, "rejected": done.Rejected,
		})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s values, %s of them new to the list or taken out of "+
		"it, %s rejected\n", grouped(done.Values), grouped(done.Changed), grouped(done.Rejected))
	return err
}
