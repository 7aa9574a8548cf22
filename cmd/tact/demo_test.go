package main

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// empty checks that nothing is left in the folder for temporary files.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

func TestDemo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	temp := t.TempDir()
	r := start(t, []string{"TMPDIR=" + temp}, "demo", "--users", "1k", "--json",
		"--listen", taken.Addr().String())
	r.wait(r.stderr, taken.Addr().String()+" is busy")
	var ready struct {
		Address  string `json:"address"`
		AdminKey string `json:"admin_key"`
		Data     string
		Sample   struct {
			UserID      string `json:"user_id"`
			PlacementID string `json:"placement_id"`
		}
	}
	decodeJSON(t, r.wait(r.stdout, "{"), &ready)
	if out := r.stdout.String(); strings.Count(out, "\n") != 1 {
		t.Errorf("stdout is not one line: %q", out)
	}
	if ready.Sample.UserID == "" || ready.Sample.PlacementID == "" || ready.Data == "" ||
		ready.AdminKey == "" || ready.Address == "http://"+taken.Addr().String() {
		t.Errorf("ready: %+v", ready)
	}
	pasteAll(t, r.stderr.String())
	if code := r.end(syscall.SIGINT); code != exitInterrupted {
		t.Errorf("exit code %d after SIGINT, want %d", code, exitInterrupted)
	}
	empty(t, temp)
}

// pasteAll sends the three printed lines: the first gives an offer.
func pasteAll(t *testing.T, said string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		n++
		status, body := pasted(t, line)
		if status != 200 {
			t.Errorf("%s: status %d: %s", line, status, body)
		}
		if n > 1 {
			continue
		}
		var reply struct {
			Placements map[string]struct {
				Items []struct {
					OfferID string `json:"offer_id"`
					Content any
				}
			}
		}
		decodeJSON(t, body, &reply)
		if items := reply.Placements["hero"].Items; len(items) != 1 || items[0].Content == nil {
			t.Errorf("the first line gives no offer: %s", body)
		}
	}
	if n != 3 {
		t.Errorf("%d curl lines, want 3: %s", n, said)
	}
}

// Ended while it loads, the demo leaves nothing behind either.
func TestDemoEndedEarly(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		temp := t.TempDir()
		r := start(t, []string{"TMPDIR=" + temp}, "demo", "--users", "1M",
			"--listen", "127.0.0.1:0")
		r.wait(r.stdout, "admin key")
		code := r.end(s)
		if s == syscall.SIGINT && code != exitInterrupted {
			t.Errorf("exit code %d after SIGINT, want %d", code, exitInterrupted)
		}
		if strings.Contains(r.stdout.String(), "serving") {
			t.Error("it was ready before the signal came")
		}
		empty(t, temp)
	}
}

// A named folder stays, and a second start loads nothing again.
func TestDemoKept(t *testing.T) {
	data := t.TempDir()
	for i := range 2 {
		r := start(t, nil, "demo", "--users", "300", "--data", data, "--listen", "127.0.0.1:0")
		r.wait(r.stdout, "serving at")
		if again := strings.Contains(r.stdout.String(), "there already"); again != (i == 1) {
			t.Errorf("start %d said: %s", i+1, r.stdout)
		}
		r.end(syscall.SIGTERM)
	}
	if _, logs, code := tact(t, "demo", "--users", "301", "--data", data,
		"--listen", "127.0.0.1:0"); code != exitFailure || !strings.Contains(logs, "300 people") {
		t.Errorf("another number of people: exit code %d, %s", code, logs)
	}
}

func TestUserCount(t *testing.T) {
	f := func(text string, want int) {
		t.Helper()
		var c userCount
		if err := c.Set(text); (err != nil) != (want == 0) || int(c) != want {
			t.Errorf("%q: %d, %v; want %d", text, c, err, want)
		}
	}
	f("1", 1)
	f("1000", 1000)
	f("500k", 500_000)
	f("10M", 10_000_000)
	f("1000M", 1_000_000_000)
	f("1001M", 0)
	f("0", 0)
	f("-5", 0)
	f("ten", 0)
	f("", 0)
	f("M", 0)
}
