package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// addressFile is where a server that runs leaves its address, in its data folder.
const addressFile = "address"

// leaveAddress writes where a server is to be found, and gives what takes the file
// away again. A server that listens everywhere is found on this machine.
func leaveAddress(dir string, at net.Addr) (remove func() error, err error) {
	host, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	name := filepath.Join(dir, addressFile)
	text := "http://" + net.JoinHostPort(host, port) + "\n"
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("leave the address: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return nil, fmt.Errorf("leave the address: %w", err)
	}
	return func() error {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}, nil
}

// readAddress is where the server on the data folder dir was found last; "" when it
// has left nothing, as after an end in order.
func readAddress(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, addressFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the server's address: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
