package backup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Errors of the choice of what to restore.
var (
	// ErrNotCovered reports a time that no chain of backups reaches over.
	ErrNotCovered = errors.New("no backup covers that time")
	// ErrNone reports a folder without a backup that has ended.
	ErrNone = errors.New("no backups")
	// ErrManyStores reports a folder with backups of several stores, and none named.
	ErrManyStores = errors.New("backups of more than one store")
)

// judge sets Broken of all backups of the folder at, oldest first. hurt says by name
// what is wrong in backups beyond their manifests.
func judge(at folder, all []Listed, hurt map[string]error) {
	for i := range all {
		l := &all[i]
		l.Broken = nil
		if l.Fault != nil || l.Kind == Full {
			continue
		}
		p := parentOf(all, i)
		switch {
		case p < 0:
			l.Broken = lost(at, all, i)
		case hurt[all[p].Name] != nil:
			l.Broken = errBytes("%s goes on from %s: %v", l.Name, all[p].Name, hurt[all[p].Name])
		default:
			l.Broken = all[p].Broken
		}
	}
}

// parentOf finds the backup that one goes on from among the whole ones before it; -1
// when it is not there.
func parentOf(all []Listed, i int) int {
	return slices.IndexFunc(all[:i], func(p Listed) bool {
		return p.Fault == nil && p.ID == all[i].Parent
	})
}

// lost says which backup one goes on from that is not there, or has a damaged manifest.
// It was the newest whole one then, so it lies behind every other that is whole.
func lost(at folder, all []Listed, i int) error {
	name := all[i].Name
	last, _ := numberOf(name)
	first := 1
	for j := range all[:i] {
		n, _ := numberOf(all[j].Name)
		if all[j].Fault == nil {
			first = n + 1
			continue
		}
		if idLeft(at, all[j].Name) == all[i].Parent {
			return errBytes("%s goes on from %s: %v", name, all[j].Name, all[j].Fault)
		}
	}
	if last--; first >= last {
		return errBytes("%s goes on from backup %06d, which is missing", name, last)
	}
	return errBytes("%s goes on from a backup of %06d to %06d, which is missing or damaged",
		name, first, last)
}

// idLeft reads the id of a backup with a damaged manifest from its people file; "" when
// that does not tell.
func idLeft(at folder, name string) string {
	_, id, err := readPeople(at.fs, at.fs.PathJoin(at.dir, name))
	if err != nil {
		return ""
	}
	return id.String()
}

// chainTo returns the backups that one needs and itself, oldest first; nil when it is
// not restorable.
func chainTo(all []Listed, i int) (chain []*Manifest) {
	if !all[i].Restorable() {
		return nil
	}
	for ; i >= 0; i = parentOf(all, i) {
		chain = append(chain, &all[i].Manifest)
		if all[i].Kind == Full {
			break
		}
	}
	slices.Reverse(chain)
	return chain
}

// newest returns the last backup of a store with a whole manifest, -1 for none. An empty
// store is any.
func newest(all []Listed, store string) int {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Fault == nil && (store == "" || all[i].Store == store) {
			return i
		}
	}
	return -1
}

// stores returns the ids of the stores that there are backups of, in order.
func stores(all []Listed) (ids []string) {
	for i := range all {
		if all[i].Fault == nil {
			ids = append(ids, all[i].Store)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Span is a time all moments of which can be restored, in ms since 1970 UTC.
type Span struct {
	Store       string
	From, Until int64
}

// Spans returns the times that can be restored, oldest first.
func Spans(all []Listed) (spans []Span) {
	in := make(map[string]int) // by id of a backup
	for i := range all {
		l := &all[i]
		if !l.Restorable() {
			continue
		}
		at, ok := in[l.Parent]
		if l.Kind == Full || !ok {
			at = len(spans)
			spans = append(spans, Span{l.Store, l.From, l.Until})
		}
		spans[at].Until = max(spans[at].Until, l.Until)
		in[l.ID] = at
	}
	return spans
}

// String gives the span as times.
func (s Span) String() string {
	if s.From == s.Until {
		return timeText(s.From)
	}
	return timeText(s.From) + " to " + timeText(s.Until)
}

// restorable says what can be restored of a store.
func restorable(all []Listed, store string) string {
	var out []string
	for _, s := range Spans(all) {
		if s.Store == store || store == "" {
			out = append(out, s.String())
		}
	}
	if len(out) == 0 {
		return "nothing there can be restored"
	}
	return "what can be restored: " + strings.Join(out, ", ")
}

// choice is what to restore.
type choice struct {
	at    int64  // ms; 0 = the newest
	store string // "" = the only one
}

// choose returns the index of the last backup to restore. It refuses what is damaged
// as long as that may be what was asked for.
func choose(all []Listed, c choice) (int, error) {
	ids := stores(all)
	switch {
	case len(all) == 0:
		return 0, ErrNone
	case len(ids) == 0:
		if err := hurtManifests(all, -1); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%w that have ended: %s: %w", ErrNone, all[len(all)-1].Name, errUnfinished)
	case c.store == "" && len(ids) > 1:
		return 0, fmt.Errorf("%w: name one of %s", ErrManyStores, strings.Join(ids, ", "))
	case c.store != "" && !slices.Contains(ids, c.store):
		return 0, fmt.Errorf("%w of store %s: there are those of %s", ErrNone, c.store,
			strings.Join(ids, ", "))
	}
	last := newest(all, c.store)
	what := restorable(all, c.store)
	if c.at == 0 {
		err := errors.Join(hurtManifests(all, last), all[last].Broken)
		if err != nil {
			return 0, fmt.Errorf("the newest: %w; %s", err, what)
		}
		return last, nil
	}
	var broken error
	for i := range all {
		l := &all[i]
		if l.Fault != nil || l.From > c.at || l.Until < c.at || c.store != "" && l.Store != c.store {
			continue
		}
		if l.Broken == nil {
			return i, nil
		}
		broken = l.Broken
	}
	if broken == nil {
		broken = hurtManifests(all, -1)
	}
	if broken == nil {
		broken = ErrNotCovered
	}
	return 0, fmt.Errorf("%s: %w; %s", timeText(c.at), broken, what)
}

// hurtManifests joins the faults of damaged manifests behind a backup.
func hurtManifests(all []Listed, behind int) error {
	var errs []error
	for i := behind + 1; i < len(all); i++ {
		if l := &all[i]; l.Fault != nil && !l.Unfinished() {
			errs = append(errs, l.Fault)
		}
	}
	return errors.Join(errs...)
}

// Ignored is a backup that is not usable, and was not needed.
type Ignored struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// ignored lists what is not usable.
func ignored(all []Listed) (out []Ignored) {
	last := newest(all, "")
	for i := range all {
		l := &all[i]
		switch {
		case l.Restorable():
			continue
		case l.Fault == nil:
			out = append(out, Ignored{l.Name, l.Broken.Error()})
		case l.Unfinished() || i < last:
			out = append(out, Ignored{l.Name, l.Fault.Error()})
		default:
			out = append(out, Ignored{l.Name, l.Fault.Error() +
				"; whom it alone knows to be erased is not known"})
		}
	}
	return out
}
