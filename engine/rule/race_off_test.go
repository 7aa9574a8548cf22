//go:build !race

package rule

// raceEnabled: the race detector makes pools forget, so allocations say nothing.
const raceEnabled = false
