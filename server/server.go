// Package server is the HTTP face of an engine: listener, routes, limits,
// authentication, the table from problems to status codes, health, metrics and
// drain. It decides nothing and stores nothing.
//
// Laws, each with a test:
//  1. Every answer of 4xx and 5xx is a problem document; [Routes] and the
//     OpenAPI document name the same operations.
//  2. No input stops the process or makes memory grow beyond the limits of
//     [Options]: bodies, lines, unpacked bytes, connections and requests at the
//     same time are all bounded.
//  3. A request whose framing could be read in two ways (Content-Length beside
//     Transfer-Encoding, a path that a proxy would rewrite) is refused and its
//     connection closed.
//  4. A 2xx of a write is sent after the write is durable. A line of a bulk body
//     is applied whole or not at all; a body that is cut loses its last,
//     incomplete line only, and the reply says so.
//  5. Nothing of a request outlives its handler: bytes that are kept are copied.
//
// Path: guard (framing, panic, metrics) → route → key → in-flight limit →
// handler → wire → engine → wire. Bulk replies are produced by the connection's
// own goroutine while it writes: no request has a second goroutine.
//
// A decision whose head the connection has sent before goes from key to engine at
// once, see plain; on Linux, once some of them have followed each other, in the
// goroutine of a loop that serves many connections, see loops.
//
// Cost: a decision costs no allocation beyond the engine's, and one copy of the
// body and one of the reply when it is not plain.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"tact/engine"
)

// Options says how to serve. AdminKey is required; the zero value of every
// other field takes its default. Immutable after New.
type Options struct {
	AdminKey string // at least 16 bytes: the key that may do everything

	ReadTimeout   time.Duration // for a whole request but a bulk body; default 2 s
	WriteTimeout  time.Duration // for a whole reply but a bulk one; default 2 s
	IdleTimeout   time.Duration // of a kept connection between requests; default 30 s
	UploadTimeout time.Duration // for definitions and segment members; default 30 s
	BulkIdle      time.Duration // longest silence of a bulk client; default 10 s
	CommitTimeout time.Duration // wait for a write to be durable before 503; default 2 s
	DrainDelay    time.Duration // of Shutdown, between not ready and closing; default 0

	Connections int // open at the same time; default 4,096
	// InFlight is how many requests may be at work at the same time, beyond them 503;
	// default 1,024. While decisions queue up, fewer of them, see admission.
	InFlight int
	Bulk     int // bulk bodies and definitions at the same time, beyond them 429; default 16

	DecideBytes     int   // body of a decision or one outcome; default 64 KiB
	LineBytes       int   // one line of a bulk body, one user or event; default 1 MiB
	DefinitionBytes int   // definitions, members of a segment; default 8 MiB
	UnpackedBytes   int64 // of one packed bulk body; default 1 GiB

	// ServiceTime is added to every single decision, one behind the other, so that a
	// test of overload knows the capacity; default 0, at most 1 s.
	ServiceTime time.Duration

	// NoLoops leaves every decision to the goroutine of its connection. Loops are for
	// Linux only, and never with a ServiceTime.
	NoLoops bool
	// lendAfter plain decisions in a row a connection is lent; default lendAfter.
	lendAfter int

	Logger *slog.Logger // default: discard
}

// minKey is the shortest admin key: 16 bytes of a random alphabet of 64 letters
// are 96 bits.
const minKey = 16

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (o *Options) normalise() error {
	orDefault(&o.ReadTimeout, 2*time.Second)
	orDefault(&o.WriteTimeout, 2*time.Second)
	orDefault(&o.IdleTimeout, 30*time.Second)
	orDefault(&o.UploadTimeout, 30*time.Second)
	orDefault(&o.BulkIdle, 10*time.Second)
	orDefault(&o.CommitTimeout, 2*time.Second)
	orDefault(&o.Connections, 4096)
	orDefault(&o.InFlight, 1024)
	orDefault(&o.Bulk, 16)
	orDefault(&o.lendAfter, lendAfter)
	orDefault(&o.DecideBytes, 64<<10)
	orDefault(&o.LineBytes, 1<<20)
	orDefault(&o.DefinitionBytes, 8<<20)
	orDefault(&o.UnpackedBytes, 1<<30)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if len(o.AdminKey) < minKey {
		errs = append(errs, fmt.Errorf("admin key has %d bytes, needs %d", len(o.AdminKey), minKey))
	}
	for name, d := range map[string]time.Duration{
		"read timeout": o.ReadTimeout, "write timeout": o.WriteTimeout,
		"idle timeout": o.IdleTimeout, "upload timeout": o.UploadTimeout,
		"bulk idle": o.BulkIdle, "commit timeout": o.CommitTimeout, "drain delay": o.DrainDelay,
		"service time": o.ServiceTime,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s %v is negative", name, d))
		}
	}
	for name, n := range map[string]int64{
		"connections": int64(o.Connections), "in flight": int64(o.InFlight),
		"bulk": int64(o.Bulk), "decide bytes": int64(o.DecideBytes),
		"line bytes": int64(o.LineBytes), "definition bytes": int64(o.DefinitionBytes),
		"unpacked bytes": o.UnpackedBytes,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s %d is negative", name, n))
		}
	}
	if o.ServiceTime > time.Second {
		errs = append(errs, fmt.Errorf("service time %v exceeds 1 s", o.ServiceTime))
	}
	return errors.Join(errs...)
}

// slack is how much earlier than its deadline a wait may end: an eighth of the
// shortest timeout.
func (o *Options) slack() time.Duration {
	return min(o.ReadTimeout, o.WriteTimeout, o.IdleTimeout, o.UploadTimeout, o.BulkIdle,
		drainWait) / 8
}

// Server serves one engine. It does not own it: the engine is closed by its
// opener, after Shutdown.
type Server struct {
	engine   *engine.Engine
	opts     Options
	log      *slog.Logger
	http     *fasthttp.Server
	routes   []Route
	key      []byte // Options.AdminKey
	metrics  *metrics
	requests sync.Pool // of *request

	waiting  atomic.Int64 // requests for changes that wait
	inFlight atomic.Int64
	bulk     atomic.Int64
	draining atomic.Bool

	begun     time.Time
	admission admission // of decisions
	slowly    *slowly   // Options.ServiceTime
	loops     *loops    // nil: none

	profiling atomic.Bool // a profile of a stretch of time is being taken

	serving struct {
		sync.Mutex
		listener net.Listener // nil before Serve
		ended    bool         // Shutdown is over
	}
}

// New makes a server of e. All faults of o are named at once.
func New(e *engine.Engine, o Options) (*Server, error) {
	if err := o.normalise(); err != nil {
		return nil, fmt.Errorf("server options: %w", err)
	}
	s := &Server{engine: e, opts: o, log: o.Logger, routes: Routes(), key: []byte(o.AdminKey)}
	s.metrics = newMetrics(s.routes)
	s.begun = time.Now()
	s.admission.init(o.InFlight)
	s.slowly = newSlowly(o.ServiceTime)
	if !o.NoLoops && o.ServiceTime == 0 {
		s.loops = &loops{server: s}
	}
	s.requests.New = func() any { return new(request) }
	s.http = &fasthttp.Server{
		Handler:                      s.handle,
		ErrorHandler:                 s.refuseUnread,
		HeaderReceived:               s.bodyConfig,
		ConnState:                    noteIdle,
		Name:                         "tact",
		Concurrency:                  s.connections(descriptors()),
		ReadBufferSize:               16 << 10, // bounds the header
		ReadTimeout:                  o.ReadTimeout,
		WriteTimeout:                 o.WriteTimeout,
		IdleTimeout:                  o.IdleTimeout,
		MaxRequestBodySize:           o.DecideBytes,
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultDate:                true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		TCPKeepalive:                 true,
		Logger:                       quiet{o.Logger},
	}
	return s, nil
}

// connections is how many may be open at the same time: a quarter of the descriptors at
// most, since one takes two while it is lent to a loop and the store needs its own.
func (s *Server) connections(descriptors uint64) int {
	if descriptors == 0 || descriptors/4 >= uint64(s.opts.Connections) {
		return s.opts.Connections
	}
	n := max(1, int(descriptors/4))
	s.log.Warn("fewer connections than wanted: the process may open too few files (ulimit -n)",
		"connections", n, "wanted", s.opts.Connections, "descriptors", descriptors)
	return n
}

// noteIdle tells a connection whether fasthttp waits for the first byte of a request.
func noteIdle(c net.Conn, state fasthttp.ConnState) {
	if c, ok := c.(*conn); ok {
		c.idle = state == fasthttp.StateIdle
	}
}

// quiet takes fasthttp's own remarks, which are about single connections.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	q.log.Debug("connection", "remark", fmt.Sprintf(format, args...))
}

// Serve answers the connections of l until Shutdown, which makes it return nil,
// also when it came before; or until l fails.
func (s *Server) Serve(l net.Listener) error {
	wrapped := listener{l, s}
	s.serving.Lock()
	s.serving.listener = wrapped
	ended := s.serving.ended
	s.serving.Unlock()
	if ended {
		return l.Close()
	}
	return s.http.Serve(wrapped)
}

// Shutdown takes the server out of service: /readyz answers 503, DrainDelay
// passes so that balancers notice, no new connection is taken, requests in
// flight are answered. It returns when all are, or with ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	if s.opts.DrainDelay > 0 {
		timer := time.NewTimer(s.opts.DrainDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	err := s.http.ShutdownWithContext(ctx)
	if s.loops != nil && err == nil { // else connections are left in them
		err = s.loops.end()
	}
	// fasthttp knows a listener only once it serves it: a Shutdown that overtakes Serve
	// finds none to close.
	s.serving.Lock()
	defer s.serving.Unlock()
	s.serving.ended = true
	if s.serving.listener == nil {
		return err
	}
	if closing := s.serving.listener.Close(); !errors.Is(closing, net.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}
