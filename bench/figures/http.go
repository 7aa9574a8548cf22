package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"tact/bench/synth"
	"tact/engine"
	"tact/loadtest/machine"
	"tact/server"
)

// childKey is the admin key of the server under test.
const childKey = "figures-admin-key"

// serveChild serves on a free port until SIGTERM, and says the port first.
func (o *options) serveChild() (err error) {
	l, err := listenAnywhere()
	if err != nil {
		return err
	}
	ended := onTerminate()
	if o.child == "bare" {
		body := []byte(strings.Repeat("x", o.replyBytes))
		s := &fasthttp.Server{
			Name: "bare", NoDefaultDate: true, NoDefaultServerHeader: true,
			Handler: func(ctx *fasthttp.RequestCtx) {
				ctx.SetContentType("application/json")
				ctx.SetBody(body)
			},
		}
		go func() { <-ended; _ = s.Shutdown() }()
		fmt.Println(l.Addr())
		return s.Serve(l)
	}
	e, err := engine.Open(filepath.Join(o.folder, "store"), engine.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	s, err := server.New(e, server.Options{AdminKey: childKey})
	if err != nil {
		return err
	}
	go func() { <-ended; _ = s.Shutdown(cancelNever()) }()
	fmt.Println(l.Addr())
	return s.Serve(l)
}

// child is a server in a process of its own.
type child struct {
	cmd     *exec.Cmd
	address string
}

func startChild(args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, args...)}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	c.address = strings.TrimSpace(line)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("child %v: %w", args, err), c.stop())
	}
	return c, nil
}

func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil &&
		!errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return c.cmd.Wait()
}

// overHTTP measures both servers in interleaved pairs.
func (o *options) overHTTP(t *table) (err error) {
	tact, err := startChild("-child", "tact", "-folder", o.folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tact.stop()) }()
	size, err := o.replySize(tact)
	if err != nil {
		return err
	}
	bare, err := startChild("-child", "bare", "-reply", strconv.Itoa(size))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	for _, connections := range []int{16, 64} {
		if err := o.pairsAt(t, tact, bare, pairOf{connections, size}); err != nil {
			return err
		}
	}
	return nil
}

// pairOf is what both halves of a pair have in common.
type pairOf struct{ connections, replyBytes int }

func (o *options) pairsAt(t *table, tact, bare *child, p pairOf) error {
	var multiples, own, floor, rates []float64
	for range o.pairs {
		b, err := o.half(bare, p.connections)
		if err != nil {
			return err
		}
		a, err := o.half(tact, p.connections)
		if err != nil {
			return err
		}
		multiples = append(multiples, a.cpu/b.cpu)
		own, floor = append(own, a.cpu), append(floor, b.cpu)
		rates = append(rates, a.rate/b.rate)
	}
	for _, list := range [][]float64{multiples, own, floor, rates} {
		slices.Sort(list)
	}
	conditions := fmt.Sprintf("%d connections, replies of %d B, %d pairs of %s, "+
		"client on the same CPUs", p.connections, p.replyBytes, o.pairs, o.window)
	at := fmt.Sprintf(", %d connections", p.connections)
	last := len(multiples) - 1
	t.add(figure{
		Name: "server CPU a decision / bare fasthttp" + at, Value: multiples[0], Unit: "times",
		Spread: fmt.Sprintf("pairs %.2f to %.2f; own %.1f to %.1f µs, bare %.1f to %.1f µs",
			multiples[0], multiples[last], own[0], own[last], floor[0], floor[last]),
		Conditions: conditions,
	})
	t.add(figure{
		Name: "requests/s / bare fasthttp" + at, Value: rates[last], Unit: "times",
		Spread:     fmt.Sprintf("pairs %.2f to %.2f", rates[0], rates[last]),
		Conditions: conditions,
	})
	return nil
}

// measured is one half of a pair.
type measured struct {
	cpu  float64 // µs of the server process a request
	rate float64 // requests a second
}

// half asks one server for a window.
func (o *options) half(c *child, connections int) (measured, error) {
	client := &fasthttp.HostClient{Addr: c.address, MaxConns: connections}
	defer client.CloseIdleConnections()
	before, err := machine.Process(c.cmd.Process.Pid)
	if err != nil {
		return measured{}, err
	}
	began := time.Now()
	var count, failed atomic.Int64
	var all sync.WaitGroup
	for worker := range connections {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), uint64(began.UnixNano())))
			n, err := o.ask(client, random, began.Add(o.window))
			count.Add(n)
			if err != nil {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	after, err := machine.Process(c.cmd.Process.Pid)
	if err != nil {
		return measured{}, err
	}
	if failed.Load() > 0 {
		return measured{}, fmt.Errorf("%d of %d connections failed", failed.Load(), connections)
	}
	n := float64(count.Load())
	return measured{
		cpu: float64((after - before).Microseconds()) / n, rate: n / took.Seconds(),
	}, nil
}

// ask sends requests one behind the other until the time is over.
func (o *options) ask(
	client *fasthttp.HostClient, random *rand.Rand, until time.Time,
) (n int64, err error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	o.header(req, client.Addr)
	var body []byte
	for time.Now().Before(until) {
		body = o.body(body[:0], random)
		req.SetBodyRaw(body)
		if err := client.Do(req, res); err != nil {
			return n, err
		}
		if res.StatusCode() != fasthttp.StatusOK {
			return n, fmt.Errorf("status %d: %s", res.StatusCode(), res.Body())
		}
		n++
	}
	return n, nil
}

func (o *options) header(req *fasthttp.Request, address string) {
	req.SetRequestURI("http://" + address + "/v1/decide")
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
	req.Header.Set("Authorization", "Bearer "+childKey)
}

func (o *options) body(dst []byte, random *rand.Rand) []byte {
	dst = append(dst, `{"user":{"user_id":"`...)
	dst = synth.AppendUserID(dst, random.IntN(o.users))
	dst = append(dst, `"},"placements":[{"key":"p","placement_id":"`...)
	dst = append(dst, placementID(random, o.caps)...)
	return append(dst, `"}]}`...)
}

// replySize asks a thousand times and gives the median length of a reply.
func (o *options) replySize(c *child) (int, error) {
	client := &fasthttp.HostClient{Addr: c.address}
	defer client.CloseIdleConnections()
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	o.header(req, c.address)
	random := rand.New(rand.NewPCG(3, 4))
	var sizes []int
	for range 1000 {
		req.SetBody(o.body(nil, random))
		if err := client.Do(req, res); err != nil {
			return 0, err
		}
		if res.StatusCode() != fasthttp.StatusOK {
			return 0, fmt.Errorf("status %d: %s", res.StatusCode(), res.Body())
		}
		sizes = append(sizes, len(res.Body()))
	}
	slices.Sort(sizes)
	return sizes[len(sizes)/2], nil
}
