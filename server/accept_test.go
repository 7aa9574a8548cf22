package server

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
)

// scarce is a listener that has no descriptor for a while.
type scarce struct {
	net.Listener
	errs []error
}

func (l *scarce) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	a, b := net.Pipe()
	_ = b.Close()
	return a, nil
}

// A server that runs out of descriptors waits for some; what ends the listener ends it.
func TestAcceptWaits(t *testing.T) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	f := func(want error, errs ...error) {
		t.Helper()
		l := listener{&scarce{errs: errs}, &Server{log: quiet}}
		c, err := l.Accept()
		if !errors.Is(err, want) {
			t.Errorf("after %v: %v, want %v", errs, err, want)
		}
		if err == nil {
			_ = c.Close()
		}
	}
	f(nil)
	f(nil, syscall.EMFILE, syscall.EMFILE, syscall.ENFILE)
	f(nil, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM)
	f(syscall.EBADF, syscall.EBADF)
	f(syscall.EINVAL, syscall.EMFILE, syscall.EINVAL)
}

// Connections leave descriptors to the store.
func TestConnectionsFit(t *testing.T) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	f := func(descriptors uint64, wanted, want int) {
		t.Helper()
		s := &Server{log: quiet, opts: Options{Connections: wanted}}
		if got := s.connections(descriptors); got != want {
			t.Errorf("%d connections of %d with %d descriptors, want %d", got, wanted, descriptors, want)
		}
	}
	f(0, 4096, 4096)
	f(1<<63, 4096, 4096)
	f(16384, 4096, 4096)
	f(1024, 4096, 256)
	f(3, 4096, 1)
}
