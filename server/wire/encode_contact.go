package wire

import "tact/engine"

// AppendContactState appends how every cap stands for a person, and what else may
// refuse to reach them.
func AppendContactState(dst []byte, v *engine.ContactView) []byte {
	w := append(writer(dst), '{')
	w.text("user_id", v.UserID)
	w.time("at", int64(v.At))
	w.reach(&v.Reach)
	w.name("caps")
	w.open('[')
	for i := range v.Caps {
		w.counter(&v.Caps[i])
	}
	w.close(']')
	if v.Truncated {
		w.bool("truncated", true)
	}
	objects(&w, "protected", v.Protected, func(p *engine.ProtectedView) {
		w.text("cap_id", p.CapID)
		if p.Until != 0 {
			w.time("protected_until", int64(p.Until)*1000)
		}
	})
	objects(&w, "lost", v.Lost, func(l *engine.LostView) {
		w.time("started_at", int64(l.StartedAt)*1000)
		w.time("expires_at", int64(l.ExpiresAt)*1000)
	})
	w.close('}')
	return w
}

// reach writes the gates before the caps.
func (w *writer) reach(v *engine.ReachView) {
	w.text("timezone", v.Timezone)
	w.userConsents(v.Consents)
	w.texts("blacklist", v.Blacklist)
	w.userLists(v.Listed)
	objects(w, "quiet_hours", v.Quiet, func(q *engine.QuietView) {
		w.text("quiet_hours_id", q.ID)
		w.texts("channels", q.Channels)
		if q.Placements != nil {
			w.texts("placements", q.Placements)
		}
		w.texts("message_classes", q.Classes)
		when := "drop"
		if q.Hold {
			when = "hold"
		}
		w.text("when_hit", when)
		w.text("reason", q.Reason)
		if q.Until != 0 {
			w.time("free_at", int64(q.Until)*1000)
		}
	})
}

func (w *writer) counter(c *engine.CounterView) {
	w.open('{')
	w.text("cap_id", c.CapID)
	w.text("scope", c.Scope)
	w.text("per", c.Per)
	w.text("dimension", c.Dimension)
	w.text("currency", c.Currency)
	w.int("limit", c.Limit)
	w.int("used", c.Used)
	if c.Scope == "total" {
		w.int("spent", c.Spent)
		w.int("held", c.Held)
		if c.Burnt != 0 {
			w.int("burnt", c.Burnt)
		}
	}
	w.capUses("uses", c.Uses)
	w.name("reserved")
	w.open('[')
	for _, h := range c.Reserved {
		w.open('{')
		w.reservation(h.ID.Epoch, h.ID.Number)
		w.text("offer_id", h.OfferID)
		w.time("granted_at", int64(h.GrantedAt)*1000)
		w.time("expires_at", int64(h.ExpiresAt)*1000)
		w.bool("in_window", h.InWindow)
		w.close('}')
	}
	w.close(']')
	w.name("lost")
	w.open('[')
	for _, l := range c.Lost {
		w.open('{')
		w.time("started_at", int64(l.StartedAt)*1000)
		w.time("expires_at", int64(l.ExpiresAt)*1000)
		w.bool("in_window", l.InWindow)
		w.close('}')
	}
	w.close(']')
	if c.KnownSince != 0 {
		w.time("known_since", int64(c.KnownSince)*1000)
	}
	if c.Protected {
		w.bool("protected", true)
		if c.ProtectedUntil != 0 {
			w.time("protected_until", int64(c.ProtectedUntil)*1000)
		}
	}
	w.capUses("rejections", c.Rejections)
	if c.Reason != "" {
		w.text("reason", c.Reason)
		if c.Until != 0 {
			w.time("free_at", int64(c.Until)*1000)
		}
	}
	w.close('}')
}

func (w *writer) capUses(name string, uses []engine.UseView) {
	w.name(name)
	w.open('[')
	for _, u := range uses {
		w.open('{')
		w.time("at", int64(u.At)*1000)
		w.int("count", int64(u.Count))
		w.bool("in_window", u.InWindow)
		if len(u.Decisions) > 0 {
			w.decisionIDs(&u)
		}
		if n := int64(u.Count) - int64(len(u.Decisions)); n > 0 {
			w.int("without_decision", n)
		}
		w.close('}')
	}
	w.close(']')
}

func (w *writer) decisionIDs(u *engine.UseView) {
	w.name("decision_ids")
	w.open('[')
	for i := range u.Decisions {
		w.comma()
		*w = append(*w, '"')
		*w = appendHex(*w, u.Decisions[i][:])
		*w = append(*w, '"')
	}
	w.close(']')
}

// reservation writes the id of a reservation.
func (w *writer) reservation(epoch uint32, number uint64) {
	w.name("id")
	*w = append(*w, '"')
	*w = appendHexNumber(*w, uint64(epoch), 8)
	*w = appendHexNumber(*w, number, 16)
	*w = append(*w, '"')
}
