package experiment

import (
	"fmt"
	"math"
	"slices"

	"tact/engine/definition"
)

// MaxVariants bounds the arms of an experiment: with more, an even split would
// leave an arm less than half a percent of the units.
const MaxVariants = 200

// Identity is what an experiment or a holdout keeps from its creation on,
// whatever its definition says later. Changing a salt draws everybody anew.
type Identity struct {
	ID        uint32   // the number that Experiment.ID or Holdout.ID gets
	Salt      string   // fixed at creation, by default the document's id; never empty
	LayerSalt string   // of the layer, by default its id; "" = a layer of its own
	Variants  []uint32 // numbers of the variants, in the order of the definition; nil = positions
}

// Compile turns a checked definition into what Assign reads. Faults name the
// fields of the document; with a fault the experiment is nil.
//
// Weights are relative: they are scaled to 10,000 buckets by the method of the
// largest remainder (every arm gets the whole part of its exact share, the
// buckets left over go one each to the largest remainders, the earlier arm
// first among equals), so the arms fill the buckets exactly and each is within
// one bucket of its share. A weight of 0 gives an empty arm. A positive weight
// too small for one bucket is a fault, because such an arm would be silently
// empty.
//
// Changing weights moves units between arms; changing the coverage does not.
// Cost: O(variants · log variants), at publish.
func Compile(def *definition.Experiment, who Identity) (*Experiment, []definition.Fault) {
	faults := checkExperiment(def, who)
	shares, more := splitWeights(def)
	faults = append(faults, more...)
	if len(faults) > 0 {
		return nil, faults
	}
	e := &Experiment{
		ID:          who.ID,
		LayerSeed:   Seed(domainOwnLayer + who.Salt),
		GateSeed:    Seed(domainGate + who.Salt),
		VariantSeed: Seed(domainVariant + who.Salt),
		From:        uint32(def.Range.From),
		Until:       uint32(def.Range.Until),
		Coverage:    uint32(def.Coverage),
		Variants:    make([]Variant, len(def.Variants)),
	}
	if who.LayerSalt != "" {
		e.LayerSeed = Seed(domainLayer + who.LayerSalt)
	}
	var start uint32
	for i := range e.Variants {
		e.Variants[i] = Variant{ID: uint32(i), From: start, Until: start + shares[i]}
		if who.Variants != nil {
			e.Variants[i].ID = who.Variants[i]
		}
		start += shares[i]
	}
	return e, nil
}

// CompileHoldout turns a checked definition into what Holds reads. An empty
// range is allowed: a holdout of 0 % holds nobody.
func CompileHoldout(def *definition.Holdout, who Identity) (*Holdout, []definition.Fault) {
	faults := checkRange(&def.Meta, def.Range, true)
	if who.Salt == "" {
		faults = append(faults, fault(&def.Meta, "id", "a holdout needs a salt"))
	}
	if def.EndMs != 0 && def.EndMs <= def.StartMs {
		faults = append(faults, fault(&def.Meta, "end", "the end must be after the start"))
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return &Holdout{
		ID:      who.ID,
		Seed:    Seed(domainHoldout + who.Salt),
		From:    uint32(def.Range.From),
		Until:   uint32(def.Range.Until),
		StartMs: def.StartMs,
		EndMs:   def.EndMs,
	}, nil
}

// checkExperiment gathers the faults of everything but the weights.
func checkExperiment(def *definition.Experiment, who Identity) []definition.Fault {
	faults := checkRange(&def.Meta, def.Range, false)
	if who.Salt == "" {
		faults = append(faults, fault(&def.Meta, "id", "an experiment needs a salt"))
	}
	if who.Variants != nil && len(who.Variants) != len(def.Variants) {
		faults = append(faults, fault(&def.Meta, "variants",
			fmt.Sprintf("%d numbers for %d variants", len(who.Variants), len(def.Variants))))
	}
	if def.Coverage < 0 || def.Coverage > Buckets {
		faults = append(faults, fault(&def.Meta, "coverage", "must lie between 0% and 100%"))
	}
	return faults
}

// checkRange wants [from, until) inside 0 … 10000, not empty unless empty is allowed.
func checkRange(meta *definition.Meta, r definition.Range, empty bool) []definition.Fault {
	if r.From < 0 || r.Until > Buckets || r.From > r.Until {
		return []definition.Fault{fault(meta, "range", "must rise and lie between 0% and 100%")}
	}
	if r.From == r.Until && !empty {
		return []definition.Fault{fault(meta, "range", "is empty: nobody could take part")}
	}
	return nil
}

// splitWeights gives each variant its number of buckets.
func splitWeights(def *definition.Experiment) ([]uint32, []definition.Fault) {
	n := len(def.Variants)
	if n == 0 || n > MaxVariants {
		return nil, []definition.Fault{fault(&def.Meta, "variants",
			fmt.Sprintf("needs 1 to %d variants, has %d", MaxVariants, n))}
	}
	var faults []definition.Fault
	var largest, sum float64
	for i := range def.Variants {
		w := def.Variants[i].Weight
		if math.IsNaN(w) || math.IsInf(w, 0) || w < 0 {
			faults = append(faults, weightFault(def, i, "must be a finite number of 0 or more"))
		}
		largest = max(largest, w)
	}
	if len(faults) == 0 && largest == 0 {
		faults = append(faults, fault(&def.Meta, "variants", "one weight must be above 0"))
	}
	if len(faults) > 0 {
		return nil, faults
	}
	// Divided by the largest weight first, so that huge weights cannot overflow the sum.
	for i := range def.Variants {
		sum += def.Variants[i].Weight / largest
	}
	exact := make([]float64, n)
	for i := range def.Variants {
		exact[i] = def.Variants[i].Weight / largest / sum * Buckets
	}
	shares := largestRemainder(exact)
	for i := range shares {
		if shares[i] == 0 && def.Variants[i].Weight > 0 {
			faults = append(faults, weightFault(def, i, "is less than 0.01% of all: nobody gets it"))
		}
	}
	return shares, faults
}

// largestRemainder rounds exact shares that sum to 10,000 (but for rounding
// errors far below one) to whole ones that sum to it exactly. A share of 0
// stays 0.
func largestRemainder(exact []float64) []uint32 {
	shares := make([]uint32, len(exact))
	order := make([]int, 0, len(exact))
	left := Buckets
	for i, x := range exact {
		// A share such as 2999.9999999999995 is 3000 but for the rounding of the division.
		whole := math.Floor(x + 1e-7)
		shares[i] = uint32(whole)
		left -= int(whole)
		if x > 0 {
			order = append(order, i)
		}
	}
	remainder := func(i int) float64 {
		r := exact[i] - float64(shares[i])
		return math.Round(r*1e7) / 1e7 // equal weights must compare equal
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch ra, rb := remainder(a), remainder(b); {
		case ra > rb:
			return -1
		case ra < rb:
			return 1
		}
		return 0
	})
	for k := 0; left > 0; k++ {
		shares[order[k%len(order)]]++
		left--
	}
	return shares
}

func weightFault(def *definition.Experiment, i int, message string) definition.Fault {
	f := fault(&def.Meta, fmt.Sprintf("variants[%d].weight", i), message)
	if def.Variants[i].Pos.Line > 0 {
		f.Pos = def.Variants[i].Pos
	}
	return f
}

func fault(meta *definition.Meta, field, message string) definition.Fault {
	f := definition.Fault{Pos: meta.Pos, Field: field, Message: message}
	if meta.Kind != "" && meta.ID != "" {
		f.Doc = meta.Kind + "/" + meta.ID
	}
	return f
}
