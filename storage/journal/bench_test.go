package journal

import (
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// benchJournal is a journal on the real disk whose records are settled as they
// come, so that it never fills.
func benchJournal(b *testing.B, ring bool) *Journal {
	dir := ""
	if ring {
		dir = shared(b)
	}
	o := realOptions(b, dir)
	o.Slots = 16384
	j, rec, err := Recover(o, State{})
	if err != nil {
		b.Fatal(err)
	}
	if err := j.Start(j.First(1, rec, 1000), 1000); err != nil {
		b.Fatal(err)
	}
	return j
}

// BenchmarkPut stores a record of the length of a reservation of some counters, its
// checksum included.
func BenchmarkPut(b *testing.B) {
	f := func(name string, ring bool) {
		b.Run(name, func(b *testing.B) {
			j := benchJournal(b, ring)
			r := Record{Kind: Reserve, Time: 1000, Frame: 1, Payload: make([]byte, 110)}
			a := Ask{AtOnce: true}
			for i := range b.N {
				r.ID++
				if n, _ := j.Put(&r, &a); n == 0 {
					b.Fatal("full")
				}
				if i%4096 == 4095 {
					b.StopTimer()
					j.Settle(j.Prospect([]uint64{1, 1, 1, 1}))
					b.StartTimer()
				}
			}
		})
	}
	f("heap", false)
	f("ring", true)
}

// BenchmarkRecord is what a record with 110 bytes of payload costs alone, without lock,
// laws and the journal's own notes: "checksum" only its CRC32C, "slot" the whole record
// into the next slot of 4 MiB, as the ring's are.
func BenchmarkRecord(b *testing.B) {
	table := crc32.MakeTable(crc32.Castagnoli)
	slots := make([]byte, 16384*SlotSize)
	r := Record{Kind: Reserve, Time: 1000, Frame: 1, Payload: make([]byte, 110)}
	sums := uint32(0)
	b.Run("checksum", func(b *testing.B) {
		for b.Loop() {
			sums = crc32.Update(sums, table, slots[4:recordHead+110])
		}
	})
	b.Run("slot", func(b *testing.B) {
		for b.Loop() {
			r.Number++
			at := int(r.Number) % 16384 * SlotSize
			r.put(slots[at:at+SlotSize], sums, table)
		}
	})
}

// BenchmarkWait compares a grant that waits for its record with the fdatasync of
// a small write, in turn, in the same run: the medians are reported.
func BenchmarkWait(b *testing.B) {
	f := func(name string, callers int) {
		b.Run(name, func(b *testing.B) {
			j := benchJournal(b, false)
			go j.Run()
			file, err := os.Create(filepath.Join(b.TempDir(), "sync"))
			if err != nil {
				b.Fatal(err)
			}
			var mu sync.Mutex
			var waits, syncs []time.Duration
			block := make([]byte, pageSize)
			for i := range b.N {
				var wg sync.WaitGroup
				for c := range callers {
					wg.Go(func() {
						r := Record{
							Kind: Reserve, Group: uint16(c % 4), Time: 1000, Frame: 1, ID: uint64(i),
							Payload: make([]byte, 110),
						}
						start := time.Now()
						n, _ := j.Put(&r, &Ask{})
						if err := j.Wait(n, time.Minute); err != nil {
							b.Error(err)
						}
						mu.Lock()
						waits = append(waits, time.Since(start))
						mu.Unlock()
					})
				}
				wg.Wait()
				j.Settle(j.Prospect([]uint64{1, 1, 1, 1}))
				start := time.Now()
				if _, err := file.WriteAt(block, int64(i%1000)*pageSize); err != nil {
					b.Fatal(err)
				}
				if err := syncData(file); err != nil {
					b.Fatal(err)
				}
				syncs = append(syncs, time.Since(start))
			}
			slices.Sort(waits)
			slices.Sort(syncs)
			us := func(d []time.Duration, q int) float64 {
				return float64(d[(len(d)-1)*q/1000].Nanoseconds()) / 1e3
			}
			b.ReportMetric(us(waits, 500), "wait-p50-µs")
			b.ReportMetric(us(waits, 990), "wait-p99-µs")
			b.ReportMetric(us(syncs, 500), "fdatasync-p50-µs")
		})
	}
	f("1", 1)
	f("8", 8)
}
