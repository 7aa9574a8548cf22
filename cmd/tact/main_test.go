package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests run the binary, as people do: it is built once.
func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tact-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "tact")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	os.Setenv("TACT_TEST_BINARY", binary)
	os.Unsetenv(keyVariable)
	os.Unsetenv("TACT_ADDRESS")
	return m.Run()
}

// tact runs one command to its end.
func tact(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(os.Getenv("TACT_TEST_BINARY"), args...)
	var out, logs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &logs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), logs.String(), cmd.ProcessState.ExitCode()
}

// running is a command that serves.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *lines
	stderr *lines
	ended  chan struct{}
}

// lines gathers what a process writes, and lets a test wait for a line.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// line waits for a whole line that holds part.
func (l *lines) line(part string) (string, bool) {
	for range 3000 {
		text := l.String()
		for line := range strings.Lines(text) {
			if strings.HasSuffix(line, "\n") && strings.Contains(line, part) {
				return strings.TrimSuffix(line, "\n"), true
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "", false
}

// withRing gives a server a folder for its ring that goes with the test: one that
// is killed leaves its ring behind.
func withRing(t *testing.T, args []string) []string {
	t.Helper()
	data := slices.Index(args, "--data") + 1
	if args[0] != "serve" || data == 0 || slices.Contains(args, "--ring-dir") {
		return args
	}
	if _, err := os.Stat(defaultRingDir); err != nil {
		return args // no shared memory: every grant waits
	}
	dir := filepath.Join(defaultRingDir, fmt.Sprintf("tact-test-%x", sha256.Sum256([]byte(args[data]))))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return append(slices.Clone(args), "--ring-dir", dir)
}

// start runs a command that goes on until it is told to end.
func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	r := &running{t: t, stdout: &lines{}, stderr: &lines{}, ended: make(chan struct{})}
	r.cmd = exec.Command(os.Getenv("TACT_TEST_BINARY"), withRing(t, args)...)
	r.cmd.Env = append(os.Environ(), env...)
	r.cmd.Stdout, r.cmd.Stderr = r.stdout, r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		_ = r.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
	})
	return r
}

// wait waits for a line of the process that holds part.
func (r *running) wait(from *lines, part string) string {
	r.t.Helper()
	line, ok := from.line(part)
	if !ok {
		r.t.Fatalf("no line with %q\nstdout: %s\nstderr: %s", part, r.stdout, r.stderr)
	}
	return line
}

// end sends a signal, waits, and gives the exit code.
func (r *running) end(s syscall.Signal) int {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.ended:
	case <-time.After(time.Minute):
		r.t.Fatalf("still running a minute after %s\nstderr: %s", s, r.stderr)
	}
	return r.cmd.ProcessState.ExitCode()
}

// request calls the API and gives the status and the body.
func request(t *testing.T, method, url, key, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// pasted sends what a printed curl line would send.
func pasted(t *testing.T, line string) (int, string) {
	t.Helper()
	fields := strings.Split(strings.TrimPrefix(line, "curl -s "), "'")
	address, _, _ := strings.Cut(fields[0], " ")
	header, body := http.Header{}, ""
	for i := 0; i+1 < len(fields); i += 2 {
		switch flag := strings.Fields(fields[i]); flag[len(flag)-1] {
		case "-H":
			name, value, _ := strings.Cut(fields[i+1], ": ")
			header.Set(name, value)
		case "-d":
			body = fields[i+1]
		default:
			t.Fatalf("flag %q of %s", flag, line)
		}
	}
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	return send(t, req)
}

func decodeJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// folder writes files below a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// shop is the smallest folder with something to decide.
func shop(extra string) map[string]string {
	return map[string]string{"shop.yaml": `kind: workspace
id: default
---
kind: attribute
id: age
type: int
---
kind: offer
id: hello
message_class: marketing
eligibility: {attribute: age, gte: 18}
treatments: [{id: web, channel: web, content: {type: text, body: "hello"}}]
` + homePage + extra}
}

// homePage is a placement for every offer.
const homePage = `---
kind: decision_policy
id: all
ranking: {by: product}
---
kind: placement
id: home
channel: web
policy: all
`
