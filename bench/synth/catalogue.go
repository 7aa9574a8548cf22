package synth

import (
	"bytes"
	"fmt"

	"tact/engine/definition"
)

// CatalogueOptions size the definitions of the Bench shape. The zero value is
// the shape the speed figures ask for.
type CatalogueOptions struct {
	Offers     int  // live offers, default 1,000
	Placements int  // default 16; offer i stands on placement i mod Placements
	Caps       bool // ten caps apply to each offer, see Catalogue
}

// CapPlacement is the placement whose offers alone use a cap at a decision.
const CapPlacement = "place_0"

// Catalogue makes definitions for people of the Bench shape: product ranking
// with exponents of 1, rules of four atoms out of 400 (one page of bits), a
// rendered message for each offer.
//
// With Caps, nine caps that count reactions are judged for every offer, and a
// tenth, which counts impressions, for the offers of CapPlacement: a decision
// there holds a reservation, a decision elsewhere holds none.
func Catalogue(o CatalogueOptions) []definition.File {
	if o.Offers == 0 {
		o.Offers = 1000
	}
	if o.Placements == 0 {
		o.Placements = 16
	}
	var b bytes.Buffer
	b.WriteString("kind: workspace\nid: default\ntimezone: Asia/Shanghai\n")
	catalogueSchema(&b)
	for i := range o.Placements {
		fmt.Fprintf(&b, "---\nkind: decision_policy\nid: policy_%d\n"+
			"candidates: {offers: {groups: [place_%d]}}\n"+
			"ranking: {by: product, propensity: 1, context: 1, value: 1, lever: 1}\n", i, i)
		fmt.Fprintf(&b, "---\nkind: placement\nid: place_%d\nchannel: web\npolicy: policy_%d\n",
			i, i)
	}
	d := newDraw(1, 0, drawBench)
	for i := range o.Offers {
		catalogueOffer(&b, &d, i, i%o.Placements)
	}
	if o.Caps {
		catalogueCaps(&b)
	}
	return []definition.File{{Name: "catalogue.yaml", Content: b.Bytes()}}
}

func catalogueSchema(b *bytes.Buffer) {
	attribute := func(kind, of string, n int) {
		for i := range n {
			fmt.Fprintf(b, "---\nkind: attribute\nid: %s\ntype: %s\n", benchName(kind, i), of)
		}
	}
	attribute("text", "string", benchText)
	attribute("int", "int", benchInts)
	attribute("float", "float", benchFloats)
	attribute("bool", "bool", benchBools)
	for i := range BenchTags {
		fmt.Fprintf(b, "---\nkind: tag\nid: %s\n", benchName("tag", i))
	}
	for i := range 8 {
		fmt.Fprintf(b, "---\nkind: event\nid: %s\n"+
			"properties: {amount: {type: float, indexed: true}}\n", benchName("event", i))
	}
}

// catalogueOffer writes offer i. Its rule holds for about a third of the
// people: one of two tags or a number above a bound, and none of a third tag.
func catalogueOffer(b *bytes.Buffer, d *draw, i, placement int) {
	fmt.Fprintf(b, "---\nkind: offer\nid: offer_%d\ngroup: place_%d\nmessage_class: marketing\n",
		i, placement)
	fmt.Fprintf(b, "value: %d\nlever: 1.%d\npropensity: {attribute: %s}\n",
		1+d.below(50), d.below(10), benchName("float", d.below(benchFloats)))
	fmt.Fprintf(b, "eligibility: {any: [{tag: %s}, {tag: %s}, {attribute: %s, gte: %d}]}\n",
		benchName("tag", d.below(BenchTags)), benchName("tag", d.below(BenchTags)),
		benchName("int", d.below(benchInts)), 600+d.below(25)*16)
	fmt.Fprintf(b, "suitability: {not: {tag: %s}}\n", benchName("tag", d.below(BenchTags)))
	fmt.Fprintf(b, "treatments:\n  - id: banner\n    channel: web\n    placements: [place_%d]\n"+
		"    content:\n      type: json\n      body: {title: \"{{ user.text_0 | default: 'you' }},"+
		" offer %d\", link: \"/offer/%d?u={{ user.id | url_encode }}\"}\n", placement, i, i)
}

func catalogueCaps(b *bytes.Buffer) {
	for i, per := range []string{
		"all", "offer", "offer_group", "channel", "placement", "all", "offer", "offer_group",
		"placement",
	} {
		on := []string{"click", "convert", "dismiss"}[i%3]
		fmt.Fprintf(b, "---\nkind: cap\nid: reactions_%d\nscope: person\nper: %s\n"+
			"count_on: %s\nwindow: {rolling: %dd}\nlimit: %d\n", i, per, on, 1+i, 20+i)
	}
	fmt.Fprintf(b, "---\nkind: cap\nid: impressions\nscope: person\nper: offer\n"+
		"applies_to: {offers: {groups: [%s]}}\n"+
		"count_on: impression\nwindow: {rolling: 7d}\nlimit: 60\n", CapPlacement)
}
