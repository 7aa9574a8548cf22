package tact_test

// plantedCaps break what caps and the journal promise (docs/caps.md, docs/journal.md).
func plantedCaps() []plantedBug {
	return []plantedBug{
		{
			law:  "a counter found full is not taken for so where its own use is given again",
			file: "engine/decide/cap_refuse.go",
			old:  "	if !r.keeping && r.usedUp.is(u, key) {\n", bad: "	if r.usedUp.is(u, key) {\n",
			pkg: inDecide, run: "TestJudgeAgreesWithPick",
		},
		{
			law: "A1: no answer before the lease is durable", file: "storage/journal/lease.go",
			old: "		return now < l.Before\n", bad: "		return now < l.End\n",
			pkg: inJournal, run: "TestSimulation", quick: true,
		},
		{
			law: "J1: a record is taken with its checksum only", file: "storage/journal/record.go",
			old: "if !trusting && le.Uint32(slot) != sum(salt, slot[4:recordHead+n]) {",
			bad: "if false && le.Uint32(slot) != sum(salt, slot[4:recordHead+n]) {",
			pkg: inJournal, run: "TestSimulation",
		},
		{
			law: "J3: a slot is used again when its frame is durable", file: "storage/journal/journal.go",
			old: "full := j.mu.tail-j.mu.water >= uint64(j.o.Slots)", bad: "full := false",
			pkg: inJournal, run: "TestSimulation",
		},
		{
			law: "J5: a sync is credited with what was stored before it", file: "storage/journal/writer.go",
			old: "	if j.o.bugs.creditLater {\n", bad: "	if true {\n",
			pkg: inJournal, run: "TestSimulation",
		},
		{
			law: "R4: the stand-in is not forgotten", file: "storage/contact_lease.go",
			old: "	if tr == nil || t.certain {\n", bad: "	if true || t.certain {\n",
			pkg: inEngine, run: "TestLinearizable",
		},
		{
			law: "R3: an incident is not ignored", file: "storage/carrier.go",
			old: "		if !c.rec.Harmless {\n			e.Incident", bad: "		if false {\n			e.Incident",
			pkg: inEngine, run: "TestLinearizable",
		},
		{
			law: "U1: a pending use is dated at its latest moment", file: "storage/contact.go",
			old: "n == 0 || h.Expires() <= since || !h.Live(t) ||",
			bad: "n == 0 || h.Granted() <= since || !h.Live(t) ||",
			pkg: inStore, run: "TestCapsOverCrashes",
		},
		{
			law: "a ring's oldest use counts", file: "storage/contact_ring.go",
			old: "i >= 0 && r.time(i) > since; i-- {\n			u.add",
			bad: "i > 0 && r.time(i) > since; i-- {\n			u.add",
			pkg: inEngine, run: "TestLinearizable",
		},
		{
			law: "a late confirm takes its own place in the ring", file: "storage/contact_edit.go",
			old: "	for i > 0 && r.time(i-1) > use {\n		i--\n	}\n", bad: "",
			pkg: inStore, run: "TestHeldUsePushesNothingOut|TestStateEqualsModel",
		},
		{
			law: "T3: nothing expires early after a start", file: "storage/contact_held.go",
			old: "	if granted <= floor && expires >= granted {\n", bad: "	if false {\n",
			pkg: inStore, run: "TestFloorGivesTheLifeAgain",
		},
		{
			law: "a request that is sent again is not decided anew", file: "storage/contact_edit.go",
			old: "	d.requests = append(d.requests, e.ID[:]...)\n",
			bad: "	d.requests = append(d.requests, e.ID[:]...)\n	d.requests = d.requests[:0]\n",
			pkg: inEngine, run: "TestLinearizable",
		},
		{
			law: "a decision that holds a use outlives its frame", file: "storage/recarry.go",
			old: "		return c.decision(&e)\n",
			bad: "		return g.mu.open.number, nil\n",
			pkg: inEngine, run: "TestLinearizable|TestEnginePowerLoss",
		},
		{
			law: "a reservation is released once", file: "storage/contact_edit.go",
			old: "	d.opens--\n}\n", bad: "	d.opens--\n	d.given = append(d.given, d.given...)\n}\n",
			pkg: inStore, run: "TestExpireHoldsGivesBack",
		},
		{
			law: "a total is given back once", file: "storage/apply_contact.go",
			old: "		s.share.give(k)\n	}\n	for i := range d.moved {",
			bad: "		s.share.give(k)\n		s.share.give(k)\n	}\n	for i := range d.moved {",
			pkg: inStore, run: "TestExpireHoldsGivesBack",
		},
		{
			law: "J6: a record is judged by the floor it was made under", file: "storage/carrier.go",
			old: "		err := s.recarry(g)\n		if err == nil {\n" +
				"			g.sealLocked() // the new floor begins behind them\n			_, err = g.Append(&e)\n",
			bad: "		_, err := g.Append(&e)\n		if err == nil {\n			err = s.recarry(g)\n",
			pkg: inStore, run: "TestRecordsKeepTheirFloor",
		},
		{
			law: "R7: what a copy does not know counts", file: "storage/rollback.go",
			old: "	if t.blind == 0 {\n", bad: "	if t.blind >= 0 {\n",
			pkg: inStore, run: "TestOlderCopyNeedsAPolicy",
		},
		{
			law: "R7: an older copy waits for a policy", file: "storage/rollback.go",
			old: "	if p != CapsProtect && p != CapsTrust {\n", bad: "	if p > CapsTrust {\n",
			pkg: inStore, run: "TestOlderCopyNeedsAPolicy",
		},
		{
			law: "X4: a survivor counts what it has taken in", file: "storage/contact_origin.go",
			old: "		d.insertTagged(r, to, end)\n", bad: "		_, _ = to, end\n",
			pkg: inStore, run: "TestMergesOverCrashes",
		},
		{
			law:  "X4: two people who may have lost a use keep a stand-in each",
			file: "storage/contact_origin.go",
			old:  "			p.from = from\n", bad: "			p.from = 0\n",
			pkg: inStore, run: "TestMergeKeepsBothStandIns",
		},
		{
			law:  "X4: a lost reservation is known to whoever has taken its person in",
			file: "storage/incident.go",
			old:  "	of := s.incidents[id.Number>>48%uint64(len(s.incidents))]\n",
			bad:  "	of := s.incidents[len(s.incidents)-1]\n",
			pkg:  inStore, run: "TestMergeKeepsBothStandIns",
		},
		{
			law:  "X4: what was taken in binds the survivor's decisions",
			file: "storage/contact_origin.go",
			old:  "		d.insertTagged(r, to, end)\n", bad: "		_, _ = to, end\n",
			pkg: inEngine, run: "TestLinearizable",
		},
		{
			law:  "X4: uses after a merge stay with the survivor",
			file: "storage/contact_origin.go",
			old:  "		case from == 0 || !slices.Contains(origins, from):\n",
			bad:  "		case from != 0 && !slices.Contains(origins, from):\n",
			pkg:  inEngine, run: "TestLinearizable",
		},
		{
			law: "X4: a merge waits for what was answered", file: "storage/merge.go",
			old: "	if from.LastFrame > a.durable.Load() || to.LastFrame > b.durable.Load() {\n",
			bad: "	if false {\n",
			pkg: inStore, run: "TestMergeWaitsForWhatWasAnswered",
		},
		{
			law: "a merge moves nothing twice", file: "storage/merge.go",
			old: "	wait[0], err = a.Append(&cede)\n", bad: "	wait[0], err = 0, nil\n",
			pkg: inStore, run: "TestMergeContacts",
		},
		{
			law: "a reload takes no second use", file: "engine/decide/cap_keys.go",
			old: "u.holds && !r.keeping && ", bad: "u.holds && ",
			pkg: inEngine, run: "TestLinearizable",
		},
		{
			law: "an item is accepted once", file: "engine/outcome_count.go",
			old: "	if counted && f.on == definition.CountAccept {\n",
			bad: "	if false && counted && f.on == definition.CountAccept {\n",
			pkg: inEngine, run: "TestAcceptOfAnItemCountsOnce",
		},
		{
			law: "X4: what was counted in another group is known", file: "engine/outcome_away.go",
			old: "		if b.away[i].key == key {\n", bad: "		if false && b.away[i].key == key {\n",
			pkg: inEngine, run: "TestOutcomeIsKnownAfterMerges",
		},
		{
			law: "X4: a merge says that keys lie elsewhere", file: "storage/contact_origin.go",
			old: "	d.away = uint16(t.Now / daySec)\n", bad: "	d.away = 0\n",
			pkg: inEngine, run: "TestLinearizable",
		},
		{
			law: "X4: a refund is given where the unit counts", file: "engine/outcome_away.go",
			old: "		given, err := b.give(&f, of, once)\n",
			bad: "		given, err := b.give(&fact{group: g, token: t, doc: doc}, of, once)\n",
			pkg: inEngine, run: "TestItemGoesOnAfterAMerge",
		},
		{
			law: "a contact counts in a cap that holds nothing of it", file: "engine/outcome_count.go",
			old: "	more := b.unheld(f, &held)\n", bad: "	more := false && b.unheld(f, &held)\n",
			pkg: inEngine, run: "TestContactThatACapDoesNotHold",
		},
		{
			law:  "a purchase takes of a total that the decision did not hold",
			file: "engine/outcome_count.go",
			old:  "	if holds {\n		b.dropHeld(held)\n", bad: "	if holds {\n		b.keys = b.keys[:0]\n",
			pkg: inEngine, run: "TestAcceptThatATotalDoesNotHold",
		},
	}
}
