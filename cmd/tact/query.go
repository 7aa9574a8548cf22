package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tact/server/client"
)

func newQuery() *cobra.Command {
	var (
		server remote
		people who
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "query --rule FILE|- | --segment ID | --offer ID | --everybody",
		Short: "Count or list the people a rule, a segment or an offer is for",
		Long: "query asks a running server for whom a rule, a segment or an offer is.\n\n" +
			"--format count prints how many, ids one user id a line, ndjson one line of JSON for\n" +
			"each person with the --attributes and --tags asked for. Somebody without a user id\n" +
			"is printed as JSON with the identity. With --json every line is JSON, the first says\n" +
			"when and by which revision everybody was judged.",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := people.read(cmd)
			if err != nil {
				return err
			}
			c, err := server.client()
			if err != nil {
				return err
			}
			defer c.Close()
			switch q.Format {
			case "count":
				return runCount(cmd, c, q, asJSON)
			case "ids", "ndjson":
				return runQuery(cmd, c, q, asJSON)
			}
			return wrongUse(cmd, errors.New("--format must be count, ids or ndjson"))
		},
	}
	server.flags(cmd)
	people.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&people.query.Format, "format", "count", "count, ids or ndjson")
	f.Int64Var(&people.query.Limit, "limit", 0, "end after so many people (default all)")
	f.BoolVar(&asJSON, "json", false, "nothing but JSON on stdout")
	return cmd
}

func runCount(cmd *cobra.Command, c *client.Client, q client.Query, asJSON bool) error {
	head, err := c.Count(cmd.Context(), q)
	if err != nil {
		return remoteError(cmd.Context(), err)
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), head)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of revision %d at %s%s%s\n", noun(head.Users),
		head.Revision, head.At.Format("2006-01-02T15:04:05.000Z"), because(head.Reason),
		byDay(head.ByDay))
	return err
}

// byDay says of how many people a window was answered by calendar day.
func byDay(n int64) string {
	if n == 0 {
		return ""
	}
	return "; a window was answered by calendar day of " + noun(n)
}

// noun says how many people.
func noun(n int64) string {
	if n == 1 {
		return "1 person"
	}
	return grouped(n) + " people"
}

// because says why an offer is for nobody.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": the offer is " + reason
}

func runQuery(cmd *cobra.Command, c *client.Client, q client.Query, asJSON bool) error {
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	_, err := c.People(cmd.Context(), q, client.Answer{
		Head: func(h client.QueryHead) error {
			if asJSON {
				return writeJSON(out, h)
			}
			return nil
		},
		Person: func(line []byte) error {
			var id string
			if !asJSON && json.Unmarshal(line, &id) == nil {
				_, err := out.WriteString(id + "\n")
				return err
			}
			_, err := out.Write(append(line[:len(line):len(line)], '\n'))
			return err
		},
	})
	return remoteError(cmd.Context(), errors.Join(err, out.Flush()))
}
