package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// process is the server under test: the real binary, on a data folder of its own.
type process struct {
	binary, folder, address, key string
	cmd                          *exec.Cmd
}

// build makes the binary from the module in the working folder.
func build(ctx context.Context, folder string) (*process, error) {
	p := &process{binary: filepath.Join(folder, "tact"), folder: folder, key: "hillstrom-admin-key"}
	out, err := exec.CommandContext(ctx, "go", "build", "-o", p.binary, "./cmd/tact").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("build the server: %w\n%s", err, bytes.TrimSpace(out))
	}
	// The port is free now and asked for at once: a second start needs the same address.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.address = l.Addr().String()
	return p, l.Close()
}

// start runs the server and waits until it is ready.
func (p *process) start(ctx context.Context) error {
	p.cmd = exec.CommandContext(ctx, p.binary, "serve", "--data", filepath.Join(p.folder, "data"),
		"--config", filepath.Join(p.folder, "config"), "--listen", p.address)
	p.cmd.Env = append(os.Environ(), "TACT_ADMIN_KEY="+p.key)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		return err
	}
	for range 600 {
		if status, _, err := fasthttp.GetTimeout(nil, p.url("/readyz"), time.Second); err == nil &&
			status == fasthttp.StatusOK {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("the server at %s was not ready within 30 s", p.address)
}

// stop asks the server to end and waits for it.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.cmd.Wait()
}

func (p *process) url(path string) string { return "http://" + p.address + path }

// importUsers loads the customers through `tact import`, as anybody would.
func (p *process) importUsers(ctx context.Context, file string) error {
	args := []string{"import", "--kind", "users", file, "--address", p.url("")}
	for _, m := range []string{
		"user_id=id", "attributes.recency=recency:int", "attributes.history=history:float",
		"attributes.history_segment=history_segment", "attributes.bought_mens=mens:bool",
		"attributes.bought_womens=womens:bool", "attributes.zip_code=zip_code",
		"attributes.newbie=newbie:bool", "attributes.purchase_channel=channel",
	} {
		args = append(args, "--map", m)
	}
	cmd := exec.CommandContext(ctx, p.binary, args...)
	cmd.Env = append(os.Environ(), "TACT_ADMIN_KEY="+p.key)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("import: %w\n%s", err, out)
	}
	fmt.Printf("import: %s\n", bytes.TrimSpace(out))
	return nil
}
