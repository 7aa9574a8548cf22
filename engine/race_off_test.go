//go:build !race

package engine

// raceEnabled: the race detector makes pools forget, so allocations say nothing.
const raceEnabled = false
