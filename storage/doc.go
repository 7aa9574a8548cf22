// Package storage keeps the state of people: in memory, sharded and
// pointer-free, and durable below it, in one Pebble store a node.
//
// A store is divided into 4,096 slots by a hash of (workspace, canonical id).
// Groups, a fixed power of two, own contiguous ranges of slots. A Group is one
// mutex over the rows of its people and the open frame of their effects.
//
// Laws, each with a test:
//  1. What Wait answered with nil survives kill -9 and power loss, and so does
//     every earlier effect of the group; what is lost is a suffix.
//  2. What is appended between one Lock and its Unlock is one frame: all of it
//     survives or none.
//  3. Memory is a function of the frames: replaying them gives the same checksum.
//     A row on disk is never ahead of the durable frames, and replay skips what
//     rows and the group's record hold already.
//  4. An append has three outcomes: durable, refused (ErrFenced, ErrDiskFull,
//     ErrMemoryCap, ErrStateFull, ErrTooLarge, ErrInvalid: nothing has changed) or
//     ErrUnknown. Memory ahead of a commit that never was is dropped, and its frame
//     numbers, people and reservations are not given out again.
//  5. Bytes on disk that are not what was written are ErrCorrupt, never a panic,
//     another answer or a deleted file: MANIFEST and the end of the log are
//     compared with a sidecar before the store is opened for writing.
//  6. Personal fields lie on disk only sealed with their person's key. Of a person
//     who is erased nothing is told from the answer on, and no file holds the key
//     once the purger has passed: see erase.go and purge.go.
//
// Path of a change: Lock; read; Append (encode into the open frame, apply to
// memory); Unlock; Wait. The committer seals the personal parts, writes the
// frames of all groups as one batch, syncs it once, and wakes everybody. The
// flusher writes changed rows behind, in batches that no sync is spent on.
// FORMAT.md draws the bytes, or names the file that does; Open says how memory comes back.
//
// Logger: frames that are durable go into the event log, in blocks, and are
// trimmed when the rows hold them too; package eventlog says what is kept there.
//
// Costs: an append allocates nothing for reserve, decision and use; no I/O and
// no cryptography happens with a group locked, but for the first look at a person
// after a start, the sealing of rows that are written behind, 64 at a time (about
// 0.1 ms), an erasure, random bytes for the keys of new people, and Check, which
// reads the group from disk. A read never waits for the disk, but for ReadDecision.
package storage
