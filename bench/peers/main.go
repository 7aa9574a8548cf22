package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"tact/loadtest"
)

// options are the sizes of a run.
type options struct {
	users, connections, rounds int
	window                     time.Duration
	install, json              bool
	skip                       string
	child, listen, socket      string
	replyBytes                 int
}

func main() {
	var o options
	flag.IntVar(&o.users, "users", 100_000, "people")
	flag.IntVar(&o.connections, "connections", 16, "of the client")
	flag.IntVar(&o.rounds, "rounds", 5, "in each of which every server is asked")
	flag.DurationVar(&o.window, "window", 2*time.Second, "how long each is asked")
	flag.BoolVar(&o.install, "install", false, "let apt-get install redis-server")
	flag.StringVar(&o.skip, "skip", "", "rivals to leave out, by comma: redis, opa")
	flag.BoolVar(&o.json, "json", false, "print one JSON document")
	flag.StringVar(&o.child, "child", "", "internal: serve as bare or redis")
	flag.StringVar(&o.listen, "listen", "", "internal: address of a child")
	flag.StringVar(&o.socket, "socket", "", "internal: of Redis")
	flag.IntVar(&o.replyBytes, "reply", 0, "internal: bytes of a bare reply")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) error {
	if o.child == "" {
		return o.measure(ctx)
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	if o.child == "redis" {
		err = serveRedis(l, o.socket)
	} else {
		life, stop, e := os.Pipe()
		if e != nil {
			return e
		}
		defer stop.Close()
		err = loadtest.ServeFloor(l, o.replyBytes, life)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// bed is what all servers share.
type bed struct {
	folder, self, peopleFile string
	ring                     string // in shared memory; "": this machine has none
	people                   []person
	candidates               []*candidate
	skipped                  map[string]string
}

func (o *options) measure(ctx context.Context) (err error) {
	b := &bed{people: population(o.users), skipped: map[string]string{}}
	if b.folder, err = os.MkdirTemp("", "peers-"); err != nil {
		return err
	}
	defer func() {
		for _, c := range b.candidates {
			err = errors.Join(err, c.stop())
		}
		err = errors.Join(err, os.RemoveAll(b.folder), os.RemoveAll(b.ring))
	}()
	if err := o.prepare(ctx, b); err != nil {
		return err
	}
	for _, c := range b.candidates[1:] {
		if err := b.check(c); err != nil {
			return err
		}
	}
	results := make([]*result, len(b.candidates))
	for i, c := range b.candidates {
		results[i] = &result{Server: c.name}
	}
	for round := range o.rounds {
		for i, c := range b.candidates {
			if err := o.ask(ctx, c, results[i]); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, o.rounds)
	}
	return o.print(b, results)
}

// prepare starts all servers; the bare one comes first.
func (o *options) prepare(ctx context.Context, b *bed) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.folder, "tact"),
		"./cmd/tact").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, bytes.TrimSpace(out))
	}
	var people bytes.Buffer
	people.WriteString("id,country,orders\n")
	for i, p := range b.people {
		fmt.Fprintf(&people, "%s,%s,%d\n", userID(i), p.Country, p.Orders)
	}
	b.peopleFile = filepath.Join(b.folder, "people.csv")
	if err := os.WriteFile(b.peopleFile, people.Bytes(), 0o600); err != nil {
		return err
	}
	b.candidates = append(b.candidates, nil) // the bare one, once the size of a reply is known
	defer func() { b.candidates = slices.DeleteFunc(b.candidates, isNil) }()
	if b.ring, err = os.MkdirTemp("/dev/shm", "peers-ring-"); err != nil {
		b.skipped["tact"] = err.Error()
	} else if err := b.add(startTact(ctx, b, "tact", b.ring)); err != nil {
		return err
	}
	if err := b.add(startTact(ctx, b, "tact waiting for the disk", "")); err != nil {
		return err
	}
	if err := o.rivals(ctx, b); err != nil {
		return err
	}
	size, err := b.replySize(b.candidates[1])
	if err != nil {
		return err
	}
	b.candidates[0], err = startBare(b.folder, size)
	if err != nil {
		return err
	}
	for _, c := range b.candidates {
		if c.log, err = c.asking.record(b.folder, c.name, o.users); err != nil {
			return err
		}
	}
	return nil
}

func isNil(c *candidate) bool { return c == nil }

func (o *options) rivals(ctx context.Context, b *bed) error {
	leave := strings.Split(o.skip, ",")
	if slices.Contains(leave, "redis") {
		b.skipped["Redis and Lua"] = "left out"
	} else if err := b.add(startRedis(ctx, b, o.install)); err != nil {
		if !errors.Is(err, errSkipped) {
			return err
		}
		b.skipped["Redis and Lua"] = err.Error()
	}
	if slices.Contains(leave, "opa") {
		b.skipped["Open Policy Agent"] = "left out"
	} else if err := b.add(startOPA(ctx, b)); err != nil {
		if !errors.Is(err, errSkipped) {
			return err
		}
		b.skipped["Open Policy Agent"] = err.Error()
	}
	return nil
}

// add keeps a candidate, also one that failed to start whole: it is stopped with
// the others.
func (b *bed) add(c *candidate, err error) error {
	if c != nil {
		b.candidates = append(b.candidates, c)
	}
	return err
}

// call asks c about one person.
func (c *candidate) call(user string) (string, error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI("http://" + c.address + c.asking.path)
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
	req.Header.Set("Authorization", "Bearer "+adminKey)
	req.SetBodyString(c.asking.body(user))
	if err := fasthttp.DoTimeout(req, res, 10*time.Second); err != nil {
		return "", fmt.Errorf("%s: %w", c.name, err)
	}
	if res.StatusCode() != fasthttp.StatusOK {
		return "", fmt.Errorf("%s: status %d: %s", c.name, res.StatusCode(), res.Body())
	}
	return string(res.Body()), nil
}

// check asks about five hundred people and compares with the rule.
func (b *bed) check(c *candidate) error {
	for i, p := range b.people[:min(500, len(b.people))] {
		answer, err := c.call(userID(i))
		if err != nil {
			return err
		}
		if strings.Contains(answer, c.asking.wins) != p.wins() {
			return fmt.Errorf("%s answers %q about %+v", c.name, answer, p)
		}
	}
	return nil
}

// replySize is the median length of replies.
func (b *bed) replySize(c *candidate) (int, error) {
	var sizes []int
	for i := range min(500, len(b.people)) {
		answer, err := c.call(userID(i))
		if err != nil {
			return 0, err
		}
		sizes = append(sizes, len(answer))
	}
	slices.Sort(sizes)
	return sizes[len(sizes)/2], nil
}

// ask loads one server for a window and notes its processor time a reply.
func (o *options) ask(ctx context.Context, c *candidate, r *result) error {
	loaded, err := loadtest.Perform(ctx, loadtest.Options{
		Address: "http://" + c.address, Key: adminKey, Mode: loadtest.Saturate,
		Duration: o.window, WarmUp: -1, Connections: o.connections, ServerPIDs: c.pids(),
		Scenario: loadtest.Scenario{Name: loadtest.Recorded, Log: c.log},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	run := loaded.Runs[len(loaded.Runs)-1]
	if run.Answered == 0 || run.Good < run.Answered {
		return fmt.Errorf("%s: %d of %d replies are good: %v", c.name, run.Good, run.Answered, run.Status)
	}
	r.CPU = append(r.CPU, run.PerReply/1000)
	r.Rate = append(r.Rate, float64(run.Answered)/(float64(run.Took)/1e9))
	r.Stolen = max(r.Stolen, run.Health.Stolen)
	return nil
}

// result is what the rounds gave of one server.
type result struct {
	Server   string    `json:"server"`
	CPU      []float64 `json:"cpu_us_a_decision"` // by round
	Rate     []float64 `json:"decisions_a_second"`
	Multiple []float64 `json:"multiple_of_bare"`
	Stolen   float64   `json:"most_cpu_stolen"`
}

// print shows the table; multiples are of the bare server in the same round.
func (o *options) print(b *bed, results []*result) error {
	for _, r := range results {
		for i, cpu := range r.CPU {
			r.Multiple = append(r.Multiple, cpu/results[0].CPU[i])
		}
	}
	if o.json {
		return json.NewEncoder(os.Stdout).Encode(map[string]any{
			"results": results, "skipped": b.skipped, "users": o.users, "window": o.window.String(),
			"connections": o.connections, "opa": opaVersion,
		})
	}
	fmt.Printf("%-28s %14s %16s %18s\n", "server", "CPU / bare", "CPU µs", "decisions/s")
	for _, r := range results {
		fmt.Printf("%-28s %5.1f to %5.1f %6.1f to %6.1f %7.0f to %7.0f\n", r.Server,
			slices.Min(r.Multiple), slices.Max(r.Multiple), slices.Min(r.CPU), slices.Max(r.CPU),
			slices.Min(r.Rate), slices.Max(r.Rate))
	}
	for name, why := range b.skipped {
		fmt.Printf("%-28s skipped: %s\n", name, strings.TrimPrefix(why, "skipped: "))
	}
	fmt.Printf("%d people, %d connections, %d rounds of %s, least to greatest; "+
		"client on the same CPUs; at most %.0f %% of the CPU stolen\n", o.users, o.connections,
		o.rounds, o.window, 100*results[0].Stolen)
	return nil
}
