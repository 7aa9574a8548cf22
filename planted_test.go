package tact_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A plantedBug is a change of one file that breaks a law, and the suite that must
// see it.
type plantedBug struct {
	law      string
	file     string
	old, bad string // old stands in the file exactly once
	pkg, run string // go test -run
	quick    bool   // played without TACT_EFFORT too
	timeout  string // of go test; "" is 5m
}

// The suites that see them.
const (
	inJournal = "./storage/journal"
	inStore   = "./storage"
	inLog     = "./storage/eventlog"
	inRules   = "./engine/rule"
	inDecide  = "./engine/decide"
	inEngine  = "./engine"
)

// plantedBugs is the whole table.
func plantedBugs() []plantedBug {
	return slices.Concat(
		plantedCaps(), plantedPolicy(), plantedGates(), plantedRules(), plantedStore(),
	)
}

// TestPlantedBugs breaks one law after the other in a copy of one file, which the
// compiler takes instead of the file, and runs the suite named: a test of it must
// fail by what it asserts, neither by the build nor by running out of time. Without
// TACT_EFFORT every change is looked up in the source and one is played. The whole took
// 66 minutes on two cores that much else used too, nearly all of it compiling:
//
//	TACT_EFFORT=1 go test -run TestPlantedBugs -timeout 3h .
func TestPlantedBugs(t *testing.T) {
	effort, _ := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64)
	laws := map[string]bool{}
	for _, b := range plantedBugs() {
		if laws[b.law] {
			t.Errorf("%s: twice", b.law)
		}
		laws[b.law] = true
		broken, err := b.broken()
		if err != nil {
			t.Error(err)
			continue
		}
		if effort < 0.1 && (!b.quick || testing.Short()) {
			continue
		}
		t.Run(b.law, func(t *testing.T) {
			by, err := b.play(t, broken)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s %s: %s", b.pkg, b.run, by)
		})
	}
}

// A change that does not compile, that nothing sees, or that only the clock sees is a
// fault of the table.
func TestPlantedBugsAreSeenByAsserting(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a package four times")
	}
	f := func(bad, want string) {
		t.Helper()
		b := plantedBug{
			law: "a run counts its seeds", file: "storage/seeds/seeds.go",
			old: "	p.next++\n", bad: bad, pkg: "./storage/seeds", run: "TestFault", timeout: "2s",
		}
		broken, err := b.broken()
		if err != nil {
			t.Fatal(err)
		}
		by, err := b.play(t, broken)
		if got := fmt.Sprint(by, err); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %q", bad, got, want)
		}
	}
	f("	p.next += 2\n", "--- FAIL: TestFault")
	f("	p.next += one\n", "does not compile")
	f("	p.next += 1\n", "does not see it")
	f("	select {}\n", "only its time-out sees it")
}

// broken returns the file with the bug in it.
func (b *plantedBug) broken() (string, error) {
	source, err := os.ReadFile(b.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), b.old); n != 1 {
		return "", fmt.Errorf("%s: %d places in %s, want 1", b.law, n, b.file)
	}
	broken := strings.Replace(string(source), b.old, b.bad, 1)
	if _, err := parser.ParseFile(token.NewFileSet(), b.file, broken, 0); err != nil {
		return "", fmt.Errorf("%s: %w", b.law, err)
	}
	return broken, nil
}

// play runs the suite over the broken file, and returns what it said first.
func (b *plantedBug) play(t *testing.T, broken string) (by string, err error) {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go tool here: ", err)
	}
	cmd := exec.Command(tool, "test", "-overlay", b.overlay(t, broken), "-count=1", "-vet=off",
		"-timeout", cmp.Or(b.timeout, "5m"), "-run", "^("+b.run+")$", b.pkg)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TACT_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	said, err := cmd.CombinedOutput()
	text := string(said)
	failed := regexp.MustCompile(`(?m)^\s*--- FAIL: .*`).FindString(text)
	switch {
	case err == nil:
		return "", fmt.Errorf("%s %s does not see it", b.pkg, b.run)
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		return "", fmt.Errorf("it does not compile: %w\n%s", err, text)
	case strings.Contains(text, "panic: test timed out"):
		return "", fmt.Errorf("only its time-out sees it\n%.4000s", text)
	case failed == "":
		return "", fmt.Errorf("no test of %s says that it fails: %w\n%.4000s", b.pkg, err, text)
	}
	return firstLine(text, failed), nil
}

// firstLine is what the failing test said first.
func firstLine(said, after string) string {
	_, rest, _ := strings.Cut(said, after)
	line, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	return strings.TrimSpace(after) + " " + line
}

// overlay writes the broken copy and the list that names it.
func (b *plantedBug) overlay(t *testing.T, broken string) string {
	t.Helper()
	dir := t.TempDir()
	copied, list := filepath.Join(dir, "copy.go"), filepath.Join(dir, "overlay.json")
	file, err := filepath.Abs(b.file)
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: copied}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{copied: broken, list: string(replace)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(fmt.Errorf("overlay: %w", err))
		}
	}
	return list
}
