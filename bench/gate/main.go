// Command gate holds the speed of a decision against an earlier commit, in pairs:
// it builds the tests of package engine from both trees, lets the two programs run
// BenchmarkGate in turns, and compares the least of all windows of each side. What
// disturbs a machine makes windows longer, seldom shorter, and strikes both sides
// alike, so the ratio of the two least holds on a busy machine. The lower quartiles
// are compared too, and a case that seems slower is asked up to four times as often.
//
// It fails when a case is slower than the limit allows by both, and never on a time. Where
// the machine counts instructions (perf stat), their ratio is held too; where it
// does not, the report says so.
//
// Run it from the module root:
//
//	go run ./bench/gate               against the commit that bench/gate/base names
//	go run ./bench/gate -base HEAD~1  against another one
//	go run ./bench/gate -plant 300ns  with a delay planted in every decision of this
//	                                  tree: the gate must fail
//
// bench/gate/base is moved, in a commit of its own that says why, when a change of
// speed is accepted. Without git, or without that commit (a shallow clone), it says
// "skipped" and why. It works in a temporary folder and leaves nothing behind.
//
// Cost: two builds, and about eight seconds a pair.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// errSkipped says that there is nothing to compare with.
var errSkipped = errors.New("skipped")

// gate is one run.
type gate struct {
	base   string
	pairs  int
	plant  time.Duration
	limit  float64
	folder string
}

func main() {
	var g gate
	flag.StringVar(&g.base, "base", "", "commit to compare with; default what bench/gate/base names")
	flag.IntVar(&g.pairs, "pairs", 5, "runs of each side; more while one seems slower")
	flag.DurationVar(&g.plant, "plant", 0, "delay to plant in every decision of this tree")
	flag.Float64Var(&g.limit, "limit", 1.15, "ratio above which a case fails")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := g.run(ctx)
	stop()
	if errors.Is(err, errSkipped) {
		fmt.Println(err)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

func (g *gate) run(ctx context.Context) (err error) {
	if g.base == "" {
		text, err := os.ReadFile("bench/gate/base")
		if err != nil {
			return fmt.Errorf("run it from the root of the module: %w", err)
		}
		g.base = strings.TrimSpace(string(text))
	}
	if g.folder, err = os.MkdirTemp("", "gate-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(g.folder)) }()
	before, after, err := g.build(ctx)
	if err != nil {
		return err
	}
	table, err := g.compare(ctx, before, after)
	if err != nil {
		return err
	}
	fmt.Printf("this tree against %s, the least of all windows in turns:\n", g.base)
	table.print()
	slow := table.slower(g.limit)
	g.instructions(ctx, before, after)
	if len(slow) > 0 {
		return fmt.Errorf("slower than %.2f times: %s", g.limit, strings.Join(slow, ", "))
	}
	return nil
}

// build makes the test programs of both trees.
func (g *gate) build(ctx context.Context) (before, after string, err error) {
	tree := filepath.Join(g.folder, "base")
	if err := g.checkOut(ctx, tree); err != nil {
		return "", "", err
	}
	here, err := os.Getwd()
	if err != nil {
		return "", "", err
	}
	before, after = filepath.Join(g.folder, "before.test"), filepath.Join(g.folder, "after.test")
	if _, err := output(ctx, tree, "go", "test", "-c", "-o", before, "./engine"); err != nil {
		return "", "", err
	}
	args := []string{"test", "-c", "-o", after, "./engine"}
	if g.plant > 0 {
		overlay, err := g.overlay(here)
		if err != nil {
			return "", "", err
		}
		args = append(args[:2:2], append([]string{"-overlay", overlay}, args[2:]...)...)
	}
	_, err = output(ctx, here, "go", args...)
	return before, after, err
}

// checkOut writes the tree of the base commit, without touching the repository.
func (g *gate) checkOut(ctx context.Context, tree string) error {
	if _, err := output(ctx, ".", "git", "cat-file", "-e", g.base+"^{commit}"); err != nil {
		return fmt.Errorf("%w: no commit %s here: %w", errSkipped, g.base, err)
	}
	packed := tree + ".tar"
	if _, err := output(ctx, ".", "git", "archive", "-o", packed, g.base); err != nil {
		return err
	}
	if err := os.Mkdir(tree, 0o700); err != nil {
		return err
	}
	_, err := output(ctx, tree, "tar", "-xf", packed)
	return err
}

// output runs a command and gives what it prints; an error quotes it.
func output(ctx context.Context, folder, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
