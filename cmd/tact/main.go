// Command tact is the one binary: the server, its demo, and what talks to a
// running server.
//
// Laws, each with a test:
//  1. stdout holds data, stderr holds logs: with --json stdout is JSON and
//     nothing else.
//  2. The exit code says what happened: 0 done, 1 failure, 2 wrong use of the
//     command line, 3 definitions that are not valid, 4 no server to talk to,
//     5 a damaged store, 130 ended by SIGINT.
//  3. A subcommand turns flags into Options, opens from the bottom up and closes
//     from the top down; what it does is done by the packages below.
//
// Path: main → root command → one file for each subcommand.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // zones of people, also where the machine has no zone files

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitDefinitions = 3
	exitUnreachable = 4
	exitDamaged     = 5
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// exitError carries the exit code of an error. Its message is printed unless
// everything was said already (err nil).
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// errInterrupted is the cause of a context that a signal ended, when it is SIGINT.
var errInterrupted = errors.New("interrupted")

// errTerminated is the cause when it is another signal that asks to end.
var errTerminated = errors.New("terminated")

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		cause := errTerminated
		if <-signals == os.Interrupt {
			cause = errInterrupted
		}
		cancel(cause)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and gives its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(context.Cause(ctx), errInterrupted) {
		return exitInterrupted
	}
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{exitFailure, err}
	}
	if e.err != nil {
		fmt.Fprintln(stderr, "tact:", e.err)
	}
	return e.code
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "tact",
		Short: "Which offer, through which channel, with which message, for this user, now",
		Long: "tact is a real-time decisioning server with its store inside.\n\n" +
			"Exit codes: 0 done, 1 failure, 2 wrong use, 3 definitions not valid,\n" +
			"4 no server to talk to, 5 a damaged store, 130 interrupted.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usage(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return wrongUse(cmd, err)
	})
	root.AddCommand(newDemo(), newServe(), newCheck(), newPlan(), newApply(), newDefinitions(),
		newImport(), newQuery(), newExport(), newErase(), newBackup(), newRestore(), newDoctor(),
		newUpgrade(), newMark(), newLoadtest(), newBench(), newTop(), newVersion())
	return root
}

// usage makes faults of positional arguments faults of usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return wrongUse(cmd, fmt.Errorf("%w: %s", err, cmd.UseLine()))
		}
		return nil
	}
}

func wrongUse(cmd *cobra.Command, err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w (see: %s --help)", err, cmd.CommandPath())}
}
