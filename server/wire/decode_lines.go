package wire

import (
	"github.com/zeebo/xxh3"

	"tact/engine"
)

// User reads one line of POST /v1/users into doc, whose capacity is reused.
// doc.Key is left empty: it comes from a header. Everything in doc borrows from
// src and from d.
func (d *Decoder) User(src []byte, doc *engine.UserDoc) *Fault {
	r := &d.r
	r.reset(src)
	resetUser(doc)
	doc.BodyHash = uint32(xxh3.Hash(src))
	d.profile(doc, true)
	if doc.UserID == nil && len(doc.Identities) == 0 {
		r.missing("user_id")
	}
	return r.finish()
}

// resetUser empties doc and keeps its capacity.
func resetUser(doc *engine.UserDoc) {
	*doc = engine.UserDoc{
		Identities: doc.Identities[:0],
		Attributes: doc.Attributes[:0],
		Tags:       doc.Tags[:0],
		Consents:   doc.Consents[:0],
		Addresses:  doc.Addresses[:0],
		Tiers:      doc.Tiers[:0],
	}
}

// profile reads the members of a user; ids says whether the two that name a
// person are among them.
func (d *Decoder) profile(doc *engine.UserDoc, ids bool) {
	r := &d.r
	var o object
	added := false
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "user_id", "identities":
			if !ids {
				r.unknown()
			} else if o.key[0] == 'u' {
				doc.UserID = r.filled()
			} else {
				doc.Identities = r.identities(doc.Identities)
			}
		case "attributes":
			doc.Attributes = r.named(doc.Attributes)
		case "tags", "tags_set":
			if added {
				r.fail(CodeInvalidValue, "tags and tags_set exclude each other")
			}
			added = true
			doc.TagsSet = len(o.key) > len("tags")
			doc.Tags = r.tags(doc.Tags)
		case "tags_remove":
			doc.TagsRemove = r.texts()
		case "tiers":
			doc.Tiers = r.tiers(doc.Tiers)
		case "source":
			doc.Source = r.filled()
		case "consents":
			doc.Consents = r.consents(doc.Consents)
		case "blacklist":
			doc.HasBlacklist = true
			doc.Blacklist = r.texts()
		case "addresses":
			doc.Addresses = r.addresses(doc.Addresses)
		case "timezone":
			doc.HasTimezone = true
			doc.Timezone = r.removable()
		case "locale":
			doc.HasLocale = true
			doc.Locale = r.removable()
		default:
			r.unknown()
		}
	}
}

// removable reads a string that is not empty, or null: no bytes.
func (r *reader) removable() []byte {
	if r.null() {
		return nil
	}
	return r.filled()
}

// tags reads a list of names and {tag, is}.
func (r *reader) tags(dst []engine.TagDoc) []engine.TagDoc {
	r.list()
	for r.element() {
		if r.peek() == '"' {
			dst = append(dst, engine.TagDoc{Name: r.filled()})
			continue
		}
		var tag engine.TagDoc
		var o object
		if c := r.peek(); c != '{' {
			r.wrongType(c, "a string or an object")
			break
		}
		r.object(&o)
		for r.member(&o) {
			switch string(o.key) {
			case "tag":
				tag.Name = r.filled()
			case "is":
				tag.Is = r.filled()
			case "ttl":
				tag.TTL = r.filled()
			case "expires_at":
				setMsec(&tag.ExpiresAt, r.time())
			case "source":
				tag.Source = r.filled()
			default:
				r.unknown()
			}
		}
		if tag.Name == nil {
			r.missing("tag")
		}
		dst = append(dst, tag)
	}
	return dst
}

// tiers reads model → level | null (takes the level away).
func (r *reader) tiers(dst []engine.TierDoc) []engine.TierDoc {
	var o object
	r.object(&o)
	for r.member(&o) {
		dst = append(dst, engine.TierDoc{Tier: o.key, Level: r.removable()})
	}
	return dst
}

func (r *reader) consents(dst []engine.ConsentDoc) []engine.ConsentDoc {
	r.list()
	for r.element() {
		var c engine.ConsentDoc
		var o object
		granted := false
		r.object(&o)
		for r.member(&o) {
			switch string(o.key) {
			case "purpose":
				c.Purpose = r.filled()
			case "channel":
				c.Channel = r.filled()
			case "granted":
				c.Granted, granted = r.boolean(), true
			case "at":
				setMsec(&c.At, r.time())
			case "source":
				c.Source = r.filled()
			case "text_version":
				c.Text = r.filled()
			default:
				r.unknown()
			}
		}
		switch {
		case c.Purpose == nil:
			r.missing("purpose")
		case c.Channel == nil:
			r.missing("channel")
		case !granted:
			r.missing("granted")
		}
		dst = append(dst, c)
	}
	return dst
}

// addresses reads channel → string | list of strings | null (removes them).
func (r *reader) addresses(dst []engine.AddressDoc) []engine.AddressDoc {
	var o object
	r.object(&o)
	for r.member(&o) {
		a := engine.AddressDoc{Channel: o.key}
		switch c := r.peek(); c {
		case 'n':
			r.null()
		case '[':
			a.Values = r.texts()
		case '"':
			base := len(r.lists)
			r.lists = append(r.lists, r.filled())
			a.Values = r.lists[base:len(r.lists):len(r.lists)]
		default:
			r.wrongType(c, "a string, a list of strings or null")
		}
		dst = append(dst, a)
	}
	return dst
}

// Event reads one line of POST /v1/events into doc, whose capacity is reused.
// Everything in doc borrows from src and from d.
func (d *Decoder) Event(src []byte, doc *engine.EventDoc) *Fault {
	d.r.reset(src)
	return d.event(src, doc)
}

// EventBehind is Event that leaves what was read since the last call of another method
// as it is: of a run of lines each document is valid until then.
func (d *Decoder) EventBehind(src []byte, doc *engine.EventDoc) *Fault {
	d.r.follow(src)
	return d.event(src, doc)
}

func (d *Decoder) event(src []byte, doc *engine.EventDoc) *Fault {
	r := &d.r
	*doc = engine.EventDoc{
		Identities: doc.Identities[:0],
		Properties: doc.Properties[:0],
		BodyHash:   uint32(xxh3.Hash(src)),
	}
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "event_id":
			doc.EventID = r.filled()
		case "user_id":
			doc.UserID = r.filled()
		case "identities":
			doc.Identities = r.identities(doc.Identities)
		case "event":
			doc.Event = r.filled()
		case "occurred_at":
			setMsec(&doc.OccurredAt, r.time())
		case "properties":
			r.peek()
			start, spaced := r.pos, r.spaced
			r.spaced = false
			doc.Properties = r.named(doc.Properties)
			doc.Raw = r.compacted(start, spaced)
		default:
			r.unknown()
		}
	}
	switch {
	case doc.Event == nil:
		r.missing("event")
	case doc.UserID == nil && len(doc.Identities) == 0:
		r.missing("user_id")
	}
	return r.finish()
}

// Outcome reads one line of POST /v1/outcomes into doc. Everything in doc
// borrows from src and from d.
func (d *Decoder) Outcome(src []byte, doc *engine.OutcomeDoc) *Fault {
	r := &d.r
	r.reset(src)
	*doc = engine.OutcomeDoc{BodyHash: uint32(xxh3.Hash(src))}
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "event_id":
			doc.EventID = r.filled()
		case "tracking_token":
			doc.Token = r.filled()
		case "decision_id":
			doc.DecisionID = r.filled()
		case "key":
			doc.Placement = r.filled()
		case "offer_id":
			doc.OfferID = r.filled()
		case "outcome":
			doc.Outcome = r.filled()
		case "value":
			doc.Value, doc.HasValue = r.float(), true
		case "occurred_at":
			setMsec(&doc.OccurredAt, r.time())
		default:
			r.unknown()
		}
	}
	switch {
	case doc.Outcome == nil:
		r.missing("outcome")
	case doc.Token == nil && doc.DecisionID == nil:
		r.missing("tracking_token")
	case doc.Token != nil && doc.DecisionID != nil:
		r.failIn("decision_id", CodeInvalidValue,
			"tracking_token and decision_id exclude each other")
	}
	return r.finish()
}
