package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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

// more is how many times as many pairs are run at most, while a case seems slower.
const more = 4

// compare lets both programs run in turns; who is first changes with every pair. As
// long as a case seems slower it goes on, up to more times as many pairs: one window
// that nothing disturbed is enough to take the suspicion away.
func (g *gate) compare(ctx context.Context, before, after string) (table, error) {
	t := table{}
	for pair := range more * g.pairs {
		if pair >= g.pairs && len(t.slower(g.limit)) == 0 {
			break
		}
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
		fmt.Fprintf(os.Stderr, "pair %d of %d, at most %d\n", pair+1, g.pairs, more*g.pairs)
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

// names are the cases, in order.
func (t table) names() []string { return slices.Sorted(maps.Keys(t)) }

// ratios are those of the least windows and of the lower quartiles, now by before.
// Cases that only one side has have none.
func (s *sides) ratios() (least, quarter float64, ok bool) {
	if len(s.before) == 0 || len(s.after) == 0 {
		return 0, 0, false
	}
	slices.Sort(s.before)
	slices.Sort(s.after)
	return s.after[0] / s.before[0], s.after[len(s.after)/4] / s.before[len(s.before)/4], true
}

// slower gives the cases whose two ratios are above the limit: a single lucky window
// of the base moves one of them, a slower program both.
func (t table) slower(limit float64) (slow []string) {
	for _, name := range t.names() {
		least, quarter, ok := t[name].ratios()
		if ok && min(least, quarter) > limit {
			slow = append(slow, fmt.Sprintf("%s %.2f", name, least))
		}
	}
	return slow
}

// print shows the ratios. A case that only one side has is shown and not judged.
func (t table) print() {
	for _, name := range t.names() {
		s := t[name]
		least, quarter, ok := s.ratios()
		if !ok {
			fmt.Printf("  %-8s only on one side\n", name)
			continue
		}
		fmt.Printf("  %-8s %.3f times, lower quartiles %.3f   before %.0f ns (quartile %.0f), "+
			"now %.0f ns (quartile %.0f)\n", name, least, quarter,
			s.before[0], s.before[len(s.before)/4], s.after[0], s.after[len(s.after)/4])
	}
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
