package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tact/server/client"
)

func newTop() *cobra.Command {
	var from remote
	var every time.Duration
	var count int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what a running server does, again and again",
		Long: "top reads /metrics of a server and shows rates, latencies, results by reason,\n" +
			"groups, commits and memory. On a terminal the picture is drawn in place.",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond || count < 0 {
				return wrongUse(cmd, fmt.Errorf("--every is at least 100ms, --count not negative"))
			}
			c, err := from.client()
			if err != nil {
				return err
			}
			t := top{client: c, out: cmd.OutOrStdout(), every: every, json: asJSON}
			return remoteError(cmd.Context(), t.run(cmd.Context(), count))
		},
	}
	from.flags(cmd)
	f := cmd.Flags()
	f.DurationVar(&every, "every", 2*time.Second, "pause between two pictures")
	f.IntVar(&count, "count", 0, "stop after so many pictures; 0: until interrupted")
	f.BoolVar(&asJSON, "json", false, "one JSON document a line")
	return cmd
}

// top draws pictures of one server.
type top struct {
	client *client.Client
	out    io.Writer
	every  time.Duration
	json   bool
}

func (t *top) run(ctx context.Context, count int) error {
	before, err := t.client.Metrics(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for shown := 0; count == 0 || shown < count; shown++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		after, err := t.client.Metrics(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		p := client.NewPicture(before, after, now.Sub(began))
		before, began = after, now
		if err := t.show(&p); err != nil {
			return err
		}
	}
	return nil
}

func (t *top) show(p *client.Picture) error {
	if t.json {
		return json.NewEncoder(t.out).Encode(p)
	}
	text := drawPicture(p)
	if f, ok := t.out.(interface{ Fd() uintptr }); ok && term.IsTerminal(int(f.Fd())) {
		text = "\x1b[H\x1b[2J" + text // home, and clear
	}
	_, err := io.WriteString(t.out, text+"\n")
	return err
}
