package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tact/bench"
)

// benchFlags are the flags of tact bench.
type benchFlags struct {
	users              userCount
	pairs              int
	window, within     time.Duration
	seed               uint64
	quick, json, list  bool
	only, folder       string
	out, html, profile string
}

func newBench() *cobra.Command {
	var b benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this build on this machine, each figure beside a reference",
		Long: "bench loads a made-up population into a store of its own and runs named workloads.\n" +
			"Each figure is taken in turns with a reference of the same run; the least ratio of\n" +
			"the pairs is what to trust.\n\n" +
			"  tact bench --quick                        about two minutes\n" +
			"  tact bench --out a.json --html a.html     half an hour\n" +
			"  tact bench --only 'decide/' --users 10M\n" +
			"  tact bench compare a.json b.json",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	f := cmd.Flags()
	f.Var(&b.users, "users", "people, such as 500k or 10M (default 1M, quick 50k)")
	f.IntVar(&b.pairs, "pairs", 0, "turns of each figure, at least 5 (default 9, quick 5)")
	f.DurationVar(&b.window, "window", 0, "length of a turn (default 1s, quick 100ms)")
	f.DurationVar(&b.within, "within", 0,
		"about how long all may take, with fewer pairs and in the end without the last\n"+
			"workloads (default no bound, quick 2m)")
	f.Uint64Var(&b.seed, "seed", 1, "of people and requests")
	f.BoolVar(&b.quick, "quick", false, "small sizes")
	f.BoolVar(&b.json, "json", false, "print the document")
	f.BoolVar(&b.list, "list", false, "list the workloads and stop")
	f.StringVar(&b.only, "only", "", "workloads whose name fits this regular expression")
	f.StringVar(&b.folder, "folder", "", "where the store lies (default a temporary folder)")
	f.StringVar(&b.out, "out", "", "write the document to this file")
	f.StringVar(&b.html, "html", "", "write a page to this file")
	f.StringVar(&b.profile, "profiles", "", "write a profile of each figure into this folder")
	cmd.AddCommand(newBenchCompare(), newBenchReport())
	return cmd
}

func (b *benchFlags) run(cmd *cobra.Command) error {
	if b.list {
		for _, w := range bench.Names() {
			fmt.Fprintf(cmd.OutOrStdout(), "%-28s %s\n", w[0], w[1])
		}
		return nil
	}
	o := bench.Options{
		Users: int(b.users), Pairs: b.pairs, Window: b.window, Seed: b.seed, Quick: b.quick,
		Within: b.within,
		Folder: b.folder, Profiles: b.profile, Server: benchServer, Floor: benchFloor,
		Flags: os.Args[min(2, len(os.Args)):], Progress: b.progress(cmd.ErrOrStderr()),
	}
	v := buildVersion()
	o.Build = v.Version + " " + v.Revision
	if b.only != "" {
		only, err := regexp.Compile(b.only)
		if err != nil {
			return wrongUse(cmd, fmt.Errorf("--only: %w", err))
		}
		o.Only = only
	}
	if err := canWrite(b.out, b.html); err != nil {
		return wrongUse(cmd, err)
	}
	d, err := bench.Run(cmd.Context(), o)
	if d == nil {
		return wrongUse(cmd, err)
	}
	if b.json {
		err = errors.Join(err, d.WriteJSON(cmd.OutOrStdout()))
	} else {
		err = errors.Join(err, d.WriteText(cmd.OutOrStdout()))
	}
	return errors.Join(err, toFile(b.out, d.WriteJSON), toFile(b.html, d.WriteHTML))
}

// progress says on stderr what goes on: one line a workload, with the time that the
// ones before took and, at their pace, what is left.
func (b *benchFlags) progress(w io.Writer) func(done, planned int, what string) {
	last, begun := time.Time{}, time.Now()
	return func(done, planned int, what string) {
		passed := time.Since(begun)
		switch {
		case what == "":
		case planned > 0 && done > 0:
			left := passed / time.Duration(done) * time.Duration(planned-done)
			fmt.Fprintf(w, "%2d of %d  %-28s %s, some %s left\n", done+1, planned, what,
				passed.Round(time.Second), left.Round(time.Second))
		case planned > 0:
			fmt.Fprintf(w, "%2d of %d  %s\n", done+1, planned, what)
		case time.Since(last) >= lineEvery:
			last = time.Now()
			fmt.Fprintln(w, what)
		}
	}
}

// canWrite tells before a long run what toFile would meet after it. A file that is
// there stays as it is.
func canWrite(names ...string) error {
	for _, name := range names {
		if name == "" {
			continue
		}
		_, err := os.Stat(name)
		fresh := errors.Is(err, os.ErrNotExist)
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			err = f.Close()
		}
		if err == nil && fresh {
			err = os.Remove(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// toFile writes into a file when one is named.
func toFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// benchServer starts this program as a server on a store.
func benchServer(ctx context.Context, folder string) (*bench.Process, error) {
	p, err := startSelf(ctx, "serving at ", "serve", "--data", folder, "--listen", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	key, err := readKey(folder)
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	address := strings.TrimPrefix(strings.TrimSpace(p.said), "http://")
	return &bench.Process{Address: address, Key: key, PID: p.cmd.Process.Pid, Stop: p.stop}, nil
}

// benchFloor starts the bare server.
func benchFloor(
	ctx context.Context, replyBytes int, spin time.Duration,
) (*bench.Process, error) {
	s, err := startSpinning(ctx, replyBytes, spin)
	if err != nil {
		return nil, err
	}
	return &bench.Process{
		Address: strings.TrimPrefix(s.Address, "http://"), PID: s.PID, Stop: s.Stop,
	}, nil
}
