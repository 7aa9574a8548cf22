package server

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// listener hands out connections whose deadlines cost little and that can be told
// to read no more.
type listener struct {
	net.Listener
	server *Server
}

// Accept returns an error when the listener has ended, and only then: fasthttp takes any
// for the end of the server.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		// A dead peer is noticed by the timeouts; keep-alive only frees its socket. Where
		// it fails the peer is gone already, which the first read tells.
		_ = tcp.SetKeepAlive(true)
	}
	return &conn{
		Conn: c, begun: time.Now(), slack: l.server.opts.slack(),
		plain: plain{server: l.server, after: l.server.opts.lendAfter},
	}, nil
}

// Bounds of the wait for descriptors or memory of the kernel.
const (
	acceptWaitMin = 5 * time.Millisecond
	acceptWaitMax = 200 * time.Millisecond
)

// accept waits while the process or the machine has no descriptor or no memory for
// another connection: connections that end give some back.
func (l listener) accept() (net.Conn, error) {
	for wait := acceptWaitMin; ; wait = min(2*wait, acceptWaitMax) {
		c, err := l.Listener.Accept()
		if err == nil || !passing(err) {
			return c, err
		}
		if wait == acceptWaitMin {
			l.server.log.Warn("no connection can be accepted", "error", err)
		}
		time.Sleep(wait)
	}
}

// passing tells whether an error of accept says nothing of the listener itself.
func passing(err error) bool {
	for _, class := range [...]error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// conn is a connection whose reading side can be ended after a body that could
// not be read to its end: what follows on it must not be taken for a request. It
// answers decisions that are plain by itself.
//
// A deadline reaches the connection with the next read or write, and only when
// it is another one by more than slack: fasthttp sets three a request, most of
// which nothing ever waits for, and each would move a timer of the runtime.
type conn struct {
	net.Conn
	ended atomic.Bool
	begun time.Time
	slack time.Duration

	reading, writing deadline

	plain
}

// deadline is that of one direction of a connection. A wait may end by slack
// earlier than the deadline says, never later.
type deadline struct {
	wanted  atomic.Int64 // nanoseconds since conn.begun; 0 = none
	waiting atomic.Bool  // a read or write is under way
	set     atomic.Int64 // what the connection has, as wanted
}

// want notes a deadline, and gives it to the connection at once when a read or
// write is under way: another goroutine ends it then.
func (d *deadline) want(c *conn, t time.Time, set func(time.Time) error) error {
	at := int64(0)
	if !t.IsZero() {
		at = int64(t.Sub(c.begun))
		if at == 0 {
			at = 1
		}
	}
	d.wanted.Store(at)
	if d.waiting.Load() {
		return d.give(c, at, set)
	}
	return nil
}

// begin readies the connection for a read or write.
func (d *deadline) begin(c *conn, set func(time.Time) error) error {
	d.waiting.Store(true)
	for {
		want, have := d.wanted.Load(), d.set.Load()
		if want == have || want > have && have > 0 && want-have <= int64(c.slack) {
			return nil
		}
		// Another goroutine may have given a newer one meanwhile: look again.
		if err := d.give(c, want, set); err != nil {
			return err
		}
	}
}

// give sets the deadline of the connection.
func (d *deadline) give(c *conn, at int64, set func(time.Time) error) error {
	d.set.Store(at)
	if at == 0 {
		return set(time.Time{})
	}
	return set(c.begun.Add(time.Duration(at)))
}

// Read gives the bytes of a connection, without those of decisions that are plain.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	for c.idle && err == nil {
		answered, fault := c.plainly(p[:n])
		if fault != nil {
			return 0, fault
		}
		if !answered {
			break
		}
		if n, err = c.again(p); err != nil {
			return 0, err
		}
	}
	return n, err
}

// again reads what follows a plain decision.
func (c *conn) again(p []byte) (n int, err error) {
	if c.run++; c.run >= c.after {
		if n, err = c.lend(p); n > 0 || err != nil {
			return n, err
		}
	}
	return c.read(p)
}

func (c *conn) read(p []byte) (int, error) {
	if c.ended.Load() {
		return 0, net.ErrClosed
	}
	defer c.reading.waiting.Store(false)
	if err := c.reading.begin(c, c.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *conn) Write(p []byte) (int, error) {
	defer c.writing.waiting.Store(false)
	if err := c.writing.begin(c, c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Close closes the connection, or behind the reply when a plain decision is being
// answered.
func (c *conn) Close() error {
	for {
		switch state := c.state.Load(); {
		case state == connClosing:
			return nil
		case state == connBusy:
			c.state.CompareAndSwap(connBusy, connClosing)
		case state == connClosed:
			return net.ErrClosed
		case c.state.CompareAndSwap(state, connClosed):
			if c.loan != nil {
				return c.loan.closeLent()
			}
			return c.Conn.Close()
		}
	}
}

// SetReadDeadline sets when reads end; the zero time is never.
func (c *conn) SetReadDeadline(t time.Time) error {
	return c.reading.want(c, t, c.Conn.SetReadDeadline)
}

// SetWriteDeadline sets when writes end; the zero time is never.
func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.writing.want(c, t, c.Conn.SetWriteDeadline)
}

// SetDeadline sets both.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// endReading makes every later read of the request's connection fail.
func endReading(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.Conn().(*conn); ok {
		c.ended.Store(true)
	}
}
