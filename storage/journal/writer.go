package journal

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"
)

// batch is one sync: the pages that hold the records (lo, hi], as they were
// when it started.
type batch struct {
	lo, hi  uint64
	whole   bool // hi was the newest record
	mark    Msec
	ahead   Msec
	ids     []uint64
	started time.Time
	runs    [2]run
	n       int
}

// run is a piece of the file: its offset there and its bytes in out.
type run struct {
	at   int64
	data []byte
}

// beginSync takes what is not durable; false when all is. What is stored from
// now on belongs to the next sync (J5).
func (j *Journal) beginSync(b *batch) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := &j.mu
	b.lo, b.hi, b.n = j.synced.Load(), m.tail, 0
	if b.lo >= b.hi || m.dead != nil {
		return false
	}
	b.started = time.Now()
	per := j.o.page / SlotSize
	slots := uint64(j.o.Slots)
	if most := uint64((j.o.batch - 2) * per); b.hi-b.lo > most {
		b.hi = b.lo + most
	}
	b.whole = b.hi == m.tail
	b.mark, b.ahead = m.now, m.ahead
	b.ids = append(b.ids[:0], m.ids...)
	first, last := (b.lo+1)%slots, b.hi%slots
	used := 0
	add := func(from, to uint64) { // slots, both included
		lo, hi := int(from)/per, int(to)/per+1
		n := copy(j.out[used:], j.mem[j.o.page*(1+lo):j.o.page*(1+hi)])
		b.runs[b.n] = run{int64(j.o.page * (1 + lo)), j.out[used : used+n]}
		used += n
		b.n++
	}
	if first <= last {
		add(first, last)
	} else {
		add(first, slots-1)
		add(0, last)
	}
	return true
}

// write brings the pages to the disk. It holds no lock.
func (j *Journal) write(b *batch) error {
	for _, r := range b.runs[:b.n] {
		if _, err := j.file.WriteAt(r.data, r.at); err != nil {
			return fmt.Errorf("journal %s: %w", fileName(j.seq), err)
		}
	}
	return nil
}

// endSync credits a sync that has ended. After an error the file is dead (X1).
func (j *Journal) endSync(b *batch, err error) {
	if err != nil {
		j.stats.failures.Add(1)
		j.o.Logger.Error("journal: a write went wrong, the file is not used again", "error", err)
		if err = j.rescue(b); err != nil {
			j.die(err)
			return
		}
	}
	j.mu.Lock()
	m := &j.mu
	if j.o.bugs.creditLater {
		b.hi, b.whole, b.ids = m.tail, true, append(b.ids[:0], m.ids...)
	}
	if b.hi > j.synced.Load() {
		j.synced.Store(b.hi)
	}
	if b.whole {
		m.mark = max(m.mark, b.mark)
		m.aheadSaved = max(m.aheadSaved, b.ahead)
		for g, id := range b.ids {
			raise(&j.durable[g], id)
		}
	}
	j.mu.Unlock()
	j.stats.sync(time.Since(b.started))
	if j.o.OnSync != nil {
		j.o.OnSync(j.epoch.Load(), b.hi)
	}
	j.waits.wake(j.synced.Load())
}

// rescue makes what is not settled durable in a new file, whole, and turns b
// into the sync that did so.
func (j *Journal) rescue(b *batch) error {
	name := fileName(j.seq + 1)
	file, err := j.o.Disk.Create(name, j.header(j.seq+1), j.fileSize())
	if err != nil {
		return fmt.Errorf("%w: no new file after a failed write: %w", ErrDead, err)
	}
	j.mu.Lock()
	b.hi, b.whole, b.mark, b.ahead = j.mu.tail, true, j.mu.now, j.mu.ahead
	b.ids = append(b.ids[:0], j.mu.ids...)
	image := aligned(len(j.mem) - j.o.page)
	copy(image, j.mem[j.o.page:])
	j.mu.Unlock()
	if _, err := file.WriteAt(image, int64(j.o.page)); err != nil {
		_ = file.Close() // it is not used; the error is what counts
		return fmt.Errorf("%w: the new file cannot be written: %w", ErrDead, err)
	}
	_ = j.file.Close() // dead: nothing it could say matters
	j.file, j.seq = file, j.seq+1
	j.stats.files.Add(1)
	if err := j.o.Disk.Remove(fileName(j.seq - 1)); err != nil {
		j.o.Logger.Warn("journal: the dead file stays until the next start", "error", err)
	}
	return nil
}

// die stops the journal for good: those who wait, and all later grants, wait
// for their frames instead.
func (j *Journal) die(err error) {
	j.o.Logger.Error("journal: stopped; grants wait for their frames", "error", err)
	j.open.Store(false)
	j.mu.Lock()
	j.mu.dead = err
	j.mu.Unlock()
	j.stats.dead.Store(true)
	j.waits.fail(err)
}

// Run syncs until Stop: at once when somebody waits, else every Options.Every.
func (j *Journal) Run() {
	defer close(j.done)
	tick := time.NewTicker(j.o.Every)
	defer tick.Stop()
	var b batch
	for {
		select {
		case <-j.kick:
		case <-tick.C:
			j.stayAhead()
		case <-j.stop:
			return
		}
		for j.beginSync(&b) {
			j.endSync(&b, j.write(&b))
			if b.whole {
				break
			}
		}
	}
}

// stayAhead adds a TIME record when the durable high-water runs out while
// leases may be open, so that the next grant need not wait for it.
func (j *Journal) stayAhead() {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := &j.mu
	mono := j.o.Mono()
	if m.again {
		m.nowMono, m.again = mono, false
	}
	now := m.now + Msec(mono-m.nowMono)
	if j.o.Wall != nil { // time stands while it is ahead
		now = max(m.now, min(now, j.o.Wall()))
		m.lead = j.leadOf(now)
	}
	half := Msec(j.o.Ahead/time.Millisecond) / 2
	if !j.Fast() || mono > m.sharing || j.aheadOf(now, m.lead)-m.ahead < half || m.dead != nil {
		return
	}
	r := Record{Kind: Time, Group: noGroup, Time: now}
	if j.takes(&r) {
		// The newest time stays: this one is an estimate, and may lie ahead.
		j.store(&r)
	}
}

// header is the first page of a file:
//
//	"tactjrnl" | format u32 | slots u32 | store id 16 | sequence u64 | crc u32 | zeros
func (j *Journal) header(seq uint64) []byte {
	b := aligned(j.o.page)
	copy(b, fileMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], fileFormat)
	le.PutUint32(b[12:], uint32(j.o.Slots))
	copy(b[16:], j.o.StoreID[:])
	le.PutUint64(b[32:], seq)
	le.PutUint32(b[40:], sum(0, b[:40]))
	return b
}

func (j *Journal) fileSize() int64 { return int64(j.o.page + j.o.Slots*SlotSize) }

// aligned returns n zero bytes that begin at a page, as direct I/O wants.
func aligned(n int) []byte {
	b := make([]byte, n+pageSize)
	skip := (pageSize - int(uintptr(unsafe.Pointer(&b[0]))%pageSize)) % pageSize
	return b[skip : skip+n : skip+n]
}
