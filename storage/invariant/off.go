//go:build !invariant

// Package invariant states what must be true whatever the input: faults of the
// program, not of a caller or of bytes on disk, which are errors.
//
// Laws: without the build tag "invariant" a check costs nothing and does
// nothing; with it a false condition panics with its message.
//
// Tests and the simulations of a release run with the tag:
//
//	go test -tags invariant ./storage/...
package invariant

// Enabled reports whether checks are on. As a constant it lets the compiler
// leave out the code that prepares a costly check.
const Enabled = false

// Check panics with msg when cond is false and the build tag is set.
func Check(cond bool, msg string) {}
