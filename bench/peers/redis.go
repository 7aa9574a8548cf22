package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// errSkipped marks a rival that this machine does not have.
var errSkipped = errors.New("skipped")

// startRedis runs redis-server without persistence on a Unix socket, loads the
// people, and runs this program as the HTTP server before it.
func startRedis(ctx context.Context, b *bed, install bool) (*candidate, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil && install {
		out, e := exec.CommandContext(ctx, "apt-get", "install", "-y", "--no-install-recommends",
			"redis-server").CombinedOutput()
		if e != nil {
			return nil, fmt.Errorf("%w: apt-get install redis-server: %w\n%s", errSkipped, e,
				bytes.TrimSpace(out))
		}
		binary, err = exec.LookPath("redis-server")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: no redis-server here; -install fetches it", errSkipped)
	}
	c := &candidate{name: "Redis and Lua", asking: askRedis()}
	socket := filepath.Join(b.folder, "redis.sock")
	err = c.start(b.folder, exec.CommandContext(ctx, binary, "--save", "", "--appendonly", "no",
		"--port", "0", "--unixsocket", socket, "--dir", b.folder))
	if err != nil {
		return nil, err
	}
	if err := loadRedis(socket, b.people); err != nil {
		return c, err
	}
	if c.address, err = freePort(); err != nil {
		return c, err
	}
	err = c.start(b.folder, exec.CommandContext(ctx, b.self, "-child", "redis", "-listen", c.address,
		"-socket", socket))
	return c, errors.Join(err, c.ready("/"))
}

// conn speaks RESP2 with one Redis.
//
// Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
type conn struct {
	socket net.Conn
	in     *bufio.Reader
	out    []byte
}

func dialRedis(socket string) (*conn, error) {
	var s net.Conn
	var err error
	for range 200 { // it may be starting
		if s, err = net.Dial("unix", socket); err == nil {
			return &conn{socket: s, in: bufio.NewReader(s)}, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// command appends one command to what the next send writes.
func (c *conn) command(args ...string) {
	c.out = append(strconv.AppendInt(append(c.out, '*'), int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		c.out = append(strconv.AppendInt(append(c.out, '$'), int64(len(a)), 10), "\r\n"...)
		c.out = append(append(c.out, a...), "\r\n"...)
	}
}

func (c *conn) send() error {
	_, err := c.socket.Write(c.out)
	c.out = c.out[:0]
	return err
}

// reply reads one simple reply: a status, a number or a text.
func (c *conn) reply() (string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil || len(line) < 3 {
		return "", errors.Join(err, fmt.Errorf("redis says %q", line))
	}
	text := line[1 : len(line)-2]
	switch line[0] {
	case '+', ':':
		return text, nil
	case '$':
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 1<<20 {
			return "", fmt.Errorf("redis says %q", line)
		}
		b := make([]byte, n+2)
		for read := 0; read < len(b); {
			m, err := c.in.Read(b[read:])
			if err != nil {
				return "", err
			}
			read += m
		}
		return string(b[:n]), nil
	default:
		return "", fmt.Errorf("redis says %q", line)
	}
}

// loadRedis writes the profiles, a thousand in a pipeline.
func loadRedis(socket string, people []person) error {
	c, err := dialRedis(socket)
	if err != nil {
		return err
	}
	defer c.socket.Close()
	for from := 0; from < len(people); from += 1000 {
		to := min(from+1000, len(people))
		for i, p := range people[from:to] {
			c.command("HSET", "p:"+userID(from+i), "country", p.Country, "orders", strconv.Itoa(p.Orders))
		}
		if err := c.send(); err != nil {
			return err
		}
		for range to - from {
			if _, err := c.reply(); err != nil {
				return err
			}
		}
	}
	return nil
}

// serveRedis is the HTTP server before Redis: one connection a request at a time,
// the script by its hash.
func serveRedis(l net.Listener, socket string) error {
	pool := make(chan *conn, 256)
	sum := sha1.Sum([]byte(script))
	hash := hex.EncodeToString(sum[:])
	take := func() (*conn, error) {
		select {
		case c := <-pool:
			return c, nil
		default:
		}
		c, err := dialRedis(socket)
		if err != nil {
			return nil, err
		}
		c.command("SCRIPT", "LOAD", script)
		if err := c.send(); err != nil {
			return nil, err
		}
		_, err = c.reply()
		return c, err
	}
	decide := func(user string) (string, error) {
		c, err := take()
		if err != nil {
			return "", err
		}
		c.command("EVALSHA", hash, "2", "p:"+user, "c:"+user, user)
		if err := c.send(); err != nil {
			return "", errors.Join(err, c.socket.Close())
		}
		answer, err := c.reply()
		if err != nil {
			return "", errors.Join(err, c.socket.Close())
		}
		pool <- c
		return answer, nil
	}
	s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { answerRedis(ctx, decide) }}
	return s.Serve(l)
}

func answerRedis(ctx *fasthttp.RequestCtx, decide func(user string) (string, error)) {
	if ctx.IsGet() { // whether it is there
		return
	}
	var in struct {
		User string `json:"user"`
	}
	if err := json.Unmarshal(ctx.PostBody(), &in); err != nil {
		ctx.Error(err.Error(), fasthttp.StatusBadRequest)
		return
	}
	answer, err := decide(in.User)
	if err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
		return
	}
	out := map[string]string{"reason": answer}
	if answer == "a" || answer == "b" {
		out = map[string]string{"offer": "coupon", "version": answer}
	}
	body, err := json.Marshal(out)
	if err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(body)
}
