//go:build !linux

package loadtest

import (
	"errors"
	"time"
)

var errPlatform = errors.New("a load test needs Linux: its pacing is a Linux system call")

func bindPacer() error { return errPlatform }

func nap(time.Time) {}

func selfCPU() (time.Duration, error) { return 0, errPlatform }

func kernelRelease() string { return "unknown" }
