package definition

import (
	"slices"
	"strconv"
	"time"
)

// check resolves what documents say about each other. It runs once all
// documents are decoded, and only when every file could be read: otherwise
// each missing document would be a fault of its own.
func (r *reading) check() {
	r.offers = make(map[string]*Offer, len(r.set.Offers))
	for _, o := range r.set.Offers {
		if _, twice := r.offers[o.ID]; !twice {
			r.offers[o.ID] = o
		}
	}
	names := make(map[string][]string)
	for key := range r.known {
		names[key.kind] = append(names[key.kind], key.id)
	}
	for _, ref := range r.refs {
		if _, ok := r.known[ref.to]; !ok {
			ref.faultNear(ref.to.id, names[ref.to.kind],
				"there is no "+ref.to.kind+" "+strconv.Quote(ref.to.id))
		}
	}
	for _, late := range r.later {
		late(r)
	}
}

func (f field) afterAll(check func(*reading)) { f.r.later = append(f.r.later, check) }

// sameChannel checks that the placement f names is on the channel.
func (f field) sameChannel(placement string, c Channel) {
	f.afterAll(func(r *reading) {
		for _, p := range r.set.Placements {
			if p.ID == placement && p.Channel != c {
				f.fault("placement %s is on channel %s, the treatment on %s", p.ID, p.Channel, c)
				return
			}
		}
	})
}

// oneContextType checks that a context key has the type that the first
// placement to declare it gives: rules name a key without naming a placement.
func (f field) oneContextType(placement string, key Property) {
	if key.Name == "" || key.Type == 0 {
		return
	}
	f.afterAll(func(r *reading) {
		for _, p := range r.set.Placements {
			for _, other := range p.Context {
				if other.Name != key.Name || other.Type == 0 {
					continue
				}
				if other.Type != key.Type {
					f.fault("%s is %s here and %s at placement %s: a context key has one type",
						key.Name, key.Type, other.Type, p.ID)
				}
				return
			}
			if p.ID == placement {
				return
			}
		}
	})
}

// numeric checks that the attribute f names holds numbers.
func (f field) numeric(attribute string) {
	f.afterAll(func(r *reading) {
		for _, a := range r.set.Attributes {
			if a.ID == attribute && a.Type != TypeInt && a.Type != TypeFloat && a.Type != 0 {
				f.fault("attribute %s is %s: an int or a float is expected", a.ID, a.Type)
				return
			}
		}
	})
}

// treatmentOf checks that the treatment f names stands in the offer.
func (f field) treatmentOf(offer, treatment string) {
	f.afterAll(func(r *reading) {
		o := r.offers[offer]
		if o == nil || treatment == "" {
			return
		}
		var among []string
		for _, t := range o.Treatments {
			among = append(among, t.ID)
		}
		if !slices.Contains(among, treatment) {
			f.faultNear(treatment, among,
				"offer "+offer+" has no treatment "+strconv.Quote(treatment))
		}
	})
}

// variantOf checks that the variant f names stands in the experiment.
func (f field) variantOf(experiment, variant string) {
	f.afterAll(func(r *reading) {
		if variant == "" {
			return
		}
		for _, e := range r.set.Experiments {
			if e.ID != experiment {
				continue
			}
			var among []string
			for _, v := range e.Variants {
				among = append(among, v.ID)
			}
			if !slices.Contains(among, variant) {
				f.faultNear(variant, among,
					"experiment "+experiment+" has no variant "+strconv.Quote(variant))
			}
			return
		}
	})
}

// onPagesOnly checks that no placement that may use the policy reaches out.
func (f field) onPagesOnly(policy string) {
	f.afterAll(func(r *reading) {
		var switched []string // placements that a variant gives the policy
		for _, e := range r.set.Experiments {
			for _, v := range e.Variants {
				for id, change := range v.Placements {
					if change.Policy == policy {
						switched = append(switched, id)
					}
				}
			}
		}
		for _, p := range r.set.Placements {
			used := p.Policy == policy || slices.Contains(switched, p.ID)
			if used && !p.Channel.Page() {
				f.fault("a universal fallback is for page channels (web, in_app), and placement "+
					"%s is on %s", p.ID, p.Channel)
			}
		}
	})
}

// disjoint checks that the range does not meet that of an earlier experiment
// of the layer.
func (f field) disjoint(e *Experiment) {
	f.afterAll(func(r *reading) {
		for _, other := range r.set.Experiments {
			if other == e {
				return
			}
			if other.Layer == e.Layer && other.Range.From < e.Range.Until &&
				e.Range.From < other.Range.Until {
				f.fault("%s overlaps %s of experiment %s in layer %s",
					e.Range, other.Range, other.ID, e.Layer)
			}
		}
	})
}

// someMinuteOpen checks that a person without a time zone can be reached at
// some minute of the day. Clocks differ between summer and winter, so both are
// looked at: a list that closes the whole day in either half of the year is
// refused. The year is fixed, that the answer depends on the documents only.
func (f field) someMinuteOpen(w *Workspace) {
	everyDay := slices.DeleteFunc(slices.Clone(w.QuietHours.Windows), func(s MinuteSpan) bool {
		return s.Days != 0
	})
	if month, closed := closedMonth(w, everyDay); closed {
		f.fault("no minute of the day (in %s) is outside the quiet hours of every zone", month)
	}
}

func anyMinuteOpen(day time.Time, zones []string, quiet []MinuteSpan) bool {
	const dayMinutes = 24 * 60
	var closed [dayMinutes]bool
	for _, name := range zones {
		zone, err := time.LoadLocation(name)
		if err != nil {
			continue
		}
		_, offset := day.In(zone).Zone()
		for _, span := range quiet {
			length := (span.Until - span.From + dayMinutes) % dayMinutes
			if span.Until-span.From == dayMinutes {
				length = dayMinutes
			}
			for m := range length {
				utc := span.From + m - offset/60
				closed[(utc%dayMinutes+dayMinutes)%dayMinutes] = true
			}
		}
	}
	return slices.Contains(closed[:], false)
}
