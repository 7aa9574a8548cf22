package journal

// An unsynced set knows which counters have an answered record that is not durable.
// It is a table of buckets, each of one cache line: number u48 | tag u16 of the
// counter's hash. An entry whose record is durable is free. Two counters are taken
// for one only when they share a bucket and a tag, about once in a million records
// that are not durable; and a bucket without a free entry takes no further counter.
// Both err to a grant that waits.
type unsynced []uint64

const (
	bucketEntries = 8
	tagBits       = 16
)

// newUnsynced makes a table with about so many entries.
func newUnsynced(entries int) unsynced {
	return make(unsynced, max(entries/bucketEntries, 1)*bucketEntries)
}

func (u unsynced) bucket(c uint64) []uint64 {
	n := uint64(len(u) / bucketEntries)
	at := c % n * bucketEntries
	return u[at : at+bucketEntries : at+bucketEntries]
}

// tagOf mixes all bits, so that counters of one bucket differ in it (Fibonacci hashing).
func tagOf(c uint64) uint64 { return c * 0x9e3779b97f4a7c15 >> (64 - tagBits) }

// holds reports whether a counter has an answered record above synced, or its bucket
// no room for one more beside others that the same record is about to add.
func (u unsynced) holds(c, synced uint64, others []uint64) bool {
	free := 0
	for _, e := range u.bucket(c) {
		switch {
		case e>>tagBits <= synced:
			free++
		case e&(1<<tagBits-1) == tagOf(c):
			return true
		}
	}
	return len(others) >= free && u.crowd(c, others) >= free
}

// crowd counts the counters that share the bucket of c.
func (u unsynced) crowd(c uint64, others []uint64) (n int) {
	buckets := uint64(len(u) / bucketEntries)
	for _, o := range others {
		if o%buckets == c%buckets {
			n++
		}
	}
	return n
}

// add notes that a record of a counter was answered. holds was false.
func (u unsynced) add(c, number, synced uint64) {
	b := u.bucket(c)
	for i := range b {
		if b[i]>>tagBits <= synced {
			b[i] = number<<tagBits | tagOf(c)
			return
		}
	}
}
