package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"tact/server/client"
)

// adminKey is the key of the tact servers of this run.
const adminKey = "peers-run-admin-key"

// candidate is one server under test: the processes that answer together.
type candidate struct {
	name, address string
	asking        asking
	log           string // its requests, recorded
	output        string // file of what its last process prints
	processes     []*exec.Cmd
}

func (c *candidate) pids() []int {
	var list []int
	for _, p := range c.processes {
		list = append(list, p.Process.Pid)
	}
	return list
}

// stop ends the processes, the last started first.
func (c *candidate) stop() error {
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		p := c.processes[i]
		if err := p.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
			continue
		}
		var exit *exec.ExitError
		if err := p.Wait(); err != nil && !errors.As(err, &exit) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// start runs a command as a part of the candidate; what it prints goes to a file
// that an error quotes.
func (c *candidate) start(folder string, cmd *exec.Cmd) error {
	c.output = filepath.Join(folder, filepath.Base(cmd.Path)+"-"+
		strings.ReplaceAll(c.name, " ", "-")+".log")
	out, err := os.Create(c.output)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	c.processes = append(c.processes, cmd)
	return nil
}

// said is the end of what the last process of the candidate printed.
func (c *candidate) said() string {
	text, err := os.ReadFile(c.output)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-1000):])
}

// freePort is an address that was free a moment ago.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ready waits until path answers 200.
func (c *candidate) ready(path string) error {
	for range 600 {
		status, _, err := fasthttp.GetTimeout(nil, "http://"+c.address+path, time.Second)
		if err == nil && status == fasthttp.StatusOK {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s at %s was not ready within 30 s: %s", c.name, c.address, c.said())
}

// startBare runs this program as the floor: a constant reply of so many bytes.
func startBare(folder string, replyBytes int) (*candidate, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &candidate{name: "bare fasthttp", asking: askTact()}
	if c.address, err = freePort(); err != nil {
		return nil, err
	}
	err = c.start(folder, exec.Command(self, "-child", "bare", "-listen", c.address,
		"-reply", fmt.Sprint(replyBytes)))
	return c, errors.Join(err, c.ready("/"))
}

// startTact runs the real binary with the question as its definitions, and imports
// the people. ring is the folder of its ring; "" has every grant wait for the disk.
func startTact(ctx context.Context, b *bed, name, ring string) (*candidate, error) {
	folder := filepath.Join(b.folder, "of-"+strings.ReplaceAll(name, " ", "-"))
	config := filepath.Join(folder, "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return nil, err
	}
	question := filepath.Join(config, "question.yaml")
	if err := os.WriteFile(question, []byte(definitions), 0o600); err != nil {
		return nil, err
	}
	c := &candidate{name: name, asking: askTact()}
	var err error
	if c.address, err = freePort(); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.folder, "tact"), "serve",
		"--data", filepath.Join(folder, "data"), "--config", config, "--listen", c.address,
		"--ring-dir", ring)
	cmd.Env = append(os.Environ(), "TACT_ADMIN_KEY="+adminKey)
	if err := c.start(b.folder, cmd); err != nil {
		return nil, err
	}
	if err := c.ready("/readyz"); err != nil {
		return c, err
	}
	api := client.New(c.address, adminKey)
	defer api.Close()
	_, err = api.Import(ctx, client.ImportOptions{
		Path: b.peopleFile, Kind: "users", Restart: true,
		Map: []string{"user_id=id", "attributes.country=country", "attributes.orders=orders:int"},
	})
	return c, err
}

// opaVersion is the Open Policy Agent that is measured.
const opaVersion = "github.com/open-policy-agent/opa@v1.22.2"

// startOPA builds and runs Open Policy Agent with the people as its data.
func startOPA(ctx context.Context, b *bed) (*candidate, error) {
	install := exec.CommandContext(ctx, "go", "install", opaVersion)
	install.Env = append(os.Environ(), "GOBIN="+b.folder, "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
	install.Dir = b.folder
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: go install %s: %w\n%s", errSkipped, opaVersion, err,
			bytes.TrimSpace(out))
	}
	people := make(map[string]person, len(b.people))
	for i, p := range b.people {
		people[userID(i)] = p
	}
	data, err := json.Marshal(map[string]any{"people": people})
	if err != nil {
		return nil, err
	}
	files := []string{filepath.Join(b.folder, "policy.rego"), filepath.Join(b.folder, "people.json")}
	err = errors.Join(
		os.WriteFile(files[0], []byte(policy), 0o600), os.WriteFile(files[1], data, 0o600))
	if err != nil {
		return nil, err
	}
	c := &candidate{name: "Open Policy Agent", asking: askOPA()}
	if c.address, err = freePort(); err != nil {
		return nil, err
	}
	err = c.start(b.folder, exec.CommandContext(ctx, filepath.Join(b.folder, "opa"), "run", "--server",
		"--addr", c.address, "--log-level", "error", "--skip-version-check", files[0], files[1]))
	if err != nil {
		return nil, err
	}
	return c, c.ready("/health")
}
