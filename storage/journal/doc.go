// Package journal carries the records of caps to the disk faster than the
// frames do, and says when a grant may be answered before it is durable.
//
// Every record also lies in a frame of its group. A frame becomes durable some
// tens of milliseconds after its effects; the journal, one preallocated file
// that is written round and round, brings a record to the disk in the time of
// one small write. What a start finds in the journal and not in the frames it
// applies again. So the frames are the rows that the journal stands for, and a
// record is done with when the frame that holds it is durable.
//
// Laws (the names are those of docs/journal.md):
//
//	J1  a record is whole or it is not there: fixed slots, never across a page,
//	    each with its CRC32C, salted with the store's id.
//	J3  a slot is used again only when the durable watermark has passed its
//	    record. A full journal refuses the record; nothing is overwritten, nothing
//	    grows.
//	J4  the watermark moves only in the same atomic batch as the frames it stands
//	    for.
//	J5  a sync makes durable only what was stored before it started.
//	J6  a start ends in one atomic batch, and old records die with their epoch.
//	A1  a grant is answered at once only if its owner's lease is durable and in
//	    force, no counter of it has another answered record that is not durable,
//	    it takes one use of each counter, and the time lies below the durable
//	    high-water. Every other grant waits for its record.
//	R2  a restart is harmless only if the ring in shared memory has the store's
//	    id and the dead epoch and every number up to its tail is there.
//	R3  every other restart without a clean mark is an incident.
//	R7  a ring or a file that knows a later epoch than the store: the volume was
//	    rolled back.
//	X1  after a failed write the file is dead: what is not durable goes to a new
//	    one, or the journal stops.
//
// The package knows neither offers nor counters: an owner is a person of a
// group, a counter is a hash, the payload is the caller's. The disk, the shared
// memory and the monotonic clock are given to it.
//
// Cost of Put: one lock, one record of at most 256 bytes with its CRC; no
// allocation, no system call.
package journal
