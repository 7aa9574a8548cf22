// Package audience owns the membership of segments that are tracked: who is in
// them now, which changes of a person may move that person into or out of them,
// and when time alone does.
//
// A [Set] is the tracked segments of one snapshot. [Set.Judge] says which of
// them hold for a person and until when at least; [Set.Watch] says of which
// changes of a person which of them must be asked anew; a [Calendar] keeps for
// every person of a group when they must be asked again although nothing came.
//
// Laws, each with a test of the same name:
//  1. Incremental is full: judging only what a change touches, and who is due,
//     gives the members that judging everybody by everything gives.
//  2. Never late: a person is due no later than the second in which a tracked
//     segment changes for the person with time alone.
//  3. Watch hears what concerns: a change touches the segments that look at what
//     changed and no other; the rest costs a look-up.
//
// Everything here is plain data: it reads no clock, does no I/O and starts no
// goroutine. The conductor keeps the members and records who enters and leaves.
package audience

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// MaxTracked bounds the tracked segments of a snapshot.
const MaxTracked = storage.MaxWatchers

// Never is the time of what does not come to pass.
const Never storage.UnixSec = 0xFFFFFFFF

// Set is the tracked segments of one snapshot. It is immutable.
type Set struct {
	Segments []Segment // by number, in the order of their ids; at most MaxTracked
	Watch    *storage.Watch
	Timed    storage.WatchSet // those that may change with time alone
	All      storage.WatchSet
	events   storage.WatchSet // those that look at what the person did
}

// Segment is one tracked segment.
type Segment struct {
	ID     string
	Name   storage.Name // DictSegment
	Digest uint64       // of what it says: another one, other members

	standing *rule.Standing
}

// Compile gathers the segments that are to be tracked. Every fault is returned.
// intern mints dictionary ids; timezone is the workspace's.
// Cost: as compiling their rules.
func Compile(
	docs []*definition.Segment, names *rule.Names, timezone string,
	intern func(storage.DictKind, string) (storage.Name, error),
) (*Set, []definition.Fault) {
	var tracked []*definition.Segment
	for _, d := range docs {
		if d.Track {
			tracked = append(tracked, d)
		}
	}
	slices.SortFunc(tracked, func(a, b *definition.Segment) int { return strings.Compare(a.ID, b.ID) })
	var faults []definition.Fault
	fault := func(d *definition.Segment, message string) {
		faults = append(faults, definition.Fault{
			Pos: d.Pos, Doc: "segment/" + d.ID, Field: "track", Message: message,
		})
	}
	s := &Set{}
	for i, d := range tracked {
		if i == MaxTracked {
			fault(d, fmt.Sprintf("%d segments are tracked: at most %d can be",
				len(tracked), MaxTracked))
			break
		}
		name, err := intern(storage.DictSegment, d.ID)
		if err != nil {
			fault(d, err.Error())
			continue
		}
		tree := treeOf(d, names)
		if tree == nil {
			continue // its rule has faults of its own
		}
		seg := Segment{ID: d.ID, Name: name, standing: tree.Standing()}
		if seg.standing.Reads().Request {
			fault(d, "its rule asks about the request (context): only what is asked of "+
				"the person can be tracked")
		}
		sum := sha256.Sum256([]byte(seg.standing.Key() + "\x00" + timezone))
		seg.Digest = binary.LittleEndian.Uint64(sum[:])
		s.Segments = append(s.Segments, seg)
	}
	s.watch()
	return s, faults
}

// treeOf is the rule that a segment's members pass: of a static one, membership.
func treeOf(d *definition.Segment, names *rule.Names) *rule.Tree {
	if d.Rule != nil {
		return names.Rules[d.ID]
	}
	node := &definition.Node{Kind: definition.NodeMap, Keys: []definition.Key{
		{Name: "segment", Value: &definition.Node{Kind: definition.NodeString, Text: d.ID}},
	}}
	tree, faults := rule.Parse(node, names, "rule")
	if len(faults) > 0 {
		return nil
	}
	return tree
}

// watch builds what the segments want to hear of.
func (s *Set) watch() {
	w := &storage.Watch{
		Attributes: map[storage.Name]storage.WatchSet{}, Tags: map[storage.Name]storage.WatchSet{},
		Segments: map[storage.Name]storage.WatchSet{}, Events: map[storage.Name]storage.WatchSet{},
	}
	for i := range s.Segments {
		r := s.Segments[i].standing.Reads()
		add := func(to map[storage.Name]storage.WatchSet, names []storage.Name) {
			for _, n := range names {
				set := to[n]
				set.Add(i)
				to[n] = set
			}
		}
		add(w.Attributes, r.Attributes)
		add(w.Tags, r.Tags)
		add(w.Segments, r.Segments)
		add(w.Events, r.Events)
		flag := func(on bool, set *storage.WatchSet) {
			if on {
				set.Add(i)
			}
		}
		flag(len(r.Tags) > 0, &w.AnyTag)
		flag(r.AnyEvent, &w.AnyEvent)
		flag(r.Consents, &w.Consents)
		flag(r.Channels, &w.Channels)
		flag(r.Zone, &w.Zone)
		flag(r.Other, &w.Any)
		flag(s.Segments[i].standing.ReadsEvents(), &w.Tail)
		flag(r.Timed, &s.Timed)
		s.All.Add(i)
	}
	w.All, s.events, s.Watch = s.All, w.Tail, w
}

// ReadsEvents says whether Judge of these looks at what the person did.
func (s *Set) ReadsEvents(ask *storage.WatchSet) bool {
	left := ask.Without(&s.events)
	return left != *ask
}

// Judge says which of the segments in ask hold for who at who.Now. next is a
// second at or before the earliest instant at which one of them changes with
// time alone; see rule.Standing.Judge. Cost: that of the segments asked; no
// allocation.
func (s *Set) Judge(who *rule.Who, ask *storage.WatchSet) (
	holds storage.WatchSet, next storage.UnixSec,
) {
	next = Never
	for i := range ask.Each {
		in, until := s.Segments[i].standing.Judge(who)
		if in {
			holds.Add(i)
		}
		next = min(next, until)
	}
	return holds, next
}
