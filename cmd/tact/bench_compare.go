package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tact/bench"
)

func newBenchCompare() *cobra.Command {
	asJSON, strict := false, false
	cmd := &cobra.Command{
		Use:   "compare BEFORE AFTER",
		Short: "Compare two documents of tact bench, with intervals of 95 %",
		Long: "compare says of each figure whether it became slower or faster, or that no\n" +
			"difference can be claimed. With --strict it fails when something became slower.",
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, names []string) error {
			var documents [2]*bench.Document
			for i, name := range names {
				d, err := readDocument(name)
				if err != nil {
					return err
				}
				documents[i] = d
			}
			changes := bench.Compare(documents[0], documents[1])
			slower := 0
			for _, c := range changes {
				if c.Verdict == bench.Slower {
					slower++
				}
			}
			var err error
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), changes)
			} else {
				err = printChanges(cmd, changes)
			}
			if strict && slower > 0 {
				err = errors.Join(err, fmt.Errorf("%d figures became slower", slower))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&strict, "strict", false, "exit code 1 when a figure became slower")
	return cmd
}

func printChanges(cmd *cobra.Command, changes []bench.Change) error {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%-28s %10s %10s %7s  %-15s %s\n", "workload", "before", "after", "ratio",
		"95 %", "verdict")
	for _, c := range changes {
		_, err := fmt.Fprintf(w, "%-28s %10.4g %10.4g %7.3f  %-15s %s\n", c.Name, c.Before, c.After,
			c.Ratio, fmt.Sprintf("%.3f … %.3f", c.Low, c.High), c.Verdict)
		if err != nil {
			return err
		}
	}
	return nil
}

func newBenchReport() *cobra.Command {
	out := ""
	cmd := &cobra.Command{
		Use:   "report DOCUMENT",
		Short: "Write a document of tact bench as one page",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, names []string) error {
			d, err := readDocument(names[0])
			if err != nil {
				return err
			}
			if out == "" {
				out = strings.TrimSuffix(names[0], ".json") + ".html"
			}
			return toFile(out, d.WriteHTML)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file of the page (default beside the document)")
	return cmd
}

func readDocument(name string) (*bench.Document, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	d, err := bench.Read(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// selfProcess is this program, started once more.
type selfProcess struct {
	cmd  *exec.Cmd
	said string // the rest of the line that says it is ready
	stop func() error
}

// startSelf starts this program and waits for a line of its output that holds a
// text.
func startSelf(ctx context.Context, ready string, args ...string) (*selfProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &selfProcess{cmd: cmd}
	p.stop = func() error {
		err := cmd.Process.Signal(syscall.SIGTERM)
		if errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		waited := cmd.Wait()
		if ctx.Err() != nil {
			return nil // it was ended with this process
		}
		return errors.Join(err, waited)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), ready); ok {
			p.said = rest
			go func() {
				for lines.Scan() { // so that it never waits for a reader
				}
			}()
			return p, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("tact %s ended before it was ready", args[0]), p.stop())
}
