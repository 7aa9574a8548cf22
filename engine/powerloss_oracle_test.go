package engine

import (
	"fmt"
	"slices"
	"time"

	"tact/storage"
)

// lossCaps are the caps of lossWorld, all of which the oracle checks.
func lossCaps() []string {
	return []string{"own", "day", "great", "gap", "ident", "all_day", "all_rolling", "purse", "stock"}
}

// lossOracle keeps what was answered, as plain lists.
type lossOracle struct {
	lower     string // planted: this cap's limit is one lower here, its gap twice as long
	n         int    // numbers of patches and events
	attr      map[string]int
	events    map[string][]int
	shows     map[string][]int64 // "user offer": in time, ms
	reported  int                // impressions applied, late ones too
	decisions map[string][]int64 // by identity: items granted, ms
	stock     map[string]int
	requests  map[string]int                 // request ids of a person
	counted   map[storage.ReservationID]bool // one reservation confirms one use
}

func newLossOracle(n int) *lossOracle {
	return &lossOracle{
		n: n, attr: map[string]int{}, events: map[string][]int{}, shows: map[string][]int64{},
		decisions: map[string][]int64{}, stock: map[string]int{}, requests: map[string]int{},
		counted: map[storage.ReservationID]bool{},
	}
}

func (o *lossOracle) decided(who string, at int64) {
	o.decisions[who] = append(o.decisions[who], at)
}

// impression notes a report that was answered. A late one is a fact that no cap
// answers for.
func (o *lossOracle) impression(it *impression, at int64, late bool) {
	o.reported++
	if (!late || it.unknown) && !o.counted[it.held] {
		key := it.user + " " + it.offer
		o.shows[key] = append(o.shows[key], max(at, it.decided))
	}
	o.counted[it.held] = true
}

// missing looks for what was answered in an engine that has just opened.
func (o *lossOracle) missing(e *Engine, shown []*impression) error {
	for _, user := range []string{"ann", "bob", "eve"} {
		v, err := e.User([]byte(user))
		if err != nil {
			return fmt.Errorf("%s: %w", user, err)
		}
		if err := o.person(v); err != nil {
			return fmt.Errorf("%s: %w", user, err)
		}
		if err := o.contact(e, user); err != nil {
			return fmt.Errorf("%s: %w", user, err)
		}
	}
	n := 0
	for _, row := range e.Stats() {
		if row.What == "impression" {
			n += int(row.N)
		}
	}
	if n < o.reported || n > o.reported+1 { // one may be in doubt
		return fmt.Errorf("%d impressions are counted, %d were answered", n, o.reported)
	}
	return nil
}

func (o *lossOracle) person(v *UserView) error {
	n := o.attr[v.UserID]
	if !slices.ContainsFunc(v.Attributes, func(a AttributeView) bool {
		return a.Name == "n" && int(a.Value.Num) == n
	}) {
		return fmt.Errorf("attributes %+v, n = %d was answered", v.Attributes, n)
	}
	if len(v.Tags) != 1 || v.Tags[0].Is != fmt.Sprint(n%3) {
		return fmt.Errorf("tags %+v, stage %d was answered", v.Tags, n%3)
	}
	seen := map[int]int{}
	for _, e := range v.Events {
		if e.Event == "order" {
			for _, p := range e.Props {
				seen[int(p.Value.Num)]++
			}
		}
	}
	for _, n := range o.events[v.UserID] {
		if seen[n] != 1 && (seen[n] != 0 || len(v.Events) < 64) {
			return fmt.Errorf("event %d is there %d times", n, seen[n])
		}
	}
	return nil
}

// contact looks for answered uses in what contact-state says.
func (o *lossOracle) contact(e *Engine, user string) error {
	for _, offer := range []string{"a", "b", "c", "d", "e"} {
		v, err := e.ContactState([]byte(user), []byte(offer))
		if err != nil {
			return err
		}
		if err := unexplained(v, true); err != nil {
			return err
		}
		want := int64(0)
		for _, at := range o.shows[user+" "+offer] {
			if at > int64(v.At)-3600_000 {
				want++
			}
		}
		for _, c := range v.Caps {
			if c.CapID == "own" && c.Used < want {
				return fmt.Errorf("%d uses of %s, %d were answered", c.Used, offer, want)
			}
		}
	}
	return nil
}

// limit is the greatest limit that a cap ever had.
func (o *lossOracle) limit(name string) int {
	n := map[string]int{
		"own": 2, "day": 5, "great": 3, "gap": 1, "ident": 4, "all_day": 6, "all_rolling": 14,
		"stock": 3, "purse": 60,
	}[name]
	switch {
	case o.lower != name || name == "gap":
	case name == "purse":
		n -= 5
	default:
		n--
	}
	return n
}

// exceeded looks at every window of every cap.
func (o *lossOracle) exceeded(l *loss) error {
	const hour = 3600_000
	everybody := map[string][]int64{}
	for _, u := range l.users {
		zone, err := time.LoadLocation(u.zone)
		if u.zone == "" {
			zone, err = time.LoadLocation("Asia/Shanghai")
		}
		if err != nil {
			return err
		}
		var all []int64
		for _, offer := range []string{"a", "b", "c", "d", "e"} {
			times := o.shows[u.id+" "+offer]
			all = append(all, times...)
			if lossTotal(offer) {
				everybody[offer] = append(everybody[offer], times...)
			}
			if err := o.rolling("own", times, hour); err != nil {
				return err
			}
			gap := int64(12 * 60_000)
			if o.lower == "gap" {
				gap *= 2
			}
			if err := o.rolling("gap", times, gap); err != nil {
				return err
			}
		}
		if err := o.calendar("day", all, "2006-01-02", zone); err != nil {
			return err
		}
		if err := o.calendar("great", all, "2006-01-02 15", time.UTC); err != nil {
			return err
		}
	}
	for offer, times := range everybody {
		if err := o.calendar("all_day", times, "2006-01-02", time.UTC); err != nil {
			return err
		}
		if n := o.stock[offer]; n > o.limit("stock") {
			return fmt.Errorf("cap stock: %d accepts of %s", n, offer)
		}
	}
	if err := o.spent(everybody); err != nil {
		return err
	}
	var all []int64
	for _, times := range o.decisions {
		all = append(all, times...)
		if err := o.rolling("ident", times, hour/2); err != nil {
			return err
		}
	}
	return o.rolling("all_rolling", all, hour)
}

// spent adds up what the impressions of a day cost.
func (o *lossOracle) spent(everybody map[string][]int64) error {
	days := map[string]int{}
	for offer, times := range everybody {
		for _, at := range times {
			day := time.UnixMilli(at).UTC().Format(time.DateOnly)
			if days[day] += map[string]int{"a": 5, "b": 7, "c": 9}[offer]; days[day] > o.limit("purse") {
				return fmt.Errorf("cap purse: %d spent on %s", days[day], day)
			}
		}
	}
	return nil
}

func (o *lossOracle) rolling(name string, times []int64, window int64) error {
	limit := o.limit(name)
	times = slices.Sorted(slices.Values(times))
	for i := limit; i < len(times); i++ {
		if times[i]-times[i-limit] < window {
			return fmt.Errorf("cap %s: %d uses within %d ms: %v", name, limit+1,
				times[i]-times[i-limit], times[i-limit:i+1])
		}
	}
	return nil
}

// calendar groups by what the wall shows.
func (o *lossOracle) calendar(
	name string, times []int64, layout string, zone *time.Location,
) error {
	n := map[string]int{}
	for _, at := range times {
		day := time.UnixMilli(at).In(zone).Format(layout)
		if n[day]++; n[day] > o.limit(name) {
			return fmt.Errorf("cap %s: %d uses in %s", name, n[day], day)
		}
	}
	return nil
}
