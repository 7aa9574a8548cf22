package main

import (
	"net"
	"os"
	"os/signal"
	"syscall"
)

func listenAnywhere() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// onTerminate gives a channel that hears of SIGTERM and SIGINT.
func onTerminate() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, os.Interrupt)
	return c
}
