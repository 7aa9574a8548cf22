package storage

import (
	"fmt"
	"maps"
	"slices"
)

// compareMembers compares the tracked segments.
func (m *model) compareMembers(s *state) error {
	if len(s.members.sets) != len(m.members) || s.members.last != uint64(len(m.changes)) {
		return fmt.Errorf("%d tracked segments, %d changes; want %d, %d", len(s.members.sets),
			s.members.last, len(m.members), len(m.changes))
	}
	for n, want := range m.members {
		have := s.members.sets[n].bitmap
		for o, in := range want {
			if have.Contains(uint32(o)) != in {
				return fmt.Errorf("ordinal %d in segment %d: want %t", o, n, in)
			}
		}
		for _, o := range have.ToArray() {
			if !want[Ord(o)] {
				return fmt.Errorf("ordinal %d is in segment %d", o, n)
			}
		}
	}
	return nil
}

// compare compares one person of the state with the model.
func (m *model) compare(s *state, o Ord, now UnixSec) error {
	p := m.people[o]
	if p == nil {
		if s.row(o) != nil {
			return fmt.Errorf("person %d should be gone", o)
		}
		return nil
	}
	if at, ok := s.find(p.ws, p.hash, []byte(p.id)); !ok || at != o {
		return fmt.Errorf("find of %q: %d, %t", p.id, at, ok)
	}
	if _, ok := s.find(p.ws+1, p.hash, []byte(p.id)); ok {
		return fmt.Errorf("find in another workspace")
	}
	if string(s.id(o)) != p.id || s.row(o).Person != p.person ||
		s.row(o).Flags&RowVisitor != 0 != p.visitor {
		return fmt.Errorf("row of %d: id %q, want %q", o, s.id(o), p.id)
	}
	if err := p.compareProfile(s.profile(o)); err != nil {
		return fmt.Errorf("profile of %d: %w", o, err)
	}
	if err := p.compareTail(s.tail(o)); err != nil {
		return fmt.Errorf("tail of %d: %w", o, err)
	}
	if err := p.compareActivity(s.activity(o)); err != nil {
		return fmt.Errorf("activity of %d: %w", o, err)
	}
	if err := p.compareContact(s.contact(o), Instant{Now: now, Floor: m.floor}); err != nil {
		return fmt.Errorf("contact of %d: %w", o, err)
	}
	return nil
}

func (p *modelPerson) compareProfile(f Profile) error {
	attrs := map[Name]Value{}
	f.EachAttr(func(n Name, v Value) bool { attrs[n] = v; return true })
	same := func(a, b Value) bool {
		return a.Kind == b.Kind && a.Num == b.Num && string(a.Bytes) == string(b.Bytes)
	}
	if !maps.EqualFunc(attrs, p.attrs, same) {
		return fmt.Errorf("attributes %v, want %v", attrs, p.attrs)
	}
	for n := Name(1); n < 40; n++ {
		v, ok := f.Attr(n)
		if w, want := p.attrs[n]; ok != want || !same(v, w) {
			return fmt.Errorf("attribute %d: %v, want %v", n, v, w)
		}
		var places AttrPlaces
		places[n%64] = uint16(len(attrs)) / 2 // where another one may be
		for range 2 {
			kind, num, text := f.AttrNear(n, &places)
			if w := p.attrs[n]; !same(Value{Kind: kind, Num: num, Bytes: text}, w) {
				return fmt.Errorf("attribute %d near %d: %v %v, want %v", n, places[n%64], kind, num, w)
			}
		}
		value, ok, expires := f.Tag(n)
		if t, want := p.tags[n]; ok != want || t.Value != value || t.Expires != expires {
			return fmt.Errorf("tag %d: %v %v, want %v", n, value, expires, t)
		}
		if f.Segment(n) != p.segments[n] {
			return fmt.Errorf("segment %d", n)
		}
	}
	for purpose := Name(1); purpose < 6; purpose++ {
		for channel := range uint8(MaxChannels) {
			granted, known, _ := f.Consent(purpose, channel)
			if g, k := p.consent(purpose, channel); g != granted || k != known {
				return fmt.Errorf("consent %d/%d: %t %t, want %t %t",
					purpose, channel, granted, known, g, k)
			}
		}
	}
	for channel := range uint8(MaxChannels) {
		if f.HasAddress(channel) != (len(p.addresses[channel]) > 0) ||
			f.Blacklisted(channel) != (p.blacklist>>channel&1 == 1) {
			return fmt.Errorf("channel %d", channel)
		}
		var have []string
		f.EachAddress(func(c uint8, v []byte) bool {
			if c == channel {
				have = append(have, string(v))
			}
			return true
		})
		if !slices.EqualFunc(have, p.addresses[channel], func(a string, b []byte) bool {
			return a == string(b)
		}) {
			return fmt.Errorf("addresses %q, want %q", have, p.addresses[channel])
		}
	}
	for _, i := range p.identities {
		if !f.HasIdentity(i.Type, i.Value) {
			return fmt.Errorf("identity %v", i)
		}
	}
	if f.Zone() != p.zone || f.Locale() != p.locale || f.Blacklist() != p.blacklist {
		return fmt.Errorf("zone %d, locale %d", f.Zone(), f.Locale())
	}
	return p.compareTags(f)
}

func (p *modelPerson) compareTail(t Tail) error {
	if t.Len() != len(p.tail) {
		return fmt.Errorf("%d events, want %d", t.Len(), len(p.tail))
	}
	i := 0
	var err error
	t.Each(func(e TailEvent) bool {
		e.props = nil
		want := p.tail[i]
		if fmt.Sprint(e) != fmt.Sprint(want) {
			err = fmt.Errorf("event %d: %+v, want %+v", i, e, want)
		}
		i++
		return err == nil
	})
	if err != nil || i != len(p.tail) {
		return fmt.Errorf("after %d of %d: %w", i, len(p.tail), err)
	}
	since := 0
	for _, at := range p.all {
		if at >= t.Floor() {
			since++
		}
	}
	kept := 0
	for _, e := range p.tail {
		if e.Occurred >= t.Floor() {
			kept++
		}
	}
	if since != kept {
		return fmt.Errorf("%d events since the floor, %d in the tail", since, kept)
	}
	return nil
}

func (p *modelPerson) compareContact(c Contact, t Instant) error {
	for cap := Name(1); cap < 6; cap++ {
		for dim := range uint32(3) {
			key := CounterKey{cap, dim}
			for _, w := range []UnixSec{1, 30, 600, 86400, 30 * 86400} {
				if err := p.compareCount(c, key, t.Now-w, t); err != nil {
					return fmt.Errorf("key %v window %d: %w", key, w, err)
				}
			}
		}
	}
	if c.opens() != len(p.open) || c.requests() != len(p.requests) {
		return fmt.Errorf("%d open, %d requests; want %d, %d", c.opens(), c.requests(),
			len(p.open), len(p.requests))
	}
	for _, r := range p.open {
		h, state := c.Reservation(r.ID)
		if state != ReservationOpen || h.Offer() != r.Offer || h.Len() != len(r.Keys) ||
			h.Granted() != r.Granted || h.Expires() != r.Expires || h.Grace() != r.Grace ||
			h.Channel() != r.Channel || h.Treatment() != r.Treatment ||
			h.Placement() != r.Placement {
			return fmt.Errorf("reservation %v", r)
		}
		for i := range r.Keys {
			if h.Key(i) != r.Keys[i] {
				return fmt.Errorf("key %v, want %v", h.Key(i), r.Keys[i])
			}
		}
	}
	for id, want := range p.states {
		if _, state := c.Reservation(id); state != want && state != ReservationUnknown {
			return fmt.Errorf("reservation %v is %d, want %d", id, state, want)
		}
	}
	for _, d := range p.requests {
		id, body, ok := c.Request(d.Request, t.Now)
		if ok != (d.Until > t.Now) || ok && (id != d.ID || body != d.Body) {
			return fmt.Errorf("request %d", d.Request)
		}
	}
	return nil
}

func (p *modelPerson) compareCount(c Contact, key CounterKey, since UnixSec, t Instant) error {
	var times []UnixSec
	for _, at := range p.uses[key] {
		if at > since {
			times = append(times, at)
		}
	}
	pending := 0
	for i := range p.open {
		for _, k := range p.open[i].Keys {
			if k.Key == key && !k.Total && p.open[i].Expires > since && p.live(&p.open[i], t) {
				pending++
				times = append(times, p.open[i].Expires)
			}
		}
	}
	u := c.Count(key, since, t)
	if u.Pending != pending || u.N > len(times) || !u.Unknown && u.N != len(times) {
		return fmt.Errorf("usage %+v, want %d with %d pending", u, len(times), pending)
	}
	if (u.N >= modelLimit) != (len(times) >= modelLimit) {
		return fmt.Errorf("usage %+v, want %d of %d", u, len(times), modelLimit)
	}
	if len(times) > 0 && u.Latest != slices.Max(times) {
		return fmt.Errorf("latest %d, want %d", u.Latest, slices.Max(times))
	}
	if !u.Unknown && len(times) > 0 && u.Oldest != slices.Min(times) {
		return fmt.Errorf("oldest %d, want %d", u.Oldest, slices.Min(times))
	}
	slices.Sort(times)
	for k := 1; k <= min(len(times), modelLimit); k++ {
		if at := c.KthLatest(key, k, t); at != times[len(times)-k] {
			return fmt.Errorf("%d-th latest: %d, want %d", k, at, times[len(times)-k])
		}
	}
	return nil
}
