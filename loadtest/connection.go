package loadtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	inlineBytes   = 16 << 10 // what a quiet socket takes without blocking the pacer
	maxReplyBytes = 64 << 20
	dialPause     = 5 * time.Millisecond // after a refused connection
)

// job is one request to be made.
type job struct {
	phase *phase
	index int64
	step  int
	due   time.Duration // after the start of the phase
	// issued is when the pacer gave it away: behind due by the generator's lateness.
	issued time.Duration
}

// pool holds the connections and the line of jobs that wait for one.
//
// Locking: the pool's mu is never held together with a line's.
type pool struct {
	address address
	target  *target
	timeout time.Duration
	churn   int // requests of a connection before it is closed; 0: no end
	lines   []*line
	ctx     context.Context // ends every dial
	stop    context.CancelFunc
	over    sync.WaitGroup // the watch, and what reads or dials

	mu      sync.Mutex
	idle    []*line
	waiting []job // oldest at head
	head    int
	limit   int // of waiting
}

// line is one connection after another, with at most one request under way.
type line struct {
	id   int
	pool *pool

	mu       sync.Mutex
	sock     net.Conn // nil: to be opened
	busy     bool
	current  job
	kind     uint8
	request  []byte
	sentAt   time.Time
	answered int  // on this socket
	retried  bool // the request was sent on another socket before
	timedOut bool
}

func newPool(ctx context.Context, t *target, a address, o *Options) *pool {
	p := &pool{
		address: a, target: t, timeout: o.Timeout, churn: o.Churn, limit: o.Backlog,
	}
	// A run that is cut short still waits for its replies, with the watch alive.
	p.ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	for id := range o.Connections {
		l := &line{id: id, pool: p}
		p.lines, p.idle = append(p.lines, l), append(p.idle, l)
	}
	p.over.Add(1)
	go p.watch()
	return p
}

// connect opens the connections, so that no request pays for it. A pool with
// churn opens them when they are needed, as part of the request.
func (p *pool) connect() error {
	if p.churn > 0 {
		sock, err := p.address.connect(p.ctx, p.timeout)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return sock.Close()
	}
	for _, l := range p.lines {
		sock, err := p.address.connect(p.ctx, p.timeout)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		l.mu.Lock()
		l.adopt(sock)
		l.mu.Unlock()
	}
	return nil
}

// close ends every connection and waits for what serves them.
func (p *pool) close() {
	p.stop()
	for _, l := range p.lines {
		l.mu.Lock()
		if l.sock != nil {
			_ = l.sock.Close()
		}
		l.mu.Unlock()
	}
	p.over.Wait()
}

// issue gives the job a connection, or a place in the waiting line. It is called
// by pacers and never blocks.
func (p *pool) issue(j job) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		l := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		l.start(j)
		return
	}
	full := len(p.waiting)-p.head >= p.limit
	if !full {
		p.waiting = append(p.waiting, j)
	}
	p.mu.Unlock()
	if full {
		j.phase.dropped.Add(1)
		j.phase.open.Add(-1)
		return
	}
	j.phase.waited.Add(1)
}

// takeLocked gives the oldest waiting job.
func (p *pool) takeLocked() (job, bool) {
	if p.head == len(p.waiting) {
		return job{}, false
	}
	j := p.waiting[p.head]
	p.waiting[p.head] = job{}
	p.head++
	if p.head == len(p.waiting) {
		p.waiting, p.head = p.waiting[:0], 0
	} else if p.head > 4096 && p.head > len(p.waiting)/2 {
		p.waiting = p.waiting[:copy(p.waiting, p.waiting[p.head:])]
		p.head = 0
	}
	return j, true
}

// release gives a line without work its next job.
func (p *pool) release(l *line, ph *phase) {
	if j, ok := ph.follow(); ok {
		l.start(j)
		return
	}
	for {
		p.mu.Lock()
		j, ok := p.takeLocked()
		if !ok {
			p.idle = append(p.idle, l)
		}
		p.mu.Unlock()
		if !ok {
			return
		}
		if j.phase.since() < j.due+p.timeout {
			l.start(j)
			return
		}
		j.phase.unsent(l, j)
	}
}

// watch closes the connections of requests that are past their time, and ends
// jobs that wait longer than a request may take.
func (p *pool) watch() {
	defer p.over.Done()
	tick := time.NewTicker(max(min(p.timeout/20, 10*time.Millisecond), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		for _, l := range p.lines {
			l.mu.Lock()
			if l.busy && l.sock != nil && now.Sub(l.sentAt) > p.timeout {
				l.timedOut = true
				_ = l.sock.Close()
			}
			l.mu.Unlock()
		}
		p.expire()
	}
}

func (p *pool) expire() {
	for {
		p.mu.Lock()
		old := p.head < len(p.waiting) &&
			p.waiting[p.head].phase.since() > p.waiting[p.head].due+p.timeout
		var j job
		if old {
			j, _ = p.takeLocked()
		}
		p.mu.Unlock()
		if !old {
			return
		}
		j.phase.unsent(p.lines[0], j)
	}
}

// start sends the job's request: at once where that cannot block, else beside.
func (l *line) start(j job) {
	l.mu.Lock()
	l.current, l.busy, l.retried, l.timedOut = j, true, false, false
	l.request, l.kind = l.pool.target.append(l.request[:0], j.index, j.step)
	l.sentAt = time.Now()
	sock := l.sock
	if sock == nil {
		l.mu.Unlock()
		l.pool.over.Add(1)
		go l.open()
		return
	}
	l.sendLocked()
	l.mu.Unlock()
}

// sendLocked puts the request on the socket: a small one at once, since a quiet
// socket takes it, and a large one from a goroutine with a copy of its own.
func (l *line) sendLocked() {
	l.current.phase.sent.Add(1)
	if len(l.request) <= inlineBytes {
		writeAll(l.sock, l.request)
		return
	}
	go writeAll(l.sock, bytes.Clone(l.request))
}

// writeAll sends a request. A socket that takes no more is closed: its reader
// then sees to the request.
func writeAll(sock net.Conn, request []byte) {
	if _, err := sock.Write(request); err != nil {
		_ = sock.Close()
	}
}

// adopt makes sock the line's connection and starts its reader.
func (l *line) adopt(sock net.Conn) {
	l.sock, l.answered = sock, 0
	l.pool.over.Add(1)
	go l.read(sock)
}

// open connects and sends the request that waits for it.
func (l *line) open() {
	defer l.pool.over.Done()
	sock, err := l.pool.address.connect(l.pool.ctx, l.pool.timeout)
	if err != nil {
		select {
		case <-l.pool.ctx.Done():
		case <-time.After(dialPause):
		}
		l.mu.Lock()
		j := l.current
		l.busy = false
		l.mu.Unlock()
		var network net.Error
		j.phase.unanswered(l, j, errors.As(err, &network) && network.Timeout())
		l.pool.release(l, j.phase)
		j.phase.open.Add(-1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pool.ctx.Err() != nil {
		_ = sock.Close()
	}
	l.sentAt = time.Now()
	l.adopt(sock)
	l.sendLocked()
}

// read takes replies until the connection ends.
func (l *line) read(sock net.Conn) {
	defer l.pool.over.Done()
	in := bufio.NewReaderSize(sock, 16<<10)
	var reply fasthttp.Response
	for {
		err := reply.ReadLimitBody(in, maxReplyBytes)
		now := time.Now()
		if err != nil {
			l.lost(sock, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) ||
				errors.Is(err, syscall.EPIPE))
			return
		}
		if !l.reply(sock, &reply, now) {
			return
		}
	}
}

// reply ends the request under way and goes on with the next; false says that
// the connection is done.
func (l *line) reply(sock net.Conn, reply *fasthttp.Response, now time.Time) bool {
	l.mu.Lock()
	if !l.busy || l.timedOut { // nobody asked, or it came too late
		l.mu.Unlock()
		l.lost(sock, false)
		return false
	}
	j, kind := l.current, l.kind
	l.busy = false
	l.answered++
	ends := reply.ConnectionClose() || l.pool.churn > 0 && l.answered >= l.pool.churn
	if ends {
		l.sock = nil
	}
	l.mu.Unlock()
	if ends {
		_ = sock.Close()
	}
	ok := j.phase.replied(l, j, replied{kind, reply, now})
	if ok && j.step+1 < l.pool.target.steps(j.index) {
		at := now.Sub(j.phase.began)
		l.start(job{j.phase, j.index, j.step + 1, at, at})
		return !ends
	}
	l.pool.release(l, j.phase)
	j.phase.open.Add(-1) // last: a phase that has ended has all its lines back
	return !ends
}

// lost sees to the request of a connection that ended. One that the server
// closed while it was idle (quiet: not a byte of a reply came) is not the
// request's fault: it is sent once more.
func (l *line) lost(sock net.Conn, quiet bool) {
	_ = sock.Close()
	l.mu.Lock()
	if l.sock != sock {
		l.mu.Unlock()
		return
	}
	l.sock = nil
	if !l.busy {
		l.mu.Unlock()
		return
	}
	j := l.current
	if quiet && l.answered > 0 && !l.retried && !l.timedOut && l.pool.ctx.Err() == nil {
		l.retried = true
		l.mu.Unlock()
		j.phase.reconnected.Add(1)
		l.pool.over.Add(1)
		go l.open()
		return
	}
	l.busy = false
	late := l.timedOut
	l.mu.Unlock()
	j.phase.unanswered(l, j, late)
	l.pool.release(l, j.phase)
	j.phase.open.Add(-1)
}
