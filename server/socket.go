package server

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// socket is a connection made of a descriptor that was in a loop. Unlike
// [net.FileConn] it needs no second descriptor, which a server at its limit has
// not.
type socket struct {
	file          *os.File
	local, remote net.Addr
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	return n, ofNetwork("read", err)
}

func (s *socket) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	return n, ofNetwork("write", err)
}

// ofNetwork turns an error of a file into that of a connection.
func ofNetwork(op string, err error) error {
	var of *os.PathError
	switch {
	case errors.Is(err, os.ErrClosed):
		err = net.ErrClosed
	case errors.As(err, &of):
		err = of.Err
	default:
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Err: err}
}

func (s *socket) Close() error                       { return ofNetwork("close", s.file.Close()) }
func (s *socket) LocalAddr() net.Addr                { return s.local }
func (s *socket) RemoteAddr() net.Addr               { return s.remote }
func (s *socket) SetDeadline(t time.Time) error      { return s.file.SetDeadline(t) }
func (s *socket) SetReadDeadline(t time.Time) error  { return s.file.SetReadDeadline(t) }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.file.SetWriteDeadline(t) }

func (s *socket) SyscallConn() (syscall.RawConn, error) { return s.file.SyscallConn() }
