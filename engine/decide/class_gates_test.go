package decide

import (
	"fmt"
	"strings"
	"testing"

	"tact/engine/definition"
)

// classWorld is one offer of each message class on a page and by sms; %s: of the
// workspace, of every offer, and documents more.
const classWorld = `
kind: workspace
id: default
timezone: UTC
consent_required: [sms]
%s
---
{kind: tag, id: vip}
---
{kind: placement, id: page, channel: web, policy: all}
---
{kind: placement, id: text, channel: sms, policy: all}
---
{kind: decision_policy, id: all, candidates: {offers: all}, ranking: {by: order, offers: [m]}}
%s`

const classOffer = `
---
kind: offer
id: %s
message_class: %s
purpose: news
%s
treatments:
  - {id: web, channel: web, content: {type: text, body: a}}
  - {id: sms, channel: sms, content: {type: text, body: a}}
`

// classCase is what a gate is shown.
type classCase struct {
	workspace, offer, more string // definitions
	facts                  string // of the person, one a line
	text                   bool   // by sms, not on the page
	listed                 bool   // on a suppression list
	before                 string // "decide": given once before; "dismiss": and dismissed
}

// TestGatesByClass goes through the table of docs/decision.md cell by cell: which
// gate binds which message class.
func TestGatesByClass(t *testing.T) {
	const (
		reached = "consent news sms yes\naddress sms\n"
		capped  = "---\n{kind: cap, id: c, scope: person, per: offer, count_on: decision, "
		noon    = "windows: [{from: \"12:00\", until: \"13:00\"}]"
		quiet   = "quiet_hours: {channels: [sms], " + noon + "}"
		dismiss = "---\n{kind: cap, id: c, scope: person, per: offer, count_on: decision, " +
			"window: {rolling: 1d}, limit: 9, suppress: {after: 1, of: dismiss, for: 30d}"
	)
	f := func(gate string, c classCase, marketing, transactional, mandatory string) {
		t.Helper()
		for class, want := range []string{marketing, transactional, mandatory} {
			if got := c.reason(t, definition.MessageClass(class)); got != want {
				t.Errorf("%s, %v: %q, want %q", gate, definition.MessageClass(class), got, want)
			}
		}
	}
	all := func(gate string, c classCase, want string) { t.Helper(); f(gate, c, want, want, want) }

	all("nothing on a page", classCase{}, "")
	all("nothing by sms", classCase{text: true, facts: reached}, "")
	all("dates", classCase{offer: `start: "2027-01-01T00:00:00Z"`}, "not_started")
	all("eligibility", classCase{offer: "eligibility: {tag: vip}"}, "ineligible")
	all("applicability", classCase{offer: "applicability: {tag: vip}"}, "not_applicable")
	all("suitability", classCase{offer: "suitability: {tag: vip}"}, "not_suitable")
	all("no address", classCase{text: true, facts: "consent news sms yes\n"}, "no_treatment")

	const holdout = "---\n{kind: holdout, id: h, range: [0%, 100%], covers: {offers: all}, " +
		"classes: [marketing]}\n"
	f("holdout", classCase{more: holdout}, "holdout", "", "")

	f("no consent by sms", classCase{text: true, facts: "address sms\n"}, "consent_missing", "", "")
	f("no consent on a page", classCase{}, "", "", "")
	withdrawn := "consent news sms no\nconsent news web no\naddress sms\n"
	f("consent withdrawn by sms", classCase{text: true, facts: withdrawn},
		"consent_missing", "consent_missing", "")
	f("consent withdrawn on a page", classCase{facts: withdrawn},
		"consent_missing", "consent_missing", "")

	f("blacklist by sms", classCase{text: true, facts: reached + "blacklist sms\n"},
		"blacklisted", "blacklisted", "")
	f("blacklist on a page", classCase{facts: "blacklist web\n"}, "blacklisted", "blacklisted", "")
	f("suppression list", classCase{text: true, facts: reached, listed: true},
		"blacklisted", "blacklisted", "")
	f("blacklist before caps", classCase{
		text: true, facts: reached + "blacklist sms\n",
		more: capped + "window: lifetime, limit: 0}\n",
	}, "blacklisted", "blacklisted", "capped_user")
	f("blacklist before quiet hours", classCase{
		text: true, facts: reached + "blacklist sms\n", workspace: quiet,
	}, "blacklisted", "blacklisted", "")

	f("quiet hours", classCase{text: true, facts: reached, workspace: quiet}, "quiet_hours", "", "")
	f("quiet hours elsewhere", classCase{workspace: quiet}, "", "", "")
	f("quiet hours of classes", classCase{
		text: true, facts: reached,
		workspace: strings.Replace(quiet, "{", "{classes: [marketing, transactional], ", 1),
	}, "quiet_hours", "quiet_hours", "")
	f("quiet hours of a document", classCase{more: "---\n{kind: quiet_hours, id: q, applies_to: " +
		"{channels: [web], message_classes: [transactional]}, " + noon + "}\n"}, "", "quiet_hours", "")

	f("suppression", classCase{more: dismiss + "}\n", before: "dismiss"}, "suppressed", "", "")
	f("suppression of classes", classCase{
		more: dismiss + "}\n", before: "dismiss",
		workspace: strings.Replace(quiet, "{", "{classes: [marketing, transactional], ", 1),
	}, "suppressed", "suppressed", "")
	f("suppression but for the exempt", classCase{
		more: dismiss + ", exempt: [marketing]}\n", before: "dismiss",
	}, "", "", "")

	once := capped + "window: {rolling: 1d}, limit: 1"
	all("a cap", classCase{more: once + "}\n", before: "decide"}, "capped_user")
	f("a cap, mandatory exempt", classCase{more: once + ", exempt: [mandatory]}\n", before: "decide"},
		"capped_user", "capped_user", "")
	f("a cap, all but marketing exempt", classCase{
		more: once + ", exempt: [transactional, mandatory]}\n", before: "decide",
	}, "capped_user", "", "")
	f("a cap of one class", classCase{
		more:   once + ", applies_to: {message_classes: [transactional]}}\n",
		before: "decide",
	}, "", "capped_user", "")
	gap := capped + "window: {rolling: 1d}, limit: 9, min_gap: 4h"
	all("a gap", classCase{more: gap + "}\n", before: "decide"}, "min_gap")
	f("a gap, transactional exempt", classCase{
		more: gap + ", exempt: [transactional]}\n", before: "decide",
	}, "min_gap", "", "min_gap")
}

// A transactional message is held out only where its offer says so, and a mandatory
// one never is.
func TestHoldoutOfTransactional(t *testing.T) {
	const holdout = "---\n{kind: holdout, id: h, range: [0%, 100%], covers: {offers: all}, " +
		"classes: [marketing, transactional]}\n"
	c := classCase{more: holdout, offer: "holdout: true"}
	if got := c.reason(t, definition.Transactional); got != "holdout" {
		t.Errorf("with holdout: true: %q", got)
	}
	c.offer = ""
	if got := c.reason(t, definition.Transactional); got != "" {
		t.Errorf("without: %q", got)
	}
}

// reason is why the offer of a class is refused; "" = it is given.
func (c *classCase) reason(t *testing.T, class definition.MessageClass) string {
	t.Helper()
	s := &script{world: newWorld(t)}
	text := fmt.Sprintf(classWorld, c.workspace, c.more) +
		fmt.Sprintf(classOffer, "m", class, c.offer)
	if faults := s.publish(text, scriptTime(t, "00:00")); faults != "" {
		t.Fatalf("%s\n%s", faults, text)
	}
	_, args := parseCommand("user ann zone=UTC")
	s.user(t, &command{name: "user", args: args, input: c.facts})
	id := "page"
	if c.text {
		id = "text"
		if c.listed {
			s.listed = 1 << definition.ChannelSMS
		}
	}
	placement, _ := s.plan.PlacementByID([]byte(id))
	req := &Request{
		Slots: []SlotRequest{{Placement: placement, Policy: -1}}, Explain: true,
		Words: make([]uint64, s.plan.Program.RequestWords),
	}
	now := scriptTime(t, "12:30")
	if c.before != "" {
		s.pick(req, "ann", now, nil, true)
	}
	if c.before == "dismiss" {
		s.react(0, definition.CountDismiss, now, &facts{})
	}
	return s.pick(req, "ann", now, nil, false).Trace[0].Reason.String()
}
