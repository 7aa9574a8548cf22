package storage

// A WaitCause says why an answer waits for the disk. The first ones are the
// numbers of journal.Cause.
type WaitCause uint8

// Causes.
const (
	WaitNone     WaitCause = iota
	WaitFull               // the journal has no free slot
	WaitClosed             // there is no ring, or a full journal has ended answers at once
	WaitLease              // a session begins, or its lease is not durable yet
	WaitClock              // the time is ahead of the durable high-water
	WaitCounter            // a grant of the same counter is not durable yet
	WaitSeveral            // several uses of one counter
	WaitOutbound           // the grant reaches out
	WaitDecision           // a use is counted on the decision
	WaitTotal              // no block covers a total, or it is near its limit
	WaitLong               // the reservation lives too long, or has too many counters
	WaitPerson             // the person's own row is not durable
	WaitSize               // a record is too large for the journal
	WaitKept               // a reservation that is given again may not be durable
	WaitCauses   = int(WaitKept) + 1
)

// String returns the cause as /metrics shows it.
func (c WaitCause) String() string {
	names := [WaitCauses]string{
		"none", "journal_full", "no_ring", "no_lease", "clock", "counter", "several_uses",
		"outbound", "on_decision", "total", "long_hold", "new_person", "size", "kept",
	}
	return names[min(int(c), WaitCauses-1)]
}
