package main

import (
	"encoding/hex"
	"fmt"
	"time"

	"tact/storage"
)

// shownRings is how many rings doctor prints; with --json all are.
const shownRings = 20

// otherRing is a ring of another store than the one that is looked at.
type otherRing struct {
	File   string     `json:"file"`
	Store  string     `json:"store"`
	Bytes  int64      `json:"bytes"`
	Made   time.Time  `json:"made"`
	Newest *time.Time `json:"newest_record,omitempty"`
	Starts uint32     `json:"starts,omitempty"` // of its store; absent: it is no whole ring
	UsedBy int        `json:"used_by_process,omitempty"`
}

// otherRings lists the rings in dir but that of the store. fault says why there is no
// list.
func otherRings(dir string, store [16]byte) (rings []otherRing, fault string) {
	rings = []otherRing{}
	if dir == "" {
		return rings, ""
	}
	all, err := storage.Rings(dir)
	if err != nil {
		return rings, err.Error()
	}
	for i := range all {
		r := &all[i]
		if r.StoreID == store {
			continue
		}
		out := otherRing{
			File: r.Path, Store: hex.EncodeToString(r.StoreID[:]), Bytes: r.Bytes,
			Made: time.UnixMilli(r.Made).UTC(), Starts: r.Epoch, UsedBy: r.UsedBy,
		}
		if r.Newest > 0 {
			at := time.UnixMilli(int64(r.Newest)).UTC()
			out.Newest = &at
		}
		rings = append(rings, out)
	}
	return rings, ""
}

// printRings prints the rings that no process was seen to use, and how to remove one.
func (d *diagnosis) printRings(row func(name, format string, args ...any)) {
	if d.RingsFault != "" {
		row("", "")
		row("rings", "not looked at: %s", d.RingsFault)
		return
	}
	var unused []*otherRing
	bytes, used := int64(0), 0
	for i := range d.Rings {
		if d.Rings[i].UsedBy != 0 {
			used++
			continue
		}
		unused = append(unused, &d.Rings[i])
		bytes += d.Rings[i].Bytes
	}
	if len(unused) == 0 {
		return
	}
	row("", "")
	row("rings", "%d of other stores that no process was seen to use, %s bytes of memory; %d in use",
		len(unused), grouped(bytes), used)
	for _, r := range unused[:min(len(unused), shownRings)] {
		newest := "no record"
		if r.Newest != nil {
			newest = "last record " + r.Newest.Format(time.RFC3339)
		}
		if r.Starts == 0 {
			newest = "not a whole ring"
		}
		row("", "%s  %s bytes, made %s, %s", r.File, grouped(r.Bytes),
			r.Made.Format(time.RFC3339), newest)
	}
	if more := len(unused) - shownRings; more > 0 {
		row("", "and %d more: see --json", more)
	}
	row("", "%s", fmt.Sprint("a ring that a kill has left is needed by the next start of its ",
		"store: `rm` one only when no data folder has its store any more"))
}
