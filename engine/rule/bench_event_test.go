package rule

import (
	"testing"
)

// The cost of one condition, of a person with a full tail and 200 days of sums.
func BenchmarkEventAtoms(b *testing.B) {
	d := newDraw(1)
	l := d.busy(b, 200)
	for name, rule := range map[string]string{
		"tail":     `{"event":"order","count":{"gte":2},"within":"1h"}`,
		"life":     `{"not":{"event":"order","where":[{"property":"new","is":true}]}}`,
		"days":     `{"event":"order","sum":{"gte":100},"of":"amount","within":"200d"}`,
		"calendar": `{"event":"order","window":{"calendar":"day","zone":"user"}}`,
		"sequence": `{"sequence":[{"event":"visit"},{"event":"order"}],"within":"1s"}`,
		"unseen":   `{"not_seen_for":"30d"}`,
	} {
		b.Run(name, func(b *testing.B) {
			s := build(b, nil, mustParse(b, rule))
			who := &Who{Zone: l.home, Home: l.home, Now: d.now, Tail: l.tail, Activity: l.activity}
			var user [PageWords]uint64
			b.ReportAllocs()
			for b.Loop() {
				s.program.EvalUser(who, s.program.Rev, user[:])
			}
		})
	}
}
