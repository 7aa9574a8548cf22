package engine

import (
	"cmp"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// heapOf is what a collection finds on the heap: how many objects, and how many bytes
// of them it looks at.
func heapOf() (objects, scanned int64) {
	runtime.GC()
	runtime.GC() // what a finalizer let go of, too
	sample := []metrics.Sample{{Name: "/gc/heap/objects:objects"}, {Name: "/gc/scan/heap:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64()), int64(sample[1].Value.Uint64())
}

// Of a catalogue in force the collector finds some objects an offer, however much its
// document says, and a second publish leaves nothing of the first behind.
func TestCollectionOfDefinitions(t *testing.T) {
	const offers, most = 500, 30
	empty, _ := heapOf()
	e := benchBed(t, 10, offers)
	count := func() int64 {
		objects, _ := heapOf()
		return (objects - empty) / offers
	}
	if n := count(); n > most {
		t.Errorf("%d objects an offer, want at most %d", n, most)
	}
	for range 3 {
		text := benchDefinitions(offers) + "---\nkind: layer\nid: more\n"
		if _, faults, _, err := e.Publish(testFiles(text), "again", "", 0); err != nil {
			t.Fatal(err, faults)
		}
	}
	if n := count(); n > most {
		t.Errorf("%d objects an offer once it is published again, want at most %d", n, most)
	}
	runtime.KeepAlive(e)
}

// BenchmarkCollection collects while a catalogue is in force, TACT_OFFERS of them
// (1,000), and few people are there: what the definitions cost each collection. The
// objects and bytes are what the engine adds to those of a process without one.
func BenchmarkCollection(b *testing.B) {
	offers := 1000
	if n, err := strconv.Atoi(os.Getenv("TACT_OFFERS")); err == nil {
		offers = n
	}
	noObjects, noBytes := heapOf()
	e := benchBed(b, 100, offers)
	objects, scanned := heapOf()
	var cpu []time.Duration
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for b.Loop() {
		begun := used()
		runtime.GC()
		cpu = append(cpu, used()-begun)
	}
	slices.SortFunc(cpu, cmp.Compare)
	b.ReportMetric(float64(cpu[0].Microseconds())/1e3, "cpu-ms-least")
	b.ReportMetric(float64(cpu[len(cpu)/2].Microseconds())/1e3, "cpu-ms-median")
	b.ReportMetric(float64(objects-noObjects), "objects")
	b.ReportMetric(float64(scanned-noBytes), "scanned-B")
	runtime.KeepAlive(e)
}
