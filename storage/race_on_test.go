//go:build race

package storage

// raceEnabled: the race detector makes pools forget, so allocations say nothing.
const raceEnabled = true
