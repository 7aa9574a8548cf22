// Package loadtest is a load generator that can be believed: a black box that
// knows of a server only its address and the shapes of its requests.
//
// Laws, each with a test:
//  1. Open loop: when a request is due depends on the schedule alone, never on a
//     reply. Its latency counts from that moment, so a server that freezes shows
//     every request that the freeze kept waiting.
//  2. Nothing is left out: a request without a reply counts in the distribution,
//     at no less than the timeout.
//  3. The schedule is exact and pure: n arrivals in t at a rate, equal for equal
//     seeds, and shares of it add up to the whole.
//  4. The sum of results is the result of the sum.
//  5. A result carries the generator's own health, and is void when the
//     generator was late or slow, or the machine was taken away.
//  6. It loads only this machine, unless told otherwise, and always ends: by
//     time and by count.
//
// Path: Perform → runner (modes: rate, search, overload, floor) → phase (pacers that
// sleep by the nanosleep system call on threads of their own) → pool of
// connections, one goroutine each that reads → recorders → tally → Result, which
// is written as JSON or HTML.
//
// Costs: a request costs the generator about 10 µs of CPU, most of it in the
// kernel, and no allocation; a histogram is 240 KB.
package loadtest
