package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// formatVersion is the version of Document.
const formatVersion = 1

// A Document is what one run found, with the conditions it found it under.
type Document struct {
	Format  int           `json:"format"` // 1
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took_ns"`
	Machine Machine       `json:"machine"`
	Build   string        `json:"build"`
	Flags   []string      `json:"flags"`
	Users   int           `json:"users"`
	Seed    uint64        `json:"seed"`
	Planned int           `json:"workloads_planned"`
	Done    int           `json:"workloads_done"`
	Cut     string        `json:"cut_short,omitempty"` // why Done is less than Planned
	Figures []Figure      `json:"figures"`
}

// Machine is where a run took place.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_bytes"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// A Figure is one thing measured. Own and Reference of a pair have the unit of
// the figure and are better when they are less; a count has no pairs but Count.
type Figure struct {
	Name       string            `json:"name"`
	About      string            `json:"about"`
	Unit       string            `json:"unit"`
	Reference  string            `json:"reference,omitempty"` // what Pairs compare with
	Pairs      []Pair            `json:"pairs,omitempty"`
	Count      *float64          `json:"count,omitempty"`
	Allocs     *float64          `json:"allocs_per_op,omitempty"`
	Conditions map[string]string `json:"conditions,omitempty"`
	Curve      string            `json:"curve,omitempty"` // figures of one curve share it
	X          float64           `json:"x,omitempty"`     // place on the curve
	Target     *Target           `json:"target,omitempty"`
	Stolen     float64           `json:"stolen"` // share of the processors, 0..1
	GCs        uint32            `json:"gc_cycles"`
	Switches   int64             `json:"context_switches"` // of the measuring process
	Missing    string            `json:"not_measured,omitempty"`
	Profile    string            `json:"profile,omitempty"` // file beside the document
}

// Pair is one turn: both sides with processor time and, beside it, wall time.
type Pair struct {
	Own           float64 `json:"own"`
	Reference     float64 `json:"reference,omitempty"`
	OwnWall       float64 `json:"own_wall"`
	ReferenceWall float64 `json:"reference_wall,omitempty"`
}

// Target is a bound that a figure is to reach: of its ratio when it has a
// reference, else of its own value. Limit is the most it may be.
type Target struct {
	Name  string  `json:"name"`
	Limit float64 `json:"limit"`
}

// ratios are the pairs' own through reference, or own alone without one, rising.
func (f *Figure) ratios() []float64 {
	out := make([]float64, 0, len(f.Pairs))
	for _, p := range f.Pairs {
		switch {
		case f.Reference == "":
			out = append(out, p.Own)
		case p.Reference > 0:
			out = append(out, p.Own/p.Reference)
		}
	}
	slices.Sort(out)
	return out
}

// Value is the least of the pairs, the figure that noise can only make worse:
// of the ratio when there is a reference. NaN without pairs and count.
func (f *Figure) Value() float64 {
	if f.Count != nil {
		return *f.Count
	}
	if r := f.ratios(); len(r) > 0 {
		return r[0]
	}
	return math.NaN()
}

// Median is the middle one of the pairs.
func (f *Figure) Median() float64 {
	if f.Count != nil {
		return *f.Count
	}
	return median(f.ratios())
}

// own gives the sides' own values, rising.
func (f *Figure) own() []float64 {
	out := make([]float64, len(f.Pairs))
	for i, p := range f.Pairs {
		out[i] = p.Own
	}
	slices.Sort(out)
	return out
}

// Reached says whether the figure keeps its target; false when it was not
// measured.
func (f *Figure) Reached() bool {
	return f.Target != nil && f.Missing == "" && f.Value() <= f.Target.Limit
}

// median of rising values; NaN without any.
func median(rising []float64) float64 {
	n := len(rising)
	if n == 0 {
		return math.NaN()
	}
	return (rising[(n-1)/2] + rising[n/2]) / 2
}

// WriteJSON writes the document.
func (d *Document) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(d)
}

// maxDocument bounds what is read of a document.
const maxDocument = 64 << 20

// errDocument is the class of faults of a document.
var errDocument = errors.New("not a document of tact bench")

// Read reads a document. What is not one, or of a newer format, is an error.
func Read(r io.Reader) (*Document, error) {
	var d Document
	if err := json.NewDecoder(io.LimitReader(r, maxDocument)).Decode(&d); err != nil {
		return nil, fmt.Errorf("%w: %w", errDocument, err)
	}
	if d.Format < 1 || d.Format > formatVersion {
		return nil, fmt.Errorf("%w: format %d, this build reads 1 to %d",
			errDocument, d.Format, formatVersion)
	}
	seen := make(map[string]bool, len(d.Figures))
	for i := range d.Figures {
		f := &d.Figures[i]
		if f.Name == "" || seen[f.Name] {
			return nil, fmt.Errorf("%w: figure %d has the name %q, none or one that stands before",
				errDocument, i, f.Name)
		}
		seen[f.Name] = true
		for _, p := range f.Pairs {
			if !(p.Own >= 0) || !(p.Reference >= 0) || math.IsInf(p.Own+p.Reference, 0) {
				return nil, fmt.Errorf("%w: figure %s has a pair that is no time", errDocument, f.Name)
			}
		}
	}
	return &d, nil
}
