package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"tact/engine/definition"
	"tact/storage"
)

// Consents come in any order, from several sources, again, and as imports of long ago:
// the history that is read back and exported is what came, by time, with source and text
// version; what is in force, in contact-state and in a decision, is the newest of each
// purpose and channel, of two of one time the withdrawal, and it never leaves a history
// that is full. A plain list is beside it, and a start in between.
func TestConsentHistory(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { playConsents(t, seed) })
	}
}

func playConsents(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 41))
	b := newBed(t, `
kind: workspace
id: default
timezone: UTC
---
{kind: placement, id: text, channel: sms, policy: p}
---
{kind: decision_policy, id: p}
---
kind: offer
id: news
group: g
purpose: marketing
message_class: marketing
treatments: [{id: s, channel: sms, content: {type: text, body: x}}]
`)
	b.reachable("ann")
	const base = 1_780_000_000_000
	span := pick(r, 4, 12, 40)
	var all []ConsentView // by time, then as they came
	for i := range 10 + r.IntN(60) {
		c := ConsentView{
			Purpose: pick(r, "marketing", "research"), Channel: pick(r, "sms", "push"),
			Granted: r.IntN(2) == 0, At: base + storage.UnixMsec(r.IntN(span))*1000,
			Source: pick(r, "app", "crm", ""), Text: pick(r, "v1", "v2", ""),
		}
		if i == 0 { // the only one of its kind, and the oldest
			c.Purpose, c.Channel, c.At = "marketing", "email", base-1
		}
		b.user(UserDoc{UserID: []byte("ann"), Consents: []ConsentDoc{{
			Purpose: []byte(c.Purpose), Channel: []byte(c.Channel), Source: []byte(c.Source),
			Text: []byte(c.Text), Granted: c.Granted, At: c.At,
		}}})
		all = keepConsent(all, c)
		if r.IntN(8) == 0 {
			b.reopen()
		}
		checkConsents(t, b, all)
	}
}

// keepConsent adds an entry to a history, unless it is there; of more than 32 the oldest
// that are not in force leave.
func keepConsent(all []ConsentView, c ConsentView) []ConsentView {
	for _, o := range all {
		if o.Source = c.Source; o == c {
			return all
		}
	}
	all = append(all, c)
	slices.SortStableFunc(all, func(a, b ConsentView) int { return int(a.At - b.At) })
	for i := 0; i < len(all) && len(all) > 32; {
		if holds := inForce(all, all[i].Purpose, all[i].Channel); holds.At == all[i].At &&
			holds.Granted == all[i].Granted {
			i++
			continue
		}
		all = slices.Delete(all, i, i+1)
	}
	return all
}

// inForce is what holds of a history for a purpose on a channel.
func inForce(all []ConsentView, purpose, channel string) (in ConsentView) {
	for _, c := range all {
		if c.Purpose == purpose && c.Channel == channel &&
			(c.At > in.At || c.At == in.At && !c.Granted) {
			in = c
		}
	}
	return in
}

func checkConsents(t *testing.T, b *bed, all []ConsentView) {
	t.Helper()
	u, err := b.e.User([]byte("ann"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(u.Consents, all) {
		t.Fatalf("history\n got %+v\nwant %+v", u.Consents, all)
	}
	state, err := b.e.ContactState([]byte("ann"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, purpose := range []string{"marketing", "research"} {
		for ch := range definition.ChannelCount {
			want := inForce(all, purpose, ch.String())
			i := slices.IndexFunc(state.Reach.Consents, func(c ConsentView) bool {
				return c.Purpose == purpose && c.Channel == ch.String()
			})
			switch {
			case i < 0 && want.At != 0:
				t.Fatalf("contact-state has no %+v", want)
			case i >= 0:
				got := state.Reach.Consents[i]
				if got.At != want.At || got.Granted != want.Granted {
					t.Fatalf("contact-state: %+v, want %+v", got, want)
				}
			}
		}
	}
	want := "none: consent_missing"
	if inForce(all, "marketing", "sms").Granted {
		want = "news"
	}
	b.want(b.decideReq("ann", "text"), want)
}
