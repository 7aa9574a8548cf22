package engine

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"tact/storage"
)

// The counts of the tracked segments are sampled once an hour and once a day.
// Hours are of UTC, days of the workspace's zone. A sample is a document; the
// key of an old one is used again, so that there are at most so many:
//
//	growth/h/NNN, growth/d/NNN   hours and days since 1970, modulo the number kept
//	format u8 | at ms u64 | list of (segment uvarint, count uvarint)
const (
	growthHours  = 31 * 24
	growthDays   = 400
	growthFormat = 1
	hourMs       = 3600 * 1000
)

// growthEvery is how often the loop looks whether an hour or a day has begun.
const growthEvery = time.Second

// growth is what the loop remembers of the samples.
type growth struct {
	mu struct {
		sync.Mutex       // held while a sample is stored
		hour, day  int64 // the last sampled
	}
}

// GrowthPoint is the count of a segment at one time.
type GrowthPoint struct {
	At    storage.UnixMsec
	Count uint64
}

// growthLoop samples until ctx ends. It is a loop of its own: a disk that is late
// keeps nobody from leaving a segment on time.
func (e *Engine) growthLoop(ctx context.Context) {
	every(ctx, growthEvery, e.sampleGrowth)
}

// sampleGrowth stores the counts when an hour or a day has begun since the last
// time. What cannot be stored is tried again at the next call.
func (e *Engine) sampleGrowth() {
	now := e.clock.Now()
	snap := e.snap.Load()
	if len(snap.audience.Segments) == 0 {
		return
	}
	hour, day := int64(now)/hourMs, localDay(now, snap.Plan.Workspace.Zone)
	t := &e.track.growth.mu
	t.Lock()
	defer t.Unlock()
	if hour == t.hour && day == t.day {
		return
	}
	value := e.appendCounts(nil, now, snap)
	docs := []storage.Doc{{Key: growthKey("h", hour%growthHours), Value: value}}
	if day != t.day {
		docs = append(docs, storage.Doc{Key: growthKey("d", day%growthDays), Value: value})
	}
	if err := e.store.PutDoc(docs...); err != nil {
		e.log.Warn("the counts of segments are not stored yet", "err", err)
		return
	}
	t.hour, t.day = hour, day
}

func growthKey(per string, n int64) string { return fmt.Sprintf("growth/%s/%03d", per, n) }

// localDay counts the days since 1970 on the clock of a zone.
func localDay(at storage.UnixMsec, zone *time.Location) int64 {
	y, m, d := time.UnixMilli(int64(at)).In(zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / (24 * 3600)
}

// resumeGrowth finds the last samples, at start: an hour that was sampled is not
// sampled again.
func (e *Engine) resumeGrowth() error {
	zone := e.snap.Load().Plan.Workspace.Zone
	t := &e.track.growth.mu
	t.Lock()
	defer t.Unlock()
	for _, per := range [...]string{"h", "d"} {
		err := e.eachSample(per, func(at storage.UnixMsec, _ []segmentCount) {
			if per == "h" {
				t.hour = max(t.hour, int64(at)/hourMs)
				return
			}
			t.day = max(t.day, localDay(at, zone))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) appendCounts(dst []byte, now storage.UnixMsec, snap *Snapshot) []byte {
	var counts []segmentCount
	for i := range snap.audience.Segments {
		name := snap.audience.Segments[i].Name
		if n, whole := e.trackedCount(name); whole {
			counts = append(counts, segmentCount{name, n})
		}
	}
	return appendSample(dst, now, counts)
}

// segmentCount is one entry of a sample.
type segmentCount struct {
	name  storage.Name
	count uint64
}

func appendSample(dst []byte, at storage.UnixMsec, counts []segmentCount) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, growthFormat), uint64(at))
	dst = binary.AppendUvarint(dst, uint64(len(counts)))
	for _, c := range counts {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(c.name)), c.count)
	}
	return dst
}

// decodeSample reads a sample into counts, which it returns longer. It errors with
// storage.ErrNewerFormat or storage.ErrCorrupt.
func decodeSample(b []byte, counts []segmentCount) (
	at storage.UnixMsec, _ []segmentCount, err error,
) {
	if len(b) > 0 && b[0] > growthFormat {
		return 0, counts, storage.ErrNewerFormat
	}
	if len(b) < 10 || b[0] != growthFormat {
		return 0, counts, storage.ErrCorrupt
	}
	whole := true
	list := b[9:]
	next := func() uint64 {
		v, n := binary.Uvarint(list)
		whole = whole && n > 0
		list = list[max(n, 0):]
		return v
	}
	for left := next(); left > 0 && whole; left-- {
		name, count := next(), next()
		whole = whole && name <= math.MaxUint32
		counts = append(counts, segmentCount{storage.Name(name), count})
	}
	ms := binary.LittleEndian.Uint64(b[1:])
	if !whole || len(list) > 0 || ms > maxHour*hourMs {
		return 0, counts, storage.ErrCorrupt
	}
	return storage.UnixMsec(ms), counts, nil
}

// trackedCount counts the members of a tracked segment. whole: its rule has
// judged everybody. Cost: one lock a group.
func (e *Engine) trackedCount(name storage.Name) (n uint64, whole bool) {
	whole = true
	for i := range e.track.groups {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		view, ok := g.Tracked(name)
		g.Unlock()
		n += uint64(view.Members)
		whole = whole && ok && view.Phase == storage.TrackWhole
	}
	return n, whole
}

// eachSample calls f for every stored sample. The counts are valid during the call.
func (e *Engine) eachSample(
	per string, f func(at storage.UnixMsec, counts []segmentCount),
) error {
	var fault error
	var counts []segmentCount
	err := e.store.ScanDocs("growth/"+per+"/", func(key string, value []byte) bool {
		var at storage.UnixMsec
		if at, counts, fault = decodeSample(value, counts[:0]); fault != nil {
			fault = fmt.Errorf("document %q: %w", key, fault)
			return false
		}
		f(at, counts)
		return true
	})
	return errors.Join(fault, err)
}

// Growth returns how the count of a tracked segment went, oldest first: a point
// an hour for 31 days, or a point a day (of the workspace's zone) for 400 days.
// Each is the count at the first look after the hour or the day began; one that
// began while the server was down has its point late, or none, and so has one
// that began before the back-fill had ended.
func (e *Engine) Growth(segment string, daily bool) ([]GrowthPoint, error) {
	snap := e.snap.Load()
	if err := snap.publishedSegment(segment); err != nil {
		return nil, err
	}
	name, ok := e.store.Lookup(storage.DictSegment, segment)
	if !ok || snap.trackedAt(segment) < 0 {
		return nil, notTracked(segment)
	}
	per, kept := "h", storage.UnixMsec(growthHours*hourMs)
	if daily {
		per, kept = "d", growthDays*24*hourMs
	}
	oldest := e.clock.Now() - kept
	var points []GrowthPoint
	err := e.eachSample(per, func(at storage.UnixMsec, counts []segmentCount) {
		for _, c := range counts {
			if c.name == name && at >= oldest {
				points = append(points, GrowthPoint{at, c.count})
			}
		}
	})
	slices.SortFunc(points, func(a, b GrowthPoint) int { return cmp.Compare(a.At, b.At) })
	return points, err
}

// trackedAt returns the number of a tracked segment, -1 when it is not tracked.
func (s *Snapshot) trackedAt(segment string) int {
	for i := range s.audience.Segments {
		if s.audience.Segments[i].ID == segment {
			return i
		}
	}
	return -1
}

func notTracked(segment string) *Problem {
	return &Problem{
		Class: ProblemConflict, Code: "not_tracked", Field: "segment",
		Detail: fmt.Sprintf("segment %q is not tracked: publish it with `track: true`", segment),
	}
}
