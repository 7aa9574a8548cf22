// Command peers asks tact and what a user would build instead the same question
// in one run, and prints the processor time a decision as multiples of a bare
// fasthttp server's:
//
//	may this person have the coupon (country CN, two orders or more, at most 60
//	times an hour), and in which of two versions?
//
// The rivals: Redis with a Lua script behind a fasthttp server (profile, count and
// the hourly limit are in Redis, which keeps nothing on disk), and Open Policy
// Agent (rule over profiles in its memory; it cannot count, so it has no limit).
// tact runs as it is shipped, and once more without its ring in shared memory:
// each grant then waits for the disk.
//
// Before anything is timed every server is asked about the same people, and who
// gets the coupon must agree with the rule. Each round asks all servers in turn,
// in a closed loop on the CPUs they share with the client; the figure is the least
// multiple of the rounds.
//
// Run it from the module root: go run ./bench/peers [-users N] [-json]. A rival
// that this machine does not have is named with the reason: Redis is Debian's
// redis-server (-install lets apt-get fetch it), and OPA is built with `go install`
// at a fixed version, which takes minutes the first time. It leaves nothing behind.
package main
