package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// sides are the windows of one case, in nanoseconds a decision.
type sides struct{ before, after []float64 }

type table map[string]*sides

// compare lets both programs run in turns; who is first changes with every pair.
func (g *gate) compare(ctx context.Context, before, after string) (table, error) {
	t := table{}
	for pair := range g.pairs {
		for turn := range 2 {
			isAfter := (pair+turn)%2 == 1
			program := before
			if isAfter {
				program = after
			}
			out, err := output(ctx, g.folder, program, "-test.run", "^$", "-test.bench", "^BenchmarkGate$",
				"-test.benchtime", "20ms", "-test.cpu", "1")
			if err != nil {
				return nil, err
			}
			if err := t.add(out, isAfter); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(os.Stderr, "pair %d of %d\n", pair+1, g.pairs)
	}
	return t, nil
}

// add reads the lines of a run: BenchmarkGate/CASE/WINDOW COUNT TIME ns/op.
func (t table) add(out string, after bool) error {
	found := false
	for _, m := range benchmarkLine().FindAllStringSubmatch(out, -1) {
		ns, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return err
		}
		s := t[m[1]]
		if s == nil {
			s = new(sides)
			t[m[1]] = s
		}
		if after {
			s.after = append(s.after, ns)
		} else {
			s.before = append(s.before, ns)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("BenchmarkGate printed no figure:\n%s", out)
	}
	return nil
}

func benchmarkLine() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^BenchmarkGate/([a-z]+)/\d+\s+\d+\s+([0-9.]+) ns/op`)
}

// print shows the ratios and gives the cases above the limit. A case that only one
// side has is shown and not judged.
func (t table) print(limit float64) (slow []string) {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s := t[name]
		if len(s.before) == 0 || len(s.after) == 0 {
			fmt.Printf("  %-8s only on one side\n", name)
			continue
		}
		slices.Sort(s.before)
		slices.Sort(s.after)
		ratio := s.after[0] / s.before[0]
		fmt.Printf("  %-8s %.3f times   before %.0f ns (median %.0f), now %.0f ns (median %.0f)\n",
			name, ratio, s.before[0], s.before[len(s.before)/2],
			s.after[0], s.after[len(s.after)/2])
		if ratio > limit {
			slow = append(slow, fmt.Sprintf("%s %.2f", name, ratio))
		}
	}
	return slow
}

// instructions compares how many instructions a decision takes, where perf counts
// them: two lengths of a run, so that what comes before the decisions falls out.
func (g *gate) instructions(ctx context.Context, before, after string) {
	perf, err := exec.LookPath("perf")
	if err != nil {
		fmt.Println("  instructions: not counted, no perf here")
		return
	}
	var counts [2]float64
	for i, program := range []string{before, after} {
		short, err := countInstructions(ctx, perf, program, 200_000)
		if err != nil {
			fmt.Println("  instructions: not counted:", err)
			return
		}
		long, err := countInstructions(ctx, perf, program, 400_000)
		if err != nil {
			fmt.Println("  instructions: not counted:", err)
			return
		}
		counts[i] = (long - short) / 200_000
	}
	fmt.Printf("  instructions a decision: %.0f before, %.0f now: %.3f times\n",
		counts[0], counts[1], counts[1]/counts[0])
}

func countInstructions(ctx context.Context, perf, program string, n int) (float64, error) {
	text, err := output(ctx, filepath.Dir(program),
		perf, "stat", "-x", ",", "-e", "instructions:u", program,
		"-test.run", "^$", "-test.bench", "^BenchmarkGate$/^hot$/^0$", "-test.cpu", "1",
		"-test.benchtime", fmt.Sprintf("%dx", n))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, rest, ok := strings.Cut(line, ","); ok && strings.Contains(rest, "instructions:u") {
			count, err := strconv.ParseFloat(value, 64)
			if err != nil || math.IsNaN(count) {
				return 0, fmt.Errorf("the machine says %q", value)
			}
			return count, nil
		}
	}
	return 0, fmt.Errorf("perf printed no count")
}

// overlay writes a copy of the engine's decide.go whose Decide spins first, and the
// file that tells the compiler of it.
func (g *gate) overlay(root string) (string, error) {
	source := filepath.Join(root, "engine", "decide.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	head := regexp.MustCompile(`(?m)^func \(e \*Engine\) Decide\(.*\{\n`).FindIndex(text)
	if head == nil {
		return "", fmt.Errorf("%s has no Decide to plant a delay in", source)
	}
	planted := slices.Concat(text[:head[1]], fmt.Appendf(nil,
		"\tfor began := time.Now(); time.Since(began) < %d; {\n\t}\n", g.plant.Nanoseconds()),
		text[head[1]:])
	copied := filepath.Join(g.folder, "decide.go")
	if err := os.WriteFile(copied, planted, 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: copied}})
	if err != nil {
		return "", err
	}
	file := filepath.Join(g.folder, "overlay.json")
	return file, os.WriteFile(file, list, 0o600)
}
