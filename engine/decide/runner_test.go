package decide

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command is one directive of a script: a line `name arg key=value
// key=(v1, v2)`, lines of input, `----`, and the lines it must answer up to an
// empty line.
type command struct {
	name  string
	args  []arg
	input string
	want  string
	at    string // file:line
}

type arg struct {
	key  string
	vals []string
}

func (c *command) arg(key string) (arg, bool) {
	for _, a := range c.args {
		if a.key == key {
			return a, true
		}
	}
	return arg{}, false
}

func (c *command) has(key string) bool {
	_, ok := c.arg(key)
	return ok
}

func (c *command) all(key string) []string {
	a, _ := c.arg(key)
	return a.vals
}

func (c *command) one(key string) string {
	if vals := c.all(key); len(vals) > 0 {
		return vals[0]
	}
	return ""
}

// runScripts runs every file of testdata. With TACT_REWRITE=1 the answers are
// written into the files instead of compared.
func runScripts(t *testing.T, start func(t *testing.T) func(t *testing.T, c *command) string) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, path, string(content), start(t))
			if os.Getenv("TACT_REWRITE") != "" && got != string(content) {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// runScript runs one script and returns it with the answers it gave.
func runScript(
	t *testing.T, path, text string, f func(t *testing.T, c *command) string,
) string {
	t.Helper()
	var out strings.Builder
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); {
		line := strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' {
			out.WriteString(lines[i])
			i++
			continue
		}
		c := &command{at: fmt.Sprintf("%s:%d", path, i+1)}
		c.name, c.args = parseCommand(line)
		out.WriteString(lines[i])
		for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "----"; i++ {
			c.input += lines[i]
			out.WriteString(lines[i])
		}
		if i == len(lines) {
			t.Fatalf("%s: no ---- after the command", c.at)
		}
		for i++; i < len(lines) && strings.TrimSpace(lines[i]) != ""; i++ {
			c.want += lines[i]
		}
		got := f(t, c)
		out.WriteString("----\n" + got)
		if got != c.want && os.Getenv("TACT_REWRITE") == "" {
			t.Errorf("%s: %s\ngot:\n%swant:\n%s", c.at, line, got, c.want)
		}
	}
	return out.String()
}

// parseCommand splits a command line.
func parseCommand(line string) (name string, args []arg) {
	name, line, _ = strings.Cut(line, " ")
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		end := strings.IndexAny(line, " =")
		if end < 0 {
			return name, append(args, arg{key: line})
		}
		a := arg{key: line[:end]}
		if line[end] == ' ' {
			line = line[end:]
			args = append(args, a)
			continue
		}
		line = line[end+1:]
		if strings.HasPrefix(line, "(") {
			list, rest, _ := strings.Cut(line[1:], ")")
			for _, v := range strings.Split(list, ",") {
				a.vals = append(a.vals, strings.TrimSpace(v))
			}
			line = rest
		} else {
			v, rest, _ := strings.Cut(line, " ")
			a.vals, line = []string{v}, rest
		}
		args = append(args, a)
	}
	return name, args
}
