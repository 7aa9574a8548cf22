package engine

import (
	"slices"

	"tact/engine/decide"
	"tact/engine/definition"
	"tact/storage"
)

// ReachView is what the gates of contact that stand before the caps know of one
// person.
type ReachView struct {
	Timezone  string        // "" = not known
	Consents  []ConsentView // the one in force for each purpose and channel
	Blacklist []string      // channels, of the person's own document
	Listed    []ListedView  // suppression lists that hold the id or an address
	Quiet     []QuietView   // those that bind the person, in the order of the plan
}

// QuietView is one set of quiet hours that binds a person. Reason is "" while it is
// open; else quiet_hours, or timezone_unknown when one of the zones that may be
// theirs refuses, and Until is when it opens again of itself (0: not in sight, or a
// message is dropped and nothing waits for it).
type QuietView struct {
	ID         string // "" is the workspace's own
	Channels   []string
	Placements []string // nil = all
	Classes    []string
	Hold       bool // when_hit
	Reason     string
	Until      storage.UnixSec
}

// reach reads the gates before the caps; the group is locked. Of an offer only the
// quiet hours that are for it are told.
func (s *stateReader) reach() ReachView {
	u := UserView{UserID: userIDOf(s.work.id)}
	s.e.viewProfile(&u, s.person.Profile)
	s.e.viewLists(&u, s.person.Profile)
	v := ReachView{
		Timezone: s.e.store.NameOf(storage.DictZone, s.person.Profile.Zone()),
		Consents: consentsInForce(u.Consents), Blacklist: u.Blacklist, Listed: u.Listed,
	}
	for i := range s.snap.Plan.Quiet {
		s.addQuiet(&v, i)
	}
	return v
}

// consentsInForce are those of a history, oldest first, that no other overrules:
// the newest of each purpose and channel, of two of one time the withdrawal.
func consentsInForce(history []ConsentView) []ConsentView {
	var out []ConsentView
	for _, c := range history {
		at := slices.IndexFunc(out, func(o ConsentView) bool {
			return o.Purpose == c.Purpose && o.Channel == c.Channel
		})
		switch {
		case at < 0:
			out = append(out, c)
		case c.At > out[at].At || out[at].Granted || !c.Granted:
			out[at] = c
		}
	}
	return out
}

func (s *stateReader) addQuiet(v *ReachView, set int) {
	plan := s.snap.Plan
	q := &plan.Quiet[set]
	if s.offer >= 0 && !q.Of(s.offer, plan.Offers[s.offer].Class) {
		return
	}
	state := plan.QuietState(set, &s.person, s.work.words, s.at, &s.result)
	if !state.Binds {
		return
	}
	view := QuietView{
		ID: q.ID, Channels: channelNames(q.Channels()), Hold: q.Hold,
		Reason: state.Reason.String(),
	}
	for class := definition.Marketing; class <= definition.Mandatory; class++ {
		if q.Classes()&(1<<class) != 0 {
			view.Classes = append(view.Classes, class.String())
		}
	}
	if !q.Everywhere() {
		for p := range plan.Placements {
			if q.On(int32(p)) {
				view.Placements = append(view.Placements, plan.Placements[p].ID)
			}
		}
	}
	if q.Hold && state.Reason != decide.ReasonNone && state.Until != decide.Never {
		view.Until = state.Until
	}
	v.Quiet = append(v.Quiet, view)
}
