package bench

import (
	"bytes"
	"fmt"
	"strings"

	"tact/bench/synth"
	"tact/engine/definition"
)

// catalogue says what a workload publishes: the definitions of the Bench shape
// with offers over placements, and placements of their own for special cases.
type catalogue struct {
	offers     int
	placements int  // of the offers; 1 puts them all on place_0
	refused    bool // every rule asks for a tag nobody holds
	caps       int  // caps on reactions, on the offers of placements below freePlacements
	reserve    bool // offers of place_0 hold a contact: a live decision there uses a cap
	contact    bool // offers of placements below freePlacements hold a contact
	once       bool // one contact of each offer a year: what is used up stays so
}

// files makes the definitions. The ranking is product with exponents of 1; a
// fallback makes an empty placement an answer.
func (c catalogue) files() []definition.File {
	var b bytes.Buffer
	b.Write(synth.Catalogue(synth.CatalogueOptions{
		Offers: c.offers, Placements: max(c.placements, 1),
	})[0].Content)
	if c.refused {
		b.Reset()
		c.refusedFiles(&b)
	}
	reactions := [...]string{"click", "convert", "dismiss"}
	per := [...]string{"all", "offer", "offer_group", "channel", "placement"}
	for i := range c.caps {
		fmt.Fprintf(&b, "---\nkind: cap\nid: reactions_%d\nscope: person\nper: %s\n"+
			"applies_to: {offers: {groups: [%s]}}\n"+
			"count_on: %s\nwindow: {rolling: %dd}\nlimit: %d\n",
			i, per[i%len(per)], cappedGroups(), reactions[i%len(reactions)], 1+i, 20+i)
	}
	if c.reserve {
		b.WriteString("---\nkind: cap\nid: impressions\nscope: person\nper: offer\n" +
			"applies_to: {offers: {groups: [place_0]}}\n" +
			"count_on: impression\nwindow: {rolling: 7d}\nlimit: 60\n")
	}
	if c.contact {
		fmt.Fprintf(&b, "---\nkind: cap\nid: contacts\nscope: person\nper: offer\n"+
			"applies_to: {offers: {groups: [%s]}}\n"+
			"count_on: impression\nwindow: {rolling: 7d}\nlimit: 60\n", cappedGroups())
	}
	if c.once {
		b.WriteString("---\nkind: cap\nid: once\nscope: person\nper: all\n" +
			"count_on: decision\nwindow: {rolling: 365d}\nlimit: 1\n")
	}
	return []definition.File{{Name: "catalogue.yaml", Content: b.Bytes()}}
}

// freePlacements is the first placement whose offers no cap applies to.
const freePlacements = 8

func cappedGroups() string {
	list := make([]string, freePlacements)
	for i := range list {
		list[i] = fmt.Sprintf("place_%d", i)
	}
	return strings.Join(list, ", ")
}

// refusedFiles writes offers of one placement whose every rule is false for
// everybody, each by another pair of conditions.
func (c catalogue) refusedFiles(b *bytes.Buffer) {
	all := synth.Catalogue(synth.CatalogueOptions{Offers: 1, Placements: 1})[0].Content
	schema, _, _ := bytes.Cut(all, []byte("---\nkind: decision_policy"))
	b.Write(schema)
	b.WriteString("---\nkind: decision_policy\nid: policy_0\n" +
		"candidates: {offers: {groups: [place_0]}}\n" +
		"ranking: {by: product, propensity: 1, context: 1, value: 1, lever: 1}\n" +
		"---\nkind: placement\nsticky: none\nid: place_0\nchannel: web\npolicy: policy_0\n")
	for i := range 200 {
		fmt.Fprintf(b, "---\nkind: tag\nid: nobody_%d\n", i)
	}
	for i := range c.offers {
		fmt.Fprintf(b, "---\nkind: offer\nid: offer_%d\ngroup: place_0\nmessage_class: marketing\n"+
			"eligibility: {all: [{tag: tag_%d}, {tag: nobody_%d}]}\n"+
			"treatments: [{id: banner, channel: web, placements: [place_0],"+
			" content: {type: json, body: {n: %d}}}]\n",
			i, i%synth.BenchTags, i/synth.BenchTags%200, i)
	}
}
