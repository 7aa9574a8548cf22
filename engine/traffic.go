package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"tact/engine/decide"
	"tact/storage"
)

// Pacing with `hours: learned` spreads units as the traffic of the last days came:
// the live decisions of each hour of UTC are counted, and once a day, at its start
// in the workspace's zone, the last seven whole days make the profile by which that
// day is paced. A count is a document, written once a minute while it changes; the
// key of an hour is used again after eight days, so that a power cut takes at most
// a minute of them away:
//
//	traffic/NNN   hour since 1970, modulo 192
//	format u8 | hour u64 | decisions u64
const (
	trafficHours  = 8 * 24
	trafficFormat = 1
	trafficDays   = 7
	trafficEvery  = 60_000 // ms between writes
	// maxHour bounds the hours that are read: their milliseconds fit.
	maxHour = 1 << 40
)

// traffic is the count of decisions by hour.
type traffic struct {
	mu struct {
		sync.Mutex
		hours   [trafficHours]trafficHour
		sum     uint64 // of the tallies at the last look
		written storage.UnixMsec
		dirty   bool
		day     int64     // the day that the profile of plan is for
		told    *Snapshot // whom it was told to
	}
}

type trafficHour struct {
	hour  int64 // since 1970
	count uint64
}

func (h trafficHour) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, trafficFormat), uint64(h.hour))
	return binary.LittleEndian.AppendUint64(dst, h.count)
}

// decodeTraffic reads the document of an hour. It errors with storage.ErrNewerFormat or
// storage.ErrCorrupt.
func decodeTraffic(b []byte) (h trafficHour, err error) {
	if len(b) > 0 && b[0] > trafficFormat {
		return h, storage.ErrNewerFormat
	}
	if len(b) != 17 || b[0] != trafficFormat || binary.LittleEndian.Uint64(b[1:]) > maxHour {
		return h, storage.ErrCorrupt
	}
	h.hour = int64(binary.LittleEndian.Uint64(b[1:]))
	h.count = binary.LittleEndian.Uint64(b[9:])
	return h, nil
}

// startTraffic is the profile of a day nobody knows: the weight of each local hour.
// A day's mean over shops and apps lies near it: little at night, a plateau through
// the working day, most in the evening. It counts as as many days as are missing
// from the last seven.
func startTraffic() [24]float64 {
	return [24]float64{
		3, 2, 1, 1, 1, 2, 5, 9, 13, 15, 16, 18, 20, 17, 15, 15, 16, 19, 24, 30, 33, 28, 18, 8,
	}
}

// learnTraffic counts what was decided since the last look, and tells the plan in
// force of the profile when a day has begun or the plan is new.
func (e *Engine) learnTraffic() {
	now, snap := e.clock.Now(), e.snap.Load()
	sum := uint64(0)
	for i := range e.tallies {
		sum += e.tallies[i].live.Load()
	}
	t := &e.traffic.mu
	t.Lock()
	defer t.Unlock()
	hour := int64(now) / hourMs
	h := &t.hours[hour%trafficHours]
	if h.hour != hour {
		if err := e.writeTraffic(); err != nil {
			e.log.Warn("the traffic of an hour is not stored yet", "err", err)
		}
		*h = trafficHour{hour: hour}
	}
	if sum > t.sum {
		h.count, t.sum, t.dirty = h.count+sum-t.sum, sum, true
	}
	if t.dirty && now >= t.written+trafficEvery {
		if err := e.writeTraffic(); err != nil {
			e.log.Debug("the traffic is not stored yet", "err", err)
		}
		t.written = now
	}
	zone := snap.Plan.Workspace.Zone
	if day := localDay(now, zone); day != t.day || snap != t.told {
		t.day, t.told = day, snap
		for i := range snap.Plan.Caps {
			if zone, ok := snap.Plan.Learns(int32(i)); ok {
				profile := e.profileLocked(day, snap.Plan.Workspace.Zone, zone)
				shares := profile.Shares()
				snap.learned[i].Store(&shares)
			}
		}
	}
}

// profileLocked is the traffic of the hours of a day on the clock of a zone: of the
// seven days before one of the workspace's clock, with the start profile in the
// place of days without any decision.
func (e *Engine) profileLocked(day int64, workspace, zone *time.Location) decide.Traffic {
	var known decide.Traffic
	days, total := map[int64]bool{}, 0.0
	for _, h := range e.traffic.mu.hours {
		at := storage.UnixMsec(h.hour * hourMs)
		if d := localDay(at, workspace); h.count == 0 || d >= day || d < day-trafficDays {
			continue
		}
		days[localDay(at, workspace)] = true
		known[time.UnixMilli(int64(at)).In(zone).Hour()] += float64(h.count)
		total += float64(h.count)
	}
	mean := 1.0
	if len(days) > 0 {
		mean = total / float64(len(days))
	}
	start, sum := startTraffic(), 0.0
	for _, w := range start {
		sum += w
	}
	for h, w := range start {
		known[h] += w / sum * mean * float64(trafficDays-len(days))
	}
	return known
}

// writeTraffic stores the hours that may have changed: the newest. The lock is held.
func (e *Engine) writeTraffic() error {
	t := &e.traffic.mu
	if !t.dirty {
		return nil
	}
	newest := &t.hours[0]
	for i := range t.hours {
		if t.hours[i].hour > newest.hour {
			newest = &t.hours[i]
		}
	}
	key := fmt.Sprintf("traffic/%03d", newest.hour%trafficHours)
	if err := e.store.PutDoc(storage.Doc{Key: key, Value: newest.append(nil)}); err != nil {
		return err
	}
	t.dirty = false
	return nil
}

// endTraffic stores what was counted, at a clean end.
func (e *Engine) endTraffic() error {
	e.learnTraffic()
	e.traffic.mu.Lock()
	defer e.traffic.mu.Unlock()
	return e.writeTraffic()
}

// resumeTraffic reads the counts of the last days, at start.
func (e *Engine) resumeTraffic() error {
	t := &e.traffic.mu
	t.Lock()
	t.told = nil
	var fault error
	err := e.store.ScanDocs("traffic/", func(key string, value []byte) bool {
		h, err := decodeTraffic(value)
		if err != nil {
			fault = fmt.Errorf("document %q: %w", key, err)
			return false
		}
		t.hours[h.hour%trafficHours] = h
		return true
	})
	t.Unlock()
	if err := errors.Join(fault, err); err != nil {
		return err
	}
	e.learnTraffic()
	return nil
}
