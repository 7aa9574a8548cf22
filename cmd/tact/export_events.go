package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tact/server/client"
)

// eventExport is an export of the event log.
type eventExport struct {
	on          bool
	from, until string
	query       client.EventsQuery
}

func (x *eventExport) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&x.on, "events", false, "write events and outcomes of the event log, not people")
	f.StringVar(&x.from, "from", "", "with --events: received at this time or later, as "+
		"2026-11-22T10:00:00Z")
	f.StringVar(&x.until, "until", "", "with --events: received before this time")
	f.StringVar(&x.query.Event, "event", "", "with --events: of this name only")
	f.StringVar(&x.query.UserID, "of", "", "with --events: of this user only")
	f.StringVar(&x.query.After, "after", "", "with --events: what comes behind this cursor, "+
		"which the end of the\nlast such export said; start for the beginning. With the same --from, "+
		"--until,\n--event and --of nothing comes twice and nothing is left out")
	f.Int64Var(&x.query.Limit, "limit", 0, "with --events: end after so many")
}

// asNDJSON refuses a format that events are not written in, whether it is asked for or
// the name of the file promises it.
func (x *eventExport) asNDJSON(cmd *cobra.Command, format string, args []string) error {
	if format != "" && format != "ndjson" {
		return wrongUse(cmd, fmt.Errorf("--format %s: events are written as ndjson only", format))
	}
	if format != "" || len(args) == 0 {
		return nil
	}
	switch ext := filepath.Ext(args[0]); ext {
	case ".csv", ".parquet", ".roaring":
		return wrongUse(cmd, fmt.Errorf("%s: events are written as ndjson only: give the file another "+
			"name, or say --format ndjson", args[0]))
	}
	return nil
}

// run writes the events to a file that has its name when it is whole, or to stdout.
func (x *eventExport) run(cmd *cobra.Command, c *client.Client, path string, asJSON bool) error {
	var err error
	for _, t := range []struct {
		name, text string
		to         *time.Time
	}{{"from", x.from, &x.query.From}, {"until", x.until, &x.query.Until}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = time.Parse(time.RFC3339Nano, t.text); err != nil {
			return wrongUse(cmd, fmt.Errorf("--%s: must be a time with zone, as "+
				"2026-11-22T10:00:00Z", t.name))
		}
	}
	if x.query.Limit < 0 {
		return wrongUse(cmd, errors.New("--limit: must not be negative"))
	}
	if path == "-" {
		end, err := x.write(cmd, c, cmd.OutOrStdout())
		if err == nil && end.Cursor != "" {
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "go on with --after %s\n", end.Cursor)
		}
		return err
	}
	part := path + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	end, err := x.write(cmd, c, file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), map[string]any{
			"file": path, "events": end.Events, "unreadable": end.Unreadable, "limited": end.Limited,
			"cursor": end.Cursor,
		})
	}
	var more string
	if end.Unreadable > 0 {
		more = fmt.Sprintf("; %s of people who are gone are left out", grouped(end.Unreadable))
	}
	if end.Limited {
		more += "; the limit ended it"
	}
	if end.Cursor != "" {
		more += "\ngo on with --after " + end.Cursor
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s events in %s%s\n", grouped(end.Events), path, more)
	return err
}

// write streams the events to out.
func (x *eventExport) write(
	cmd *cobra.Command, c *client.Client, out io.Writer,
) (client.EventsEnd, error) {
	to := bufio.NewWriterSize(out, 64<<10)
	end, err := c.Events(cmd.Context(), x.query, func(line []byte) error {
		_, err := to.Write(append(line[:len(line):len(line)], '\n'))
		return err
	})
	if err = errors.Join(err, to.Flush()); err != nil {
		return end, remoteError(cmd.Context(), fmt.Errorf("export of events: %w", err))
	}
	return end, nil
}
