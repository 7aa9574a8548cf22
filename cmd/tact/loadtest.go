package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tact/loadtest"
)

// loadFlags are what `tact loadtest` is told beside the options of the test.
type loadFlags struct {
	o                      loadtest.Options
	remote                 remote
	mode, arrivals         string
	context, properties    string
	rate, slo, share, when string
	mix, burst             string
	floor, json            bool
	out, html              string
}

func newLoadtest() *cobra.Command {
	l := loadFlags{}
	cmd := &cobra.Command{
		Use:   "loadtest",
		Short: "Load a server from outside, and say how far the figures can be believed",
		Long: "loadtest sends requests when they are due, whatever the server does, and counts\n" +
			"latency from that moment. It prints its own health with every result and calls a\n" +
			"result void that must not be believed (exit code 1).\n\n" +
			"  tact loadtest --rate 5000 --duration 30s --html report.html\n" +
			"  tact loadtest --mode search --slo 'p99.9<1ms'\n" +
			"  tact loadtest --rate 70% --floor          # of its own saturation, beside a bare server",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.run(cmd)
		},
	}
	l.remote.flags(cmd)
	l.flags(cmd)
	cmd.AddCommand(newLoadtestMerge(), newLoadtestFloor())
	return cmd
}

// options reads what flags cannot say by themselves.
func (l *loadFlags) options(cmd *cobra.Command) (err error) {
	o := &l.o
	if o.Address, err = l.remote.where(); err != nil {
		return err
	}
	if o.Key, err = l.remote.secret(); err != nil {
		return err
	}
	o.Mode, o.Arrivals = loadtest.Mode(l.mode), loadtest.Arrivals(l.arrivals)
	o.Scenario.Context = json.RawMessage(l.context)
	o.Scenario.Properties = json.RawMessage(l.properties)
	if o.Scenario.Log != "" {
		o.Scenario.Name = loadtest.Recorded
	}
	o.Flags = shownFlags(cmd)
	v := buildVersion()
	o.Commit = v.Version + " " + v.Revision
	if l.floor {
		o.Floor = startFloor
	}
	read := func(text string, parse func(string) error) {
		if text != "" {
			err = errors.Join(err, parse(text))
		}
	}
	read(l.rate, func(s string) (err error) {
		o.Rate, o.Load, err = loadtest.ParseRate(s)
		return err
	})
	read(l.slo, func(s string) (err error) {
		o.SLO, err = loadtest.ParseSLO(s)
		return err
	})
	read(l.share, func(s string) (err error) {
		o.Share, err = loadtest.ParseShare(s)
		return err
	})
	read(l.burst, func(s string) (err error) {
		o.Burst, err = loadtest.ParseBurst(s)
		return err
	})
	read(l.mix, func(s string) (err error) {
		o.Scenario.Mix, err = loadtest.ParseMix(s)
		return err
	})
	read(l.when, func(s string) (err error) {
		o.StartAt, err = time.Parse(time.RFC3339, s)
		return err
	})
	if err != nil {
		return wrongUse(cmd, err)
	}
	return nil
}

func (l *loadFlags) run(cmd *cobra.Command) error {
	if err := l.options(cmd); err != nil {
		return err
	}
	if err := canWrite(l.out, l.html); err != nil {
		return wrongUse(cmd, err)
	}
	stderr := cmd.ErrOrStderr()
	var bar *progress
	end := func() {
		if bar != nil {
			bar.end()
			bar = nil
		}
	}
	l.o.Say = func(line string) {
		end()
		fmt.Fprintln(stderr, line)
	}
	l.o.Progress = func(elapsed, whole time.Duration) {
		if bar == nil || bar.total != whole.Milliseconds() {
			end()
			bar = newProgress(stderr, "ms of load", whole.Milliseconds())
		}
		bar.at(elapsed.Milliseconds())
	}
	r, err := loadtest.Perform(cmd.Context(), l.o)
	end()
	if err != nil {
		return loadError(cmd, err)
	}
	return interrupted(cmd.Context(), writeResult(cmd, r, l.json, l.out, l.html))
}

// shownFlags are the flags that were given, without the key.
func shownFlags(cmd *cobra.Command) []string {
	shown := []string{}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name == "key" || f.Name == "data" {
			return
		}
		shown = append(shown, "--"+f.Name+"="+f.Value.String())
	})
	return shown
}

// loadError gives an error of a test its exit code.
func loadError(cmd *cobra.Command, err error) error {
	switch {
	case errors.Is(err, loadtest.ErrOptions):
		return wrongUse(cmd, err)
	case errors.Is(err, loadtest.ErrRemote):
		return wrongUse(cmd, fmt.Errorf("%w; --allow-remote loads it all the same", err))
	case errors.Is(err, loadtest.ErrUnreachable):
		return unreachable(err)
	}
	return err
}

// writeResult prints a result and writes the files that were asked for. A void
// result is a failure.
func writeResult(cmd *cobra.Command, r *loadtest.Result, asJSON bool, out, html string) error {
	print := r.WriteText
	if asJSON {
		print = r.WriteJSON
	}
	if err := print(cmd.OutOrStdout()); err != nil {
		return err
	}
	if err := errors.Join(toFile(out, r.WriteJSON), toFile(html, r.WriteHTML)); err != nil {
		return err
	}
	if len(r.Void) > 0 {
		return &exitError{exitFailure, errors.New("the result is void: " + strings.Join(r.Void, "; "))}
	}
	return nil
}
