package storage

import (
	"encoding/binary"
	"math"
	"slices"
)

// An activityEdit is one event to be added to an activity.
type activityEdit struct {
	key      activityKey
	occurred UnixMsec
	now      UnixMsec // the frame's time: days of ActivityDays before it are dropped
	day      int32    // that it counts on
	props    []AttrValue
}

// activityDraft is the scratch of one edit: the entry that changes. Of its days
// only the newest is unpacked as long as no other changes.
type activityDraft struct {
	head  ActivityEntry
	props []Name
	sums  []Sums         // of the whole life, by property
	days  []activityCell // newest first
	cells []Sums         // by day, then by property
	rest  []byte         // the days behind them, packed
	nRest int
}

type activityCell struct {
	day   int32
	count uint64
}

// shiftMax bounds how far a zone is from UTC, in seconds.
const shiftMax = 26 * 3600

// startActivity appends to dst the empty activity of a person of whom nothing is
// summed up yet: from is the time from which on that will be complete.
func startActivity(dst []byte, from UnixMsec) []byte {
	from = min(max(from, -activityTime), activityTime)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(from))
	return append(dst, 0, 0)
}

// add appends to dst the activity old, which has a header, with one more event.
// What there is no room for is left out and raises From, or the floor of the
// days. Cost: one copy of the part; no allocation once the draft has grown.
func (d *activityDraft) add(dst []byte, old Activity, in *activityEdit) []byte {
	at := len(dst)
	front, entry, back := old.split(in.key)
	keys := le16(old.b[8:])
	d.load(entry, in)
	d.count(in)
	if entry == nil {
		if keys == ActivityKeys {
			return d.refuse(dst, old, in)
		}
		keys++
	}
	for {
		dst = append(dst[:at], old.b[:8]...)
		dst = binary.LittleEndian.AppendUint16(dst, keys)
		dst = append(dst, front...)
		dst = d.append(dst)
		dst = append(dst, back...)
		if len(dst)-at <= activityMax {
			return dst
		}
		if len(d.days)+d.nRest == 0 {
			return d.refuse(dst[:at], old, in)
		}
		d.unpack(d.nRest)
		d.keep(len(d.days) / 2)
	}
}

// refuse appends the activity as it was, complete only behind the event.
func (d *activityDraft) refuse(dst []byte, old Activity, in *activityEdit) []byte {
	at := len(dst)
	dst = append(dst, old.b...)
	from := max(old.From(), clipTime(in.occurred)+1)
	binary.LittleEndian.PutUint64(dst[at:], uint64(from))
	return dst
}

// split returns what lies in front of an entry, the entry without its size, nil
// when there is none, and what lies behind it.
func (a Activity) split(key activityKey) (front, entry, back []byte) {
	all := a.b[activityHeader:]
	rest := all
	for len(rest) > 0 {
		size, n := binary.Uvarint(rest)
		body := rest[n : n+int(size)]
		switch k := entryKey(body); {
		case k == key:
			return all[:len(all)-len(rest)], body, rest[n+int(size):]
		case key.less(k):
			return all[:len(all)-len(rest)], nil, rest
		}
		rest = rest[n+int(size):]
	}
	return all, nil, nil
}

// entryKey reads what an entry is about, and no more of it.
func entryKey(b []byte) activityKey {
	r := reader{b: b}
	return activityKey{event: r.name(), item: r.name(), outcome: r.byte()&activityOutcome != 0}
}

func (d *activityDraft) load(entry []byte, in *activityEdit) {
	d.props, d.sums = d.props[:0], d.sums[:0]
	d.days, d.cells = d.days[:0], d.cells[:0]
	d.rest, d.nRest = nil, 0
	if entry == nil {
		at := clipTime(in.occurred)
		d.head = ActivityEntry{
			Event: in.key.event, Item: in.key.item, Outcome: in.key.outcome,
			First: at, Last: at, Floor: -activityDay,
		}
		return
	}
	d.head, _ = parseActivityEntry(entry)
	ids, totals := reader{b: d.head.ids}, reader{b: d.head.totals}
	for range d.head.nProps {
		d.props, d.sums = append(d.props, ids.name()), append(d.sums, totals.sums())
	}
	if d.head.oneDay {
		d.days = append(d.days, activityCell{d.head.day, d.head.Count})
		d.cells = append(d.cells, d.sums...)
		return
	}
	d.rest, d.nRest = d.head.days, d.head.nDays
	d.unpack(1)
}

// unpack unpacks up to n more days.
func (d *activityDraft) unpack(n int) {
	r := reader{b: d.rest}
	for range min(n, d.nRest) {
		d.nRest--
		cell := activityCell{}
		if last := len(d.days) - 1; last < 0 {
			cell.day = int32(r.varint())
		} else {
			cell.day = d.days[last].day - int32(r.uvarint())
		}
		cell.count = r.uvarint()
		d.days = append(d.days, cell)
		for range d.props {
			d.cells = append(d.cells, r.sums())
		}
	}
	d.rest = r.b
}

// count adds the event to the lifetime and to its day.
func (d *activityDraft) count(in *activityEdit) {
	at := clipTime(in.occurred)
	h := &d.head
	h.First, h.Last = min(h.First, at), max(h.Last, at)
	h.Count = min(h.Count+1, activityCount)
	for i := range in.props {
		if v, ok := in.number(i); ok {
			if p := d.property(in.props[i].ID); p >= 0 {
				d.sums[p].add(v)
			}
		}
	}
	day := in.day
	if day < h.Floor {
		return
	}
	if len(d.days) > 0 && day < d.days[0].day || len(d.days)+d.nRest >= activityCells {
		d.unpack(d.nRest)
	}
	d.expire(clipDay(in.now, 0) - ActivityDays)
	if day < h.Floor {
		return
	}
	i, ok := d.find(day)
	n := len(d.props)
	if !ok {
		d.days = slices.Insert(d.days, i, activityCell{day: day})
		for range n {
			d.cells = append(d.cells, Sums{})
		}
		copy(d.cells[(i+1)*n:], d.cells[i*n:len(d.cells)-n])
		clear(d.cells[i*n : (i+1)*n])
	}
	d.days[i].count = min(d.days[i].count+1, activityCount)
	for k := range in.props {
		if v, ok := in.number(k); ok {
			if p := d.property(in.props[k].ID); p >= 0 {
				d.cells[i*n+p].add(v)
			}
		}
	}
}

// expire drops days before oldest when there are too many.
func (d *activityDraft) expire(oldest int32) {
	if len(d.days)+d.nRest < activityCells {
		return
	}
	if keep, _ := d.find(oldest - 1); keep < len(d.days) {
		d.keep(keep)
	}
}

// number returns the value of the i-th property when it is a number; of two
// values of one property the first counts.
func (in *activityEdit) number(i int) (float64, bool) {
	for k := range i {
		if in.props[k].ID == in.props[i].ID {
			return 0, false
		}
	}
	return in.props[i].Value.numeric()
}

// find returns the position of a day, or where it belongs.
func (d *activityDraft) find(day int32) (int, bool) {
	return slices.BinarySearchFunc(d.days, day, func(c activityCell, day int32) int {
		return int(day) - int(c.day)
	})
}

// keep keeps the n newest days. All are unpacked.
func (d *activityDraft) keep(n int) {
	d.head.Floor = max(d.head.Floor, d.days[n].day+1)
	d.days, d.cells = d.days[:n], d.cells[:n*len(d.props)]
}

// property returns the position of a property, a new one with a column of its
// own; -1 when there is no room for it.
func (d *activityDraft) property(id Name) int {
	i := slices.Index(d.props, id)
	if i >= 0 || len(d.props) == ActivityProps {
		return i
	}
	d.unpack(d.nRest)
	n := len(d.props)
	d.props, d.sums = append(d.props, id), append(d.sums, Sums{})
	for range d.days {
		d.cells = append(d.cells, Sums{})
	}
	for k := len(d.days) - 1; k >= 0; k-- { // each day moves k places on
		copy(d.cells[k*(n+1):k*(n+1)+n], d.cells[k*n:(k+1)*n])
		d.cells[k*(n+1)+n] = Sums{}
	}
	return n
}

// append packs the entry with its size.
func (d *activityDraft) append(dst []byte) []byte {
	at := len(dst)
	h := &d.head
	dst = binary.AppendUvarint(dst, uint64(h.Event))
	dst = binary.AppendUvarint(dst, uint64(h.Item))
	flags := byte(0)
	if h.Outcome {
		flags |= activityOutcome
	}
	if h.Floor == -activityDay {
		flags |= activityEvery
	}
	ahead, oneDay := d.oneDay()
	if oneDay {
		flags |= activityOneDay
	}
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, int64(h.First))
	dst = binary.AppendUvarint(dst, uint64(h.Last-h.First))
	dst = binary.AppendUvarint(dst, h.Count)
	if flags&activityEvery == 0 {
		dst = binary.AppendUvarint(dst, uint64(int64(h.Floor)+activityDay))
	}
	dst = append(dst, byte(len(d.props)))
	for _, id := range d.props {
		dst = binary.AppendUvarint(dst, uint64(id))
	}
	for _, s := range d.sums {
		dst = appendSums(dst, s)
	}
	if oneDay {
		dst = binary.AppendVarint(dst, int64(ahead))
	} else {
		dst = d.appendDays(dst)
	}
	var size [binary.MaxVarintLen64]byte
	return slices.Insert(dst, at, size[:binary.PutUvarint(size[:], uint64(len(dst)-at))]...)
}

// appendDays packs the days with their number.
func (d *activityDraft) appendDays(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(d.days)+d.nRest))
	n := len(d.props)
	for i, c := range d.days {
		if i == 0 {
			dst = binary.AppendVarint(dst, int64(c.day))
		} else {
			dst = binary.AppendUvarint(dst, uint64(d.days[i-1].day-c.day))
		}
		dst = binary.AppendUvarint(dst, c.count)
		for _, s := range d.cells[i*n : (i+1)*n] {
			dst = appendSums(dst, s)
		}
	}
	return append(dst, d.rest...)
}

// oneDay reports whether all there ever was lies on one day, which is so many ahead of
// the day in UTC of the last event.
func (d *activityDraft) oneDay() (ahead int32, ok bool) {
	if len(d.days) != 1 || d.nRest != 0 || d.days[0].count != d.head.Count ||
		!slices.Equal(d.cells, d.sums) {
		return 0, false
	}
	ahead = d.days[0].day - clipDay(d.head.Last, 0)
	return ahead, ahead >= -activityAhead && ahead <= activityAhead
}

func clipTime(at UnixMsec) UnixMsec { return min(max(at, -activityTime), activityTime) }

// clipDay returns the day of an instant in a zone shift seconds ahead of UTC.
func clipDay(at UnixMsec, shift int32) int32 {
	ms := int64(clipTime(at)) + int64(shift)*1000
	day := ms / dayMsec
	if ms%dayMsec < 0 {
		day--
	}
	return int32(day)
}

// numeric reads a bool, int or float that is finite.
func (v Value) numeric() (float64, bool) {
	switch v.Kind {
	case KindBool:
		return float64(v.Num & 1), true
	case KindInt:
		return float64(int64(v.Num)), true
	case KindFloat:
		f := math.Float64frombits(v.Num)
		return f, !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return 0, false
}
