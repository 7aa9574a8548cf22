package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

// ingestPeople have ingestEach events each before they are measured: 100 MB of tails and
// sums, far more than a cache.
const (
	ingestPeople = 60_000
	ingestEach   = 16
	ingestRound  = 4096 // events between two commits
)

// ingestBed takes in events of people at random, or of 64 of them.
type ingestBed struct {
	e       *Engine
	batch   *Batch
	random  *rand.Rand
	docs    []EventDoc
	results []LineResult
	serial  int64
}

func newIngestBed(b *testing.B) *ingestBed {
	var text strings.Builder
	text.WriteString(benchDefinitions(16))
	for i := range 8 {
		fmt.Fprintf(&text, "---\nkind: event\nid: event_%d\n"+
			"properties: {amount: {type: int, indexed: true}}\n", i)
	}
	x := &ingestBed{
		e: benchBedWith(b, ingestPeople, text.String(), storage.Options{}), random: rand.New(rand.NewPCG(4, 4)),
		docs: make([]EventDoc, eventsBlock), results: make([]LineResult, eventsBlock),
	}
	x.batch = x.e.Begin()
	for range ingestPeople * ingestEach / ingestRound {
		x.take(b, ingestPeople, true)
	}
	return x
}

// draw makes the next events of people below n.
func (x *ingestBed) draw(n int) {
	for i := range x.docs {
		d := &x.docs[i]
		x.serial++
		d.EventID = strconv.AppendInt(append(d.EventID[:0], 'e'), x.serial, 10)
		d.UserID = strconv.AppendInt(append(d.UserID[:0], "user-"...), int64(x.random.IntN(n)), 10)
		d.Event = strconv.AppendInt(append(d.Event[:0], "event_"...), int64(x.random.IntN(8)), 10)
		if d.Properties == nil {
			d.Properties = []NamedValue{{[]byte("amount"), RawValue{Kind: RawNumber}}}
		}
		number := &d.Properties[0].Value
		number.Text = strconv.AppendInt(number.Text[:0], int64(x.random.IntN(100_000)), 10)
	}
}

// take takes in ingestRound events of people below n, and returns the processor time an
// event took the thread: without what is written behind it, and without the wait.
func (x *ingestBed) take(b *testing.B, n int, together bool) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var spent time.Duration
	for range ingestRound / eventsBlock {
		x.draw(n)
		began := ownTime(b)
		if together {
			x.batch.Events(x.docs, x.results)
		} else {
			for i := range x.docs {
				x.results[i] = x.batch.Event(&x.docs[i])
			}
		}
		spent += ownTime(b) - began
		for i := range x.results {
			if err := x.results[i].Err; err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := x.batch.Commit(time.Minute); err != nil {
		b.Fatal(err)
	}
	return float64(spent.Nanoseconds()) / ingestRound
}

// BenchmarkIngest is what the call for an event costs, in turns: "one" by itself and
// "many" with others, of people at random, whose memory is in no cache; "hot" of 64
// people, whose memory is.
func BenchmarkIngest(b *testing.B) {
	x := newIngestBed(b)
	for window := range 12 {
		f := func(name string, people int, together bool) {
			b.Run(fmt.Sprintf("%s/%d", name, window), func(b *testing.B) {
				b.ReportMetric(x.take(b, people, together), "ns/op")
			})
		}
		f("one", ingestPeople, false)
		f("many", ingestPeople, true)
		f("hot", 64, true)
	}
}
