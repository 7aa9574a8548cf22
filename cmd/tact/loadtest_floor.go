package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tact/loadtest"
)

// newLoadtestFloor is the bare server that --floor starts: it says its address
// and ends with its standard input.
func newLoadtestFloor() *cobra.Command {
	size, spin := 0, time.Duration(0)
	cmd := &cobra.Command{
		Use: "floor", Hidden: true, Args: usage(cobra.NoArgs),
		Short: "Serve one reply for everything, for --floor",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), l.Addr()); err != nil {
				return errors.Join(err, l.Close())
			}
			return loadtest.ServeSpinningFloor(l, size, spin, cmd.InOrStdin())
		},
	}
	cmd.Flags().IntVar(&size, "bytes", 300, "of the reply")
	cmd.Flags().DurationVar(&spin, "spin", 0, "processor time of a request before its reply")
	return cmd
}

// startFloor starts the bare server in a process of its own.
func startFloor(ctx context.Context, replyBytes int) (loadtest.FloorServer, error) {
	return startSpinning(ctx, replyBytes, 0)
}

// startSpinning starts one that uses the processor for so long before each reply.
func startSpinning(
	ctx context.Context, replyBytes int, spin time.Duration,
) (loadtest.FloorServer, error) {
	var s loadtest.FloorServer
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, self, "loadtest", "floor", "--bytes", strconv.Itoa(replyBytes),
		"--spin", spin.String())
	cmd.Stderr = os.Stderr
	life, err := cmd.StdinPipe()
	if err != nil {
		return s, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	if err := cmd.Start(); err != nil {
		return s, err
	}
	stop := func() error {
		err := errors.Join(life.Close(), cmd.Wait())
		if ctx.Err() != nil {
			return nil // it was ended with this process
		}
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return s, errors.Join(fmt.Errorf("the bare server: %w", err), stop())
	}
	return loadtest.FloorServer{
		Address: "http://" + strings.TrimSpace(line), PID: cmd.Process.Pid, Stop: stop,
	}, nil
}
