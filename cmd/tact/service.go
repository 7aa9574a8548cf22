package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"tact/engine"
	"tact/engine/definition"
	"tact/server"
	"tact/storage"
)

// drainTime is how long requests under way may take at the end.
const drainTime = 10 * time.Second

// service is an engine with a server on top of it: what serve and demo share.
type service struct {
	data   string         // folder of everything
	engine *engine.Engine // nil until open
	key    string
	made   bool // the key is new
	listen net.Listener
	log    *slog.Logger

	serviceTime time.Duration // see server.Options
	noLoops     bool          // the same
}

// newService makes the data folder and finds the admin key. It closes the
// listener when it fails.
func newService(data string, listen net.Listener, log *slog.Logger) (*service, error) {
	s := &service{data: data, listen: listen, log: log}
	err := storage.Restoring(storeFolder(data), storage.Options{})
	if err == nil {
		err = os.MkdirAll(data, 0o700)
	}
	if err == nil {
		s.key, s.made, err = adminKey(data)
	}
	if err != nil {
		return nil, errors.Join(err, listen.Close())
	}
	return s, nil
}

// open opens the engine. A damaged store has an exit code of its own.
func (s *service) open(o engine.Options) (err error) {
	o.Logger = s.log
	s.engine, err = engine.Open(storeFolder(s.data), o)
	if errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrRolledBack) {
		return &exitError{exitDamaged, fmt.Errorf("%w\nnothing was changed; see: tact doctor %s",
			err, s.data)}
	}
	return err
}

// storeFolder is where the store lies, beside the key.
func storeFolder(data string) string { return filepath.Join(data, "store") }

// noStore is the error of a data folder without a store.
func noStore(data string) error {
	if err := storage.Restoring(storeFolder(data), storage.Options{}); err != nil {
		return err
	}
	return fmt.Errorf("%s holds no store", data)
}

// address is what a client is told: http://host:port.
func (s *service) address() string { return "http://" + s.listen.Addr().String() }

// empty says that nothing was ever published.
func (s *service) empty() bool { return s.engine.Revision() == 0 }

// publish makes files the first revision. A report that is not OK means that
// nothing was published.
func (s *service) publish(dir string, files []definition.File, note string) (*report, error) {
	_, faults, tests, err := s.engine.Publish(files, "tact", note, 0)
	r := engineReport(dir, len(files), faults, tests)
	if err != nil && r.OK {
		return nil, fmt.Errorf("publish %s: %w", dir, err)
	}
	return r, nil
}

// serve answers requests until ctx ends, then lets those under way finish.
// ready is called once requests are answered.
func (s *service) serve(ctx context.Context, ready func() error) (err error) {
	defer spareProcessor()()
	srv, err := server.New(s.engine, server.Options{
		AdminKey: s.key, Logger: s.log, ServiceTime: s.serviceTime, NoLoops: s.noLoops,
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(s.listen) }()
	remove, err := leaveAddress(s.data, s.listen.Addr())
	if err != nil { // others must be told --address then
		s.log.Warn("the address is not left in the data folder", "error", err)
		remove = func() error { return nil }
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := ready(); err != nil {
		return errors.Join(err, shutDown(srv, ended))
	}
	select {
	case err := <-ended: // nobody asked it to
		return fmt.Errorf("the listener failed: %w", cmp.Or(err, net.ErrClosed))
	case <-ctx.Done():
		s.log.Info("shutting down", "cause", context.Cause(ctx))
		return shutDown(srv, ended)
	}
}

// spareProcessor lets one goroutine more run at a time than there are processors, unless
// the environment says how many: one that writes behind keeps a processor of the runtime
// for up to ten milliseconds, where the kernel lets a request go first. Measured: see
// bench/README.md. The function it returns takes that back.
func spareProcessor() (back func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + 1)
	return func() { runtime.GOMAXPROCS(before) }
}

func shutDown(srv *server.Server, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(srv.Shutdown(ctx), <-ended)
}

// close closes from the top down, as far as it was opened. A listener that
// served is closed already.
func (s *service) close() (err error) {
	if err = s.listen.Close(); errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if s.engine != nil {
		err = errors.Join(err, s.engine.Close())
	}
	return err
}

// interrupted gives the end of a served context its exit code: SIGINT has one of
// its own, other signals that ask to end are obeyed with success.
func interrupted(ctx context.Context, err error) error {
	if err == nil && errors.Is(context.Cause(ctx), errInterrupted) {
		return &exitError{code: exitInterrupted}
	}
	return err
}

// listenOn listens on address. With tries > 1 a busy port gives way to the next,
// and moved says that it did.
func listenOn(address string, tries int) (l net.Listener, moved bool, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, false, &exitError{exitUsage, fmt.Errorf("--listen: %w", err)}
	}
	first, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, false, &exitError{exitUsage, fmt.Errorf("--listen: port %q: %w", port, err)}
	}
	for i := range uint64(tries) {
		at := net.JoinHostPort(host, strconv.FormatUint(first+i, 10))
		if l, err = net.Listen("tcp", at); err == nil {
			return l, i > 0, nil
		}
		if first == 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, false, err
}
