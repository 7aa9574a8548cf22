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
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use:   "import --kind users|events FILE",
		Short: "Send a file of users or events to a running server",
		Long: "import reads FILE (.csv, .tsv, .ndjson; also .gz and .zst) and sends it in batches.\n" +
			"An import that was interrupted goes on where it stopped when it is started again.\n" +
			"Rejected lines are named in FILE.rejected.ndjson, with line number and reason.\n\n" +
			"--map TARGET=COLUMN[:TYPE] names the columns, for example\n" +
			"  --map user_id=id --map attributes.birthday=born:date --map tags.vip=is_vip:bool\n" +
			"  --map \"consents.marketing.sms=sms_ok:bool\" --map \"locale='zh-CN'\"\n" +
			"Types: string int float bool date time unix unixms list json.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if options.Kind != "users" && options.Kind != "events" {
				return wrongUse(cmd, errors.New("--kind must be users or events"))
			}
			options.Path = args[0]
			c, err := server.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return runImport(cmd, c, options, asJSON)
		},
	}
	server.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&options.Kind, "kind", "", "what the records are: users or events")
	f.StringArrayVar(&options.Map, "map", nil, "TARGET=COLUMN[:TYPE]; may be given many times")
	f.IntVar(&options.Connections, "connections", 0, "requests at the same time (default 4)")
	f.BoolVar(&options.Restart, "restart", false, "forget an interrupted import of the file")
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
