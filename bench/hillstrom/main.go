// Command hillstrom runs the main job on real input: the 64,000 customers of
// Kevin Hillstrom's e-mail test (MineThatData, 2008) against the real server
// binary over HTTP.
//
// It imports the customers, publishes a three-arm experiment over a decision,
// decides for everybody from 16 connections, posts back what really happened to
// those whose real arm equals the assigned one, and checks:
//
//  1. the arm shares pass a chi-square test;
//  2. the same call gives the same arm again, also after a restart;
//  3. a cap of one per person and day holds under four callers a person;
//  4. the visit rates of GET /v1/stats equal a plain count over the file.
//
// Run it from the module root: TACT_DATA=FOLDER go run ./bench/hillstrom, where
// FOLDER holds hillstrom/hillstrom.csv. Without the file it says so and ends
// with 0; any difference ends with 1. It leaves nothing behind.
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

//go:embed definitions/hillstrom.yaml
var definitions embed.FS

func main() {
	file := filepath.Join(os.Getenv("TACT_DATA"), "hillstrom", "hillstrom.csv")
	if _, err := os.Stat(file); err != nil || os.Getenv("TACT_DATA") == "" {
		fmt.Println("skipped: no data")
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := inFolder(ctx, file); err != nil {
		fmt.Fprintln(os.Stderr, "hillstrom:", err)
		stop()
		os.Exit(1)
	}
}

// inFolder runs the whole in a temporary folder.
func inFolder(ctx context.Context, file string) (err error) {
	folder, err := os.MkdirTemp("", "hillstrom-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	config := filepath.Join(folder, "config")
	text, err := definitions.ReadFile("definitions/hillstrom.yaml")
	if err != nil {
		return err
	}
	if err := os.Mkdir(config, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(config, "hillstrom.yaml"), text, 0o600); err != nil {
		return err
	}
	withID := filepath.Join(folder, "customers.csv")
	customers, err := readCustomers(file, withID)
	if err != nil {
		return err
	}
	p, err := build(ctx, folder)
	if err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	defer func() {
		if p.cmd.ProcessState == nil {
			err = errors.Join(err, p.stop())
		}
	}()
	if err := p.importUsers(ctx, withID); err != nil {
		return err
	}
	return run(ctx, p, customers)
}

// run decides, posts outcomes and checks; every difference is printed, and any
// makes an error at the end.
func run(ctx context.Context, p *process, customers []customer) error {
	s := &study{caller: p.caller(), customers: customers, replies: make([]*reply, len(customers))}
	began := time.Now()
	if err := s.decideAll(); err != nil {
		return err
	}
	took := time.Since(began)
	fmt.Printf("decided for %d people over %d connections in %.1f s: %.0f a second\n",
		len(customers), connections, took.Seconds(), float64(len(customers))/took.Seconds())
	s.checkShares()
	if err := s.checkSameArm("asked again"); err != nil {
		return err
	}
	if err := s.postOutcomes(); err != nil {
		return err
	}
	if err := s.checkStats("before the restart"); err != nil {
		return err
	}
	if err := s.checkCap(); err != nil {
		return err
	}
	if err := p.stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	s.caller = p.caller()
	if err := s.checkSameArm("asked after a restart"); err != nil {
		return err
	}
	if err := s.checkStats("after the restart"); err != nil {
		return err
	}
	if s.differences > 0 {
		return fmt.Errorf("%d differences", s.differences)
	}
	fmt.Println("ok")
	return nil
}
