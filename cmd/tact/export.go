package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tact/server/client"
)

func newExport() *cobra.Command {
	var (
		server  remote
		people  who
		options client.ExportOptions
		events  eventExport
		user    client.Person
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use: "export --rule FILE|- | --segment ID | --offer ID | --everybody | --user ID | " +
			"--events FILE",
		Short: "Write the people of a rule, a segment or an offer, or the event log, to a file",
		Long: "export writes people with chosen attributes and tags to FILE as ndjson, csv or\n" +
			"parquet, or their ordinals as a roaring bitmap. The file is FILE.part until it is\n" +
			"complete. ndjson and csv go on where they stopped after a broken connection, and when\n" +
			"the same command is given again within 15 minutes; parquet and roaring are fetched\n" +
			"again, for the same people.\n\n" +
			"--user writes everything that is held of one person, as one JSON document.\n\n" +
			"--events writes what happened, as far back as the event log is kept, one line of JSON\n" +
			"an event or outcome, with everything personal in it; - for stdout. A connection that\n" +
			"breaks ends it, and no file is left.",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if events.on {
				if err := events.asNDJSON(cmd, people.query.Format, args); err != nil {
					return err
				}
				return exportEvents(cmd, server, &events, args, asJSON)
			}
			if user.ID != "" {
				return exportUser(cmd, server, user, args)
			}
			if len(args) != 1 {
				return wrongUse(cmd, errors.New("name the file to write"))
			}
			options.Path = args[0]
			if options.Query, err = people.read(cmd); err != nil {
				return err
			}
			if options.Query.Format, err = fileFormat(cmd, options.Query.Format, args[0]); err != nil {
				return err
			}
			c, err := server.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return runExport(cmd, c, options, asJSON)
		},
	}
	server.flags(cmd)
	people.flags(cmd)
	events.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&people.query.Format, "format", "",
		"ndjson, csv, parquet or roaring (default: what FILE ends in)")
	f.StringVar(&user.ID, "user", "", "everything that is held of this person, as JSON; - for stdout")
	f.StringVar(&user.Identity, "identity", "",
		"with --user: it is the value of an identity of this type, not a user id")
	f.BoolVar(&options.Restart, "restart", false, "forget an interrupted export to FILE")
	f.BoolVar(&asJSON, "json", false, "one line of JSON")
	return cmd
}

func exportEvents(
	cmd *cobra.Command, server remote, events *eventExport, args []string, asJSON bool,
) error {
	if len(args) != 1 {
		return wrongUse(cmd, errors.New("name the file to write, - for stdout"))
	}
	c, err := server.client()
	if err != nil {
		return err
	}
	defer c.Close()
	return events.run(cmd, c, args[0], asJSON)
}

// fileFormat is the format asked for, else what the name of the file says.
func fileFormat(cmd *cobra.Command, format, path string) (string, error) {
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(path), ".")
	}
	switch format {
	case "ndjson", "csv", "parquet", "roaring":
		return format, nil
	}
	return "", wrongUse(cmd, errors.New("--format must be ndjson, csv, parquet or roaring"))
}

func runExport(
	cmd *cobra.Command, c *client.Client, o client.ExportOptions, asJSON bool,
) error {
	what := "people"
	if o.Query.Format == "parquet" || o.Query.Format == "roaring" {
		what = "bytes"
	}
	var bar *progress
	o.Progress = func(done, total int64) {
		if bar == nil {
			bar = newProgress(cmd.ErrOrStderr(), what, total)
		}
		bar.at(done)
	}
	done, err := c.Export(cmd.Context(), o)
	if bar != nil {
		bar.end()
	}
	if err != nil {
		return remoteError(cmd.Context(), fmt.Errorf("export to %s: %w", o.Path, err))
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), map[string]any{
			"file": o.Path, "users": done.Users, "bytes": done.Bytes, "resumed_at": done.Resumed,
			"at": done.Head.At, "config_version": done.Head.Revision,
			"ordinals": done.Head.Ordinals, "reason": done.Head.Reason,
		})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of revision %d at %s in %s (%s bytes)%s\n",
		noun(done.Users), done.Head.Revision, done.Head.At.Format("2006-01-02T15:04:05.000Z"),
		o.Path, grouped(done.Bytes), because(done.Head.Reason))
	return err
}
