package bench

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
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
	tagged     bool // every rule is four conditions on tags
	caps       int  // caps on reactions, on the offers of placements below freePlacements
	// reserve: offers of openPlacement and usePlacement hold a contact, so that a live
	// decision there uses a cap.
	reserve bool
	// contact: offers of placements below freePlacements hold a contact. Those of the
	// placements behind have the same rules, values and texts, one by one.
	contact bool
	once    bool // one contact of each offer a year: what is used up stays so
}

// files makes the definitions. The ranking is product with exponents of 1; a
// fallback makes an empty placement an answer.
func (c catalogue) files() []definition.File {
	var b bytes.Buffer
	if c.contact {
		c.twinFiles(&b)
	} else {
		b.Write(synth.Catalogue(synth.CatalogueOptions{
			Offers: c.offers, Placements: max(c.placements, 1),
		})[0].Content)
	}
	if c.refused || c.tagged {
		b.Reset()
		c.schema(&b)
		if c.refused {
			c.refusedOffers(&b)
		} else {
			c.taggedOffers(&b)
		}
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
		fmt.Fprintf(&b, "---\nkind: cap\nid: impressions\nscope: person\nper: offer\n"+
			"applies_to: {offers: {groups: [%s, %s]}}\n"+
			"count_on: impression\nwindow: {rolling: 7d}\nlimit: 60\n",
			placeID(openPlacement), placeID(usePlacement))
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

// twinFiles writes the placements below freePlacements and, behind them, their twins.
func (c catalogue) twinFiles(b *bytes.Buffer) {
	half := c.offers / 2
	all := synth.Catalogue(synth.CatalogueOptions{
		Offers: half, Placements: freePlacements,
	})[0].Content
	b.Write(all)
	_, shown, _ := bytes.Cut(all, []byte("---\nkind: decision_policy"))
	b.WriteString("---\nkind: decision_policy")
	name := regexp.MustCompile(`(id: offer|place|policy)_(\d+)`)
	b.Write(name.ReplaceAllFunc(shown, func(old []byte) []byte {
		at := bytes.LastIndexByte(old, '_') + 1
		n, err := strconv.Atoi(string(old[at:]))
		if err != nil {
			return old
		}
		by := freePlacements
		if old[0] == 'i' {
			by = half
		}
		return strconv.AppendInt(old[:at:at], int64(n+by), 10)
	}))
}

// schema writes the declarations of the Bench shape and placements that show the
// offers of their group, ranked by product.
func (c catalogue) schema(b *bytes.Buffer) {
	all := synth.Catalogue(synth.CatalogueOptions{Offers: 1, Placements: 1})[0].Content
	declared, _, _ := bytes.Cut(all, []byte("---\nkind: decision_policy"))
	b.Write(declared)
	for i := range max(c.placements, 1) {
		fmt.Fprintf(b, "---\nkind: decision_policy\nid: policy_%d\n"+
			"candidates: {offers: {groups: [place_%d]}}\n"+
			"ranking: {by: product, propensity: 1, context: 1, value: 1, lever: 1}\n"+
			"---\nkind: placement\nsticky: none\nid: place_%d\nchannel: web\npolicy: policy_%d\n",
			i, i, i, i)
	}
}

// offer writes offer i with its rule, of a placement.
func (c catalogue) offer(b *bytes.Buffer, i int, rule string) {
	place := i % max(c.placements, 1)
	fmt.Fprintf(b, "---\nkind: offer\nid: offer_%d\ngroup: place_%d\nmessage_class: marketing\n"+
		"eligibility: %s\n"+
		"treatments: [{id: banner, channel: web, placements: [place_%d],"+
		" content: {type: json, body: {n: %d}}}]\n", i, place, rule, place, i)
}

// taggedOffers writes offers whose rules look at four of the tags people hold, a
// combination of their own each.
func (c catalogue) taggedOffers(b *bytes.Buffer) {
	for i := range c.offers {
		tag := func(k int) int { return (i*(2*k+1) + i/synth.BenchTags*(k+3) + 50*k) % synth.BenchTags }
		c.offer(b, i, fmt.Sprintf(
			"{all: [{any: [{tag: tag_%d}, {tag: tag_%d}]}, {not: {tag: tag_%d}}, {not: {tag: tag_%d}}]}",
			tag(0), tag(1), tag(2), tag(3)))
	}
}

// refusedOffers writes offers whose every rule is false for everybody, each by
// another pair of conditions.
func (c catalogue) refusedOffers(b *bytes.Buffer) {
	for i := range 200 {
		fmt.Fprintf(b, "---\nkind: tag\nid: nobody_%d\n", i)
	}
	for i := range c.offers {
		c.offer(b, i, fmt.Sprintf("{all: [{tag: tag_%d}, {tag: nobody_%d}]}",
			i%synth.BenchTags, i/synth.BenchTags%200))
	}
}
