package synth

import (
	"strconv"
	"time"

	"tact/engine"
)

// AppendUser appends the profile as one line of POST /v1/users, without the
// line feed. It writes what a population holds, which never needs an escape.
func AppendUser(dst []byte, u *engine.UserDoc) []byte {
	dst = appendMember(append(dst, '{'), "user_id", u.UserID)
	dst = append(dst, `,"identities":[`...)
	for i, id := range u.Identities {
		dst = comma(dst, i)
		dst = appendMember(append(dst, '{'), "type", id.Type)
		dst = append(appendMember(append(dst, ','), "value", id.Value), '}')
	}
	dst = append(dst, `],"attributes":`...)
	dst = appendObject(dst, u.Attributes)
	dst = append(dst, `,"tags":[`...)
	for i, t := range u.Tags {
		dst = comma(dst, i)
		if len(t.Is) == 0 {
			dst = appendText(dst, t.Name)
			continue
		}
		dst = appendMember(append(dst, '{'), "tag", t.Name)
		dst = append(appendMember(append(dst, ','), "is", t.Is), '}')
	}
	dst = append(dst, ']')
	dst = appendConsents(dst, u.Consents)
	dst = appendAddresses(dst, u)
	if u.HasTimezone {
		dst = appendMember(append(dst, ','), "timezone", u.Timezone)
	}
	if u.HasLocale {
		dst = appendMember(append(dst, ','), "locale", u.Locale)
	}
	return append(dst, '}')
}

func appendConsents(dst []byte, consents []engine.ConsentDoc) []byte {
	if len(consents) == 0 {
		return dst
	}
	dst = append(dst, `,"consents":[`...)
	for i, c := range consents {
		dst = comma(dst, i)
		dst = appendMember(append(dst, '{'), "purpose", c.Purpose)
		dst = appendMember(append(dst, ','), "channel", c.Channel)
		dst = strconv.AppendBool(append(dst, `,"granted":`...), c.Granted)
		dst = append(dst, `,"at":"`...)
		dst = time.UnixMilli(int64(c.At)).UTC().AppendFormat(dst, time.RFC3339)
		dst = append(appendMember(append(dst, `",`...), "source", c.Source), '}')
	}
	return append(dst, ']')
}

func appendAddresses(dst []byte, u *engine.UserDoc) []byte {
	if u.HasBlacklist {
		dst = appendList(append(dst, `,"blacklist":`...), u.Blacklist)
	}
	if len(u.Addresses) == 0 {
		return dst
	}
	dst = append(dst, `,"addresses":{`...)
	for i, a := range u.Addresses {
		dst = append(appendText(comma(dst, i), a.Channel), ':')
		dst = appendList(dst, a.Values)
	}
	return append(dst, '}')
}

// AppendEvent appends the event as one line of POST /v1/events, without the
// line feed.
func AppendEvent(dst []byte, e *engine.EventDoc) []byte {
	dst = appendMember(append(dst, '{'), "event_id", e.EventID)
	dst = appendMember(append(dst, ','), "user_id", e.UserID)
	dst = appendMember(append(dst, ','), "event", e.Event)
	dst = append(dst, `,"occurred_at":"`...)
	dst = time.UnixMilli(int64(e.OccurredAt)).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = append(dst, `","properties":`...)
	return append(append(dst, e.Raw...), '}')
}

func appendObject(dst []byte, members []engine.NamedValue) []byte {
	dst = append(dst, '{')
	for i, m := range members {
		dst = append(appendText(comma(dst, i), m.Name), ':')
		switch m.Value.Kind {
		case engine.RawBool:
			dst = strconv.AppendBool(dst, m.Value.Bool)
		case engine.RawNumber:
			dst = append(dst, m.Value.Text...)
		case engine.RawList:
			dst = appendList(dst, m.Value.List)
		default:
			dst = appendText(dst, m.Value.Text)
		}
	}
	return append(dst, '}')
}

func appendList(dst []byte, list [][]byte) []byte {
	dst = append(dst, '[')
	for i, text := range list {
		dst = appendText(comma(dst, i), text)
	}
	return append(dst, ']')
}

func appendMember(dst []byte, name string, text []byte) []byte {
	dst = append(append(append(dst, '"'), name...), `":`...)
	return appendText(dst, text)
}

func appendText(dst, text []byte) []byte {
	return append(append(append(dst, '"'), text...), '"')
}

func comma(dst []byte, i int) []byte {
	if i == 0 {
		return dst
	}
	return append(dst, ',')
}
