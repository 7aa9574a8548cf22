package tact_test

// plantedPolicy break what outcomes, restarts, merges and older copies do to caps
// (docs/caps.md, docs/journal.md).
func plantedPolicy() []plantedBug {
	return []plantedBug{
		{
			law:  "a cap counts an item once, by whatever kind of contact",
			file: "engine/outcome_count.go",
			old:  "		return definition.CountOn(k.CountOn)&seen != 0\n",
			bad:  "		return false && definition.CountOn(k.CountOn)&seen != 0\n",
			pkg:  inEngine, run: "TestContactKindsCountOnce",
		},
		{
			law: "a reservation that is half given back says so", file: "storage/contact_edit.go",
			old: "		to = ReservationPartly\n", bad: "		to = ReservationConfirmed\n",
			pkg: inEngine, run: "TestHalfConfirmedIsLate",
		},
		{
			law: "X4: merges and splits make no stand-ins", file: "storage/contact_origin.go",
			old: "		if at == len(met) {\n", bad: "		if at >= 0 {\n",
			pkg: inStore, run: "TestMergeAndSplitOverAndOver",
		},
		{
			law: "R4: losses beyond a part's room count too", file: "storage/contact_lease.go",
			old: "		p.join(d.dropStandIn())\n", bad: "		d.dropStandIn()\n",
			pkg: inStore, run: "TestStandInsBeyondTheirRoom",
		},
	}
}
