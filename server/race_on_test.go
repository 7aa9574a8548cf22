//go:build race

package server

// raceEnabled: the race detector makes pools forget, so allocations say nothing.
const raceEnabled = true
