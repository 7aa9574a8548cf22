package definition

import (
	"slices"
	"strings"
	"testing"
)

// unsupported holds a document for everything that is known but not supported
// yet, with the fault that names it. The schema refuses each of them too.
func unsupported() []struct{ text, want string } {
	const policy = "kind: decision_policy\nid: p\n"
	const experiment = "kind: experiment\nid: e\nlayer: l\nrange: [0%, 1%]\n" +
		"variants: [{id: v, weight: 1}]\n"
	const attribute = "kind: attribute\nid: a\ntype: string\n"
	list := []struct{ text, want string }{
		{
			"kind: invariant\nid: a\n",
			"f.yaml:1:7: kind: kind invariant is not supported yet",
		},
		{
			"kind: placement\nid: p\nchannel: sms\npolicy: q\nsticky: hold\n",
			"f.yaml:5:9: placement/p: sticky: sticky: hold is for page channels: a message that " +
				"was sent is not sent again without a use of its own",
		},
		{
			"kind: placement\nid: p\nchannel: staff\npolicy: q\n",
			"f.yaml:3:10: placement/p: channel: channel staff is reserved and is not supported yet",
		},
		{
			policy + "ranking: {by: formula, formula: value}\n",
			"f.yaml:3:15: decision_policy/p: ranking.by: by: formula is not supported yet",
		},
		{
			policy + "exploration: 5%\n",
			"f.yaml:3:14: decision_policy/p: exploration: exploration other than 0% is not " +
				"supported yet",
		},
		{
			policy + "ranking: {by: product, value: 4.5}\n",
			"f.yaml:3:31: decision_policy/p: ranking.value: an exponent outside 0 to 4 is not " +
				"supported yet",
		},
		{
			policy + "ranking: {by: product, lever: -1}\n",
			"f.yaml:3:31: decision_policy/p: ranking.lever: an exponent outside 0 to 4 is not " +
				"supported yet",
		},
		{
			experiment + "unit: device\n",
			"f.yaml:6:7: experiment/e: unit: unit: device is not supported yet",
		},
		{
			"kind: offer\nid: o\nmessage_class: marketing\n" +
				"treatments: [{id: t, channel: web, content: {type: mjml, body: a}}]\n",
			`f.yaml:4:52: offer/o: treatments[0].content.type: content type "mjml" is not ` +
				"supported yet: json, text, html are",
		},
	}
	for _, rule := range []string{"oldest", "min", "max", "union", "source:[crm, app]"} {
		list = append(list, struct{ text, want string }{
			attribute + "conflict: " + rule + "\n",
			"f.yaml:4:11: attribute/a: conflict: conflict: " + rule + " is not supported yet",
		})
	}
	for _, kind := range []string{
		"metric", "survey", "ticket_policy", "coupon", "programme", "journey", "campaign",
		"item", "relation", "alert", "report",
	} {
		list = append(list, struct{ text, want string }{
			"kind: " + kind + "\nid: a\n",
			"f.yaml:1:7: kind: kind " + kind + " is reserved and is not supported yet",
		})
	}
	return list
}

// What is known but not supported yet is refused by name, as the only fault of
// its document besides references to documents that are not there.
func TestUnsupportedIsRefusedByName(t *testing.T) {
	for _, c := range unsupported() {
		got := slices.DeleteFunc(wrong(c.text), func(fault string) bool {
			return strings.Contains(fault, ": there is no ")
		})
		if !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}
