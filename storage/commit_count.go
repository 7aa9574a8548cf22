package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// commitCount numbers the synced batches of a store. The number lies in each
// batch, so the last number that a log holds says where the log ends; and the
// numbers rise in the order of the log, so what ends later holds everything that
// ended before. The sidecar and the witness keep the highest one that was
// synced: a log that ends below it has been cut.
//
// The record is 0x70 0x04 → format u8 | number u64 | CRC32C u32.
type commitCount struct {
	mu     sync.Mutex // held from the number to the place in Pebble's log
	last   uint64
	synced func(number uint64) // called before the caller of commitSynced goes on
}

const commitFormat = 1

func appendCommit(b []byte, number uint64) []byte {
	return sealRecord(binary.LittleEndian.AppendUint64(append(b, commitFormat), number))
}

func parseCommit(b []byte) (uint64, error) {
	body, err := checkedValue(b, commitFormat)
	if err == nil && len(body) != 9 {
		err = ErrCorrupt
	}
	if err != nil {
		return 0, fmt.Errorf("commit record: %w", err)
	}
	return le64(body[1:]), nil
}

// lastCommit reads the number of the last synced batch; 0 for a store that was
// written before batches were numbered.
func (d view) lastCommit() (uint64, error) {
	value, err := d.get([]byte{prefixNode, nodeCommit})
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return parseCommit(value)
}

// commitSynced applies a batch and waits for its sync. Unlike Apply it returns
// the error of a failed sync instead of stopping the process.
func (d *database) commitSynced(b *pebble.Batch) error {
	number, err := d.apply(b)
	if err == nil {
		err = b.SyncWait()
	}
	if err == nil && d.commits.synced != nil {
		d.commits.synced(number)
	}
	return err
}

// write applies a batch without a sync of its own.
func (d *database) write(b *pebble.Batch) (err error) {
	defer d.survive(&err)
	return b.Commit(pebble.NoSync)
}

// survive makes an error of a panic of Pebble's, which it brings when its log
// cannot be written. Pebble keeps its locks then: the store is dead.
func (d *database) survive(err *error) {
	if fault := recover(); fault != nil {
		*err = panicFault(fault)
		d.faults.die(*err)
	}
}

func (d *database) apply(b *pebble.Batch) (number uint64, err error) {
	defer d.survive(&err)
	c := &d.commits
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	var key [2]byte
	var value [13]byte
	key[0], key[1] = prefixNode, nodeCommit
	if err := b.Set(key[:], appendCommit(value[:0], c.last), nil); err != nil {
		return 0, err
	}
	return c.last, d.db.ApplyNoSyncWait(b, pebble.Sync)
}
