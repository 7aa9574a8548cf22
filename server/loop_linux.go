package server

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loops answer the plain decisions of connections that are lent to them: one
// goroutine of a loop, its leader, waits for all of its connections at once,
// answers in its own memory what has come, and goes on, so that a decision costs
// a read, a write and its part of one wait. A goroutine for each connection is
// parked and woken for each decision instead, which costs more than all that
// fasthttp does.
//
// The goroutine of a lent connection waits in [conn.lend] until its connection
// comes back, with the bytes of a request that is not plain, with what is left of
// a reply that the client did not take at once, or because it was idle too long.
// A decision that has to wait for the disk does so in the goroutine that led,
// while another one leads.
type loops struct {
	server *Server
	lent   atomic.Int64 // connections

	mu struct {
		sync.Mutex
		all   []*loop
		next  int
		ended bool
	}
}

// loop is one set of connections.
type loop struct {
	server *Server
	file   *os.File // the epoll, which is waited for as files are
	raw    syscall.RawConn

	mu struct {
		sync.Mutex
		conns map[int32]*conn // by file descriptor
	}
}

// loan is a connection's stay in a loop. It is written by whoever holds the
// connection busy.
type loan struct {
	loop *loop
	fd   int
	room []byte // where the connection's goroutine wants the bytes of a request
	n    int    // of them
	rest []byte // of a reply
	err  error  // the connection must end
	used atomic.Int64
	back chan struct{}
}

const (
	// lendAfter plain decisions in a row a connection is lent; twice as many, up to
	// lendMost, after each return.
	lendAfter = 4
	lendMost  = 1 << 12
	// A leader lets other goroutines run every so many turns.
	leadTurns = 8
	// leadEvents are taken at once.
	leadEvents = 64
	// leadBytes is the longest request a loop answers, fasthttp's buffer.
	leadBytes = 16 << 10
)

// errNoLoop says that connections are not lent: they go on as they are.
var errNoLoop = errors.New("no loop")

// take gives the loop for the next connection.
func (s *loops) take() (*loop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ended {
		return nil, errNoLoop
	}
	if len(s.mu.all) < runtime.GOMAXPROCS(0) {
		l, err := newLoop(s.server)
		if err != nil {
			return nil, err
		}
		s.mu.all = append(s.mu.all, l)
	}
	s.mu.next = (s.mu.next + 1) % len(s.mu.all)
	return s.mu.all[s.mu.next], nil
}

// end ends the loops, which have no connections any more.
func (s *loops) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.ended = true
	var errs []error
	for _, l := range s.mu.all {
		errs = append(errs, l.file.Close())
	}
	s.mu.all = nil
	return errors.Join(errs...)
}

func newLoop(s *Server) (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime waits for it
		return nil, errors.Join(err, unix.Close(fd))
	}
	l := &loop{server: s, file: os.NewFile(uintptr(fd), "epoll")}
	l.mu.conns = make(map[int32]*conn)
	if l.raw, err = l.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	go l.lead()
	return l, nil
}

// control changes what the loop waits for.
func (l *loop) control(op, fd int) (err error) {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if fault := l.raw.Control(func(ep uintptr) {
		err = unix.EpollCtl(int(ep), op, fd, &e)
	}); fault != nil {
		return fault
	}
	return err
}

// lend gives the connection to a loop until it comes back. It gives how many
// bytes of a request are in p then; 0, without an error, when the connection is
// to be read as ever.
func (c *conn) lend(p []byte) (n int, err error) {
	c.run = 0
	c.after = min(2*c.after, lendMost)
	if c.server.loops == nil || c.server.draining.Load() || len(p) == 0 {
		return 0, nil
	}
	l, err := c.server.loops.take()
	if err != nil {
		return 0, nil // without a descriptor for it the connection stays where it is
	}
	if !c.state.CompareAndSwap(connFree, connBusy) {
		return 0, net.ErrClosed
	}
	o, err := l.adopt(c, p)
	if !c.state.CompareAndSwap(connBusy, connFree) {
		if o != nil {
			l.drop(o)
		}
		return 0, errors.Join(net.ErrClosed, c.Conn.Close())
	}
	if err != nil {
		return 0, nil
	}
	c.server.loops.lent.Add(1)
	defer c.server.loops.lent.Add(-1)
	c.await(o)
	return c.takeBack(o)
}

// adopt moves a connection, which is busy, from the runtime's poller to the loop.
// After an error nothing has changed.
func (l *loop) adopt(c *conn, p []byte) (*loan, error) {
	o := &loan{loop: l, fd: -1, room: p, back: make(chan struct{}, 1)}
	under, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errNoLoop
	}
	raw, err := under.SyscallConn()
	if err != nil {
		return nil, err
	}
	if fault := raw.Control(func(fd uintptr) {
		o.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); fault != nil || err != nil {
		return nil, errors.Join(fault, err)
	}
	o.used.Store(int64(time.Since(c.begun)))
	c.loan = o
	l.mu.Lock()
	l.mu.conns[int32(o.fd)] = c
	l.mu.Unlock()
	if err := l.control(unix.EPOLL_CTL_ADD, o.fd); err != nil {
		l.drop(o)
		c.loan = nil
		return nil, err
	}
	// The socket stays open in the loop; the runtime's poller forgets it.
	if err := c.Conn.Close(); err != nil {
		c.server.log.Debug("connection", "lent", err)
	}
	return o, nil
}

// forget makes the loop wait for a connection no more.
func (l *loop) forget(o *loan) {
	// It fails for a descriptor that the loop has not, and with the loop.
	_ = l.control(unix.EPOLL_CTL_DEL, o.fd)
	l.mu.Lock()
	delete(l.mu.conns, int32(o.fd))
	l.mu.Unlock()
}

// drop forgets a connection and closes its socket.
func (l *loop) drop(o *loan) {
	l.forget(o)
	_ = unix.Close(o.fd) // whatever it says, the descriptor is gone
}

// closeLent closes a connection that was free and is marked as closed.
func (o *loan) closeLent() error {
	o.loop.drop(o)
	o.back <- struct{}{}
	return nil
}

// await waits until the loop gives the connection back, or takes it back when it
// was idle too long: then it is busy.
func (c *conn) await(o *loan) {
	timer := time.NewTimer(c.server.opts.IdleTimeout)
	defer timer.Stop()
	for {
		select {
		case <-o.back:
			return
		case <-timer.C:
		}
		left := c.server.opts.IdleTimeout - (time.Since(c.begun) - time.Duration(o.used.Load()))
		if left > c.slack {
			timer.Reset(left)
			continue
		}
		if c.state.CompareAndSwap(connFree, connBusy) {
			o.loop.forget(o)
			return
		}
		timer.Reset(c.slack) // it is being answered, or closed
	}
}

// takeBack gives a connection that is busy, and in no loop, back to the runtime's
// poller.
func (c *conn) takeBack(o *loan) (n int, err error) {
	if c.state.Load() == connClosed {
		return 0, net.ErrClosed
	}
	c.Conn = &socket{
		file: os.NewFile(uintptr(o.fd), "tcp"), local: c.LocalAddr(), remote: c.RemoteAddr(),
	}
	c.loan = nil
	c.reading.set.Store(0)
	c.writing.set.Store(0)
	if !c.state.CompareAndSwap(connBusy, connFree) {
		return 0, errors.Join(net.ErrClosed, c.Conn.Close())
	}
	if len(o.rest) > 0 {
		until := time.Now().Add(c.server.opts.WriteTimeout)
		if err := c.SetWriteDeadline(until); err != nil {
			return 0, err
		}
		if _, err := c.Write(o.rest); err != nil {
			return 0, err
		}
	}
	if o.err != nil {
		return 0, o.err
	}
	idle := c.begun.Add(time.Duration(o.used.Load())).Add(c.server.opts.IdleTimeout)
	return o.n, c.SetReadDeadline(idle)
}

// leader is one goroutine's work for a loop.
type leader struct {
	loop   *loop
	events []unix.EpollEvent
	n      int // of events
	buf    []byte
	conn   *conn  // whose decision is made
	waits  func() // leave
	poll   func(ep uintptr) bool
	left   bool // another one leads
}

// lead answers what comes until the loop ends, or until a decision has to wait.
func (l *loop) lead() {
	w := &leader{
		loop: l, events: make([]unix.EpollEvent, leadEvents), buf: make([]byte, leadBytes),
	}
	w.waits, w.poll = w.leave, w.look
	for turn := 0; ; turn++ {
		if turn%leadTurns == leadTurns-1 {
			runtime.Gosched()
		}
		if l.raw.Read(w.poll) != nil {
			return // the loop has ended
		}
		for i := range w.events[:w.n] {
			if c := l.claim(w.events[i].Fd); c != nil {
				w.conn = c
				w.serve(c)
			}
			if w.left {
				return
			}
		}
	}
}

// claim gives the connection with a descriptor, busy; nil when it is gone, or busy
// already. An event may be older than the connection: there is nothing to read then.
func (l *loop) claim(fd int32) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.mu.conns[fd]
	if c == nil || !c.state.CompareAndSwap(connFree, connBusy) {
		return nil
	}
	return c
}

// look asks for events without waiting.
func (w *leader) look(ep uintptr) bool {
	w.n = pollNow(ep, w.events)
	return w.n > 0
}

// serve answers a connection, which is busy, if it has a plain decision; else the
// connection goes back to its goroutine.
func (w *leader) serve(c *conn) {
	o := c.loan
	n, errno := readNow(o.fd, w.buf[:min(len(w.buf), len(o.room))])
	if errno == unix.EAGAIN || errno == unix.EINTR {
		c.release()
		return
	}
	if errno != 0 || n == 0 { // its goroutine meets the same
		w.giveBack(c)
		return
	}
	s, b := w.loop.server, w.buf[:n]
	body := c.head.body(b)
	if body == nil || s.draining.Load() || len(body) > s.opts.DecideBytes {
		o.n = copy(o.room, b)
		w.giveBack(c)
		return
	}
	answered, err := s.decidePlain(c, body, w.waits)
	switch {
	case err != nil:
		o.err = err
		w.giveBack(c)
	case !answered:
		o.n = copy(o.room, b)
		w.giveBack(c)
	case len(o.rest) > 0:
		w.giveBack(c)
	case w.left && o.loop.control(unix.EPOLL_CTL_ADD, o.fd) != nil:
		w.giveBack(c)
	default:
		c.release()
	}
}

// leave makes another goroutine lead: the decision under way waits for the disk.
// What the loop knows of the connection is that it is not asked for.
func (w *leader) leave() {
	if !w.left {
		w.left = true
		_ = w.loop.control(unix.EPOLL_CTL_DEL, w.conn.loan.fd) // it fails with the loop only
		go w.loop.lead()
	}
}

// giveBack wakes the connection's goroutine, which has it busy then.
func (w *leader) giveBack(c *conn) {
	w.loop.forget(c.loan)
	c.loan.back <- struct{}{}
}

// release ends what a leader did with a connection.
func (c *conn) release() {
	o := c.loan
	if !c.state.CompareAndSwap(connBusy, connFree) { // it is closed behind the reply
		c.state.Store(connClosed)
		o.loop.drop(o)
		o.back <- struct{}{}
	}
}

// reply writes a reply to a lent connection as far as the socket takes it at once.
func (o *loan) reply(c *conn, b []byte, now time.Time) error {
	n, errno := writeNow(o.fd, b)
	if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
		return os.NewSyscallError("write", errno)
	}
	if errno != 0 {
		n = 0
	}
	if n < len(b) {
		o.rest = append(o.rest, b[n:]...)
	}
	o.used.Store(int64(now.Sub(c.begun)))
	return nil
}

// descriptors is how many files and connections the process may have open; 0: not known.
func descriptors() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}
