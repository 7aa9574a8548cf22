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
			law: "a total between two times counts what happens in them", file: "engine/outcome_count.go",
			old: "		if b.snap.Plan.TotalEarly(k.Key.Cap, at) {\n",
			bad: "		if false && b.snap.Plan.TotalEarly(k.Key.Cap, at) {\n",
			pkg: inEngine, run: "TestBetweenOfATotalHeldOverTheBegin",
		},
		{
			law: "R7: what a copy does not know of totals counts", file: "engine/decide/total.go",
			old: "	if p.Blind == 0 {\n", bad: "	if p.Blind >= 0 {\n",
			pkg: inEngine, run: "TestOlderCopyProtectsTotals",
		},
		{
			law: "R7: a stock is protected at its gate too", file: "engine/decide/total.go",
			old: "	if _, blind := p.blindWindow(name, c, since); blind {\n		limit = 0\n",
			bad: "	if _, blind := p.blindWindow(name, c, since); blind {\n",
			pkg: inEngine, run: "TestOlderCopyProtectsTotals",
		},
		{
			law: "the last units of a total lie in no block", file: "engine/totals.go",
			old: "			oneByOne*snap.Plan.GreatestCost(i)\n",
			bad: "			0*snap.Plan.GreatestCost(i)\n",
			pkg: inEngine, run: "TestLastUnitsWait",
		},
		{
			law: "the last units of a total wait", file: "engine/totals.go",
			old: " < oneByOne*k.Units()\n", bad: " < 0*k.Units()\n",
			pkg: inEngine, run: "TestLastUnitsWait",
		},
		{
			law: "X1: a record that is not held again is not durable", file: "storage/carrier.go",
			old: "			return neverDurable\n", bad: "			return frame\n",
			pkg: inStore, run: "TestReloadThatFailsForgetsNothing",
		},
		{
			law: "R4: losses beyond a part's room count too", file: "storage/contact_lease.go",
			old: "		p.join(d.dropStandIn())\n", bad: "		d.dropStandIn()\n",
			pkg: inStore, run: "TestStandInsBeyondTheirRoom",
		},
	}
}
