// Package experiment assigns people to experiments, variants and holdouts.
//
// A person is never stored as a member: whether somebody is in, and which
// variant they get, is a pure function of the unit's bytes (the canonical id
// of a person, a device, a context value) and of salts fixed at creation.
//
// The scheme is "tact v1". Its numbers are stored in reports and compared over
// years, so it never changes; another scheme would get another name:
//
//	seed   = xxh3_64(salt)
//	hash   = xxh3_64(unit, seed)
//	bucket = (hash >> 32) * 10000 >> 32          0 … 9999, a hundredth of a percent each
//
// Laws, each with a test of the same name:
//  1. Uniform: the buckets of any set of ids under any salt are evenly filled.
//  2. Independent: layer, gate, variant and holdout hash with salts of
//     different domains ("tact/v1/gate/…"), and two experiments with different
//     salts, so that one draw says nothing about another.
//  3. Monotone: raising the coverage only adds units; nobody changes variant.
//  4. Exclusive: two experiments in disjoint ranges of one layer share no unit.
//  5. Exact: the variants of an experiment split all 10,000 buckets, each
//     within one bucket of its share.
//
// Everything here is immutable after Compile and may be read by any number of
// goroutines. Assign costs at most three hashes of the unit (about 6 ns each
// for a short id) and a walk over the variants; it allocates nothing.
package experiment

import "github.com/zeebo/xxh3"

// Buckets is the number of buckets of every draw: a hundredth of a percent is
// the finest share a definition can name.
const Buckets = 10000

// The domains of the salts. They are part of the scheme and never change.
const (
	domainLayer    = "tact/v1/layer/"
	domainOwnLayer = "tact/v1/own-layer/"
	domainGate     = "tact/v1/gate/"
	domainVariant  = "tact/v1/variant/"
	domainHoldout  = "tact/v1/holdout/"
)

// Seed turns a salt into the seed that Bucket takes: xxh3_64 of its bytes with
// seed 0. Cost: one hash, no allocation.
func Seed(salt string) uint64 {
	return xxh3.HashString(salt)
}

// Bucket draws the bucket of a unit: xxh3_64(unit, seed), of which the high 32
// bits are scaled to 0 … 9999 by multiplication (no modulo bias beyond
// 10000/2^32, that is 2 in a million of one bucket). An empty unit has a bucket
// too; whether an empty unit may take part is the caller's question.
//
// Source: D. Lemire, Fast Random Integer Generation in an Interval, TOMACS 29
// (2019), for the multiplication; xxHash's XXH3_64bits_withSeed for the hash.
// Cost: one hash, no allocation.
func Bucket(seed uint64, unit []byte) uint32 {
	return uint32((xxh3.HashSeed(unit, seed) >> 32) * Buckets >> 32)
}

// Experiment is a compiled experiment: who is in, and which variant they get.
// It is immutable.
type Experiment struct {
	ID          uint32 // the caller's number for this experiment
	LayerSeed   uint64 // shared by the experiments of one layer
	GateSeed    uint64 // of the coverage gate
	VariantSeed uint64 // of the choice of variant
	From, Until uint32 // range of layer buckets, [From, Until), 0 … 10000
	Coverage    uint32 // gate buckets below it are in, 0 … 10000
	Variants    []Variant
}

// Variant holds the variant buckets [From, Until) of one arm. The variants of
// an experiment follow each other from 0 to 10000; an arm of weight 0 is empty.
type Variant struct {
	ID          uint32 // the caller's number, by default the position
	From, Until uint32
}

// Assign says which variant the unit gets, as an index into Variants. ok is
// false when the unit is outside the experiment's range of the layer or above
// its coverage: such a unit is treated as if the experiment did not exist.
// Targeting is not judged here. Cost: up to three hashes, no allocation.
func (e *Experiment) Assign(unit []byte) (variant int, ok bool) {
	if !e.InRange(unit) {
		return 0, false
	}
	if e.Coverage < Buckets && Bucket(e.GateSeed, unit) >= e.Coverage {
		return 0, false
	}
	bucket := Bucket(e.VariantSeed, unit)
	for i := range e.Variants {
		if bucket < e.Variants[i].Until {
			return i, true
		}
	}
	return 0, false
}

// InRange says whether the layer draw of the unit falls in this experiment's
// range. Of two experiments of one layer with disjoint ranges at most one says
// yes. Cost: at most one hash.
func (e *Experiment) InRange(unit []byte) bool {
	if e.From == 0 && e.Until >= Buckets {
		return true
	}
	bucket := Bucket(e.LayerSeed, unit)
	return bucket >= e.From && bucket < e.Until
}

// Holdout is a compiled holdout: the units that get nothing it covers. What it
// covers is judged by the caller. It is immutable.
type Holdout struct {
	ID          uint32 // the caller's number for this holdout
	Seed        uint64
	From, Until uint32 // range of buckets, [From, Until), 0 … 10000
	StartMs     int64  // unix ms, inclusive; 0 = always
	EndMs       int64  // unix ms, exclusive; 0 = never
}

// Holds says whether the unit is in the held-out range, whatever the time.
// Cost: one hash, no allocation.
func (h *Holdout) Holds(unit []byte) bool {
	bucket := Bucket(h.Seed, unit)
	return bucket >= h.From && bucket < h.Until
}

// Live says whether the holdout is in force at nowMs, in unix milliseconds.
func (h *Holdout) Live(nowMs int64) bool {
	return nowMs >= h.StartMs && (h.EndMs == 0 || nowMs < h.EndMs)
}
