package tact_test

// plantedRules break what the rule language, its windows, segments and bulk answers
// promise (docs/rules.md).
func plantedRules() []plantedBug {
	return append([]plantedBug{
		{
			law: "a rolling window is open at its begin", file: "engine/rule/eval_event.go",
			old: "	s.lo = now - s.width + 1\n", bad: "	s.lo = now - s.width\n",
			pkg: inRules, run: "TestEventMeaning|TestTheLogIsTheTruth",
		},
		{
			law:  "a calendar window begins when the wall first shows it",
			file: "engine/rule/calendar_window.go",
			old:  "		return min(first, second)\n", bad: "		return max(first, second)\n",
			pkg: inDecide, run: "TestCalendarWindowAtTurns",
		},
		{
			law: "a day that has 23 or 25 hours ends when it ends", file: "engine/rule/calendar.go",
			old: "	at := c.turn\n", bad: "	at := never\n",
			pkg: inRules, run: "TestTurns|TestNeverLate",
		},
		{
			law: "a local day is by the offset of its own time", file: "engine/rule/calendar.go",
			old: "	_, offset := time.UnixMilli(ms).In(c.zone).Zone()\n" +
				"	return FloorDiv(ms+int64(offset)*1000, dayMs)\n",
			bad: "	return FloorDiv(ms+c.offset, dayMs)\n",
			pkg: inRules, run: "TestTheLogIsTheTruth|TestBeyondTheTail",
		},
		{
			law: "29 February counts on the 28th in other years", file: "engine/rule/calendar.go",
			old: "	return first + min(dom, length) - 1\n",
			bad: "	_ = length\n	return first + dom - 1\n",
			pkg: inRules, run: "TestCalendar|TestOneMeaning",
		},
		{
			law: "what is missing equals nothing", file: "engine/rule/eval.go",
			old: "	value, ok := profile.Attr(t.id)\n	if !ok {\n		return false\n",
			bad: "	value, ok := profile.Attr(t.id)\n	if !ok {\n		return true\n",
			pkg: inRules, run: "TestMissingIsNotAValue",
		},
		{
			law: "what nobody knows does not hold", file: "engine/rule/eval_event.go",
			old: "		return ok && least >= lo // what", bad: "		return ok && lo >= 0 // what",
			pkg: inRules, run: "TestBeyondTheTail|TestTheLogIsTheTruth",
		},
		{
			law: "safety of a segment asks where it is named", file: "engine/rule/segment.go",
			old: "		result.node = with(tree.rule, known)\n", bad: "		result.node = tree.rule\n",
			pkg: inRules, run: "TestSegmentInPlace",
		},
		{
			law: "De Morgan holds of plans over everybody", file: "engine/rule/population_plan.go",
			old: "	case (p.kind == nodeAll) != negated:\n		return r.all(",
			bad: "	case p.kind == nodeAll:\n		return r.all(",
			pkg: inRules, run: "TestPopulationLaws",
		},
		{
			law:  "for whom a set may hold, its contrary is not sure",
			file: "engine/rule/population_plan.go",
			old:  "		sure := roaring.AndNot(from.set, lose)\n",
			bad:  "		sure := roaring.AndNot(from.set, keep)\n",
			pkg:  inRules, run: "TestThreeEvaluatorsAgree|TestPopulationLaws",
		},
		{
			law:  "a sequence is broken by what must not come between",
			file: "engine/rule/eval_event.go",
			old:  "		broken := b.without != nil && e.picks(b.without, c)\n",
			bad:  "		broken := false && e.picks(b.without, c)\n",
			pkg:  inRules, run: "TestEventMeaning",
		},
		{
			law: "a window answered by day says so", file: "engine/rule/eval_days.go",
			old: "	known = known && e.lastDay(b, s, &r, t)\n	e.byDay = e.byDay || known\n",
			bad: "	known = known && e.lastDay(b, s, &r, t)\n",
			pkg: inRules, run: "TestByDayReads",
		},
		{
			law: "a slice of people ends before the next begins", file: "engine/rule/eval.go",
			old: "		return t.lo <= bucket && bucket < t.hi\n",
			bad: "		return t.lo <= bucket && bucket <= t.hi\n",
			pkg: inRules, run: "TestPercentSharesOut",
		},
	}, plantedPeople()...)
}

func plantedPeople() []plantedBug {
	return []plantedBug{
		{
			law: "a tag has ended in the second of its end", file: "engine/rule/eval.go",
			old: "		if e.clock.now >= end {\n", bad: "		if e.clock.now > end {\n",
			pkg: inEngine, run: "TestTagEndsInItsSecond|TestTagRunsOut",
		},
		{
			law: "a tag that ends is looked at again then", file: "engine/rule/eval.go",
			old: "		e.flip = min(e.flip, end)\n	}\n	return true\n", bad: "	}\n	return true\n",
			pkg: inEngine, run: "TestTagRunsOut",
		},
		{
			law:  "who holds a tag is counted without whose end has come",
			file: "storage/expiry.go",
			old:  "				if UnixSec(e>>32) > until || !yield(",
			bad:  "				if UnixSec(e>>32) >= until || !yield(",
			pkg:  inStore, run: "TestExpireTags",
		},
		{
			law:  "segments that name each other are refused",
			file: "engine/decide/compile_segments.go",
			old:  "		case state == segmentOpen:\n", bad: "		case state == segmentOpen && false:\n",
			pkg: inEngine, run: "TestSegmentFaults",
		},
		{
			law: "a bit that is given anew is judged anew", file: "engine/rule/builder.go",
			old: "Atom{Key: c.key, Since: b.rev, test: c.test}",
			bad: "Atom{Key: c.key, Since: b.rev - 1, test: c.test}",
			pkg: inEngine, run: "TestPagesEqualAnew",
		},
		{
			law: "an event too late for the tail raises its floor", file: "storage/tail.go",
			old: "		w.floor = max(w.floor, occurred+1)\n", bad: "",
			pkg: inRules, run: "TestTheLogIsTheTruth",
		},
		{
			law: "an event that comes late counts on its own day", file: "storage/activity_edit.go",
			old: "	if len(d.days) > 0 && day < d.days[0].day || len(d.days)",
			bad: "	if len(d.days)",
			pkg: inRules, run: "TestTheLogIsTheTruth",
		},
		{
			law:  "the difference of segments is without the others",
			file: "engine/segment_view.go",
			old:  "\"difference\", q.Difference, (*roaring.Bitmap).AndNot",
			bad:  "\"difference\", q.Difference, (*roaring.Bitmap).Xor",
			pkg:  inEngine, run: "TestSetOperations",
		},
		{
			law: "who is not on a list that replaces leaves", file: "engine/segment_fill.go",
			old: "		remove = roaring.AndNot(members, set)\n", bad: "		remove = roaring.New()\n",
			pkg: inEngine, run: "TestFill",
		},
		{
			law: "a sweep notices who has left", file: "engine/track.go",
			old: "		if members != nil && members.Contains(uint32(o)) != holds.Has(i) {\n",
			bad: "		if members != nil && !members.Contains(uint32(o)) && holds.Has(i) {\n",
			pkg: inEngine, run: "TestTrackedMembersEqualNaive",
		},
		{
			law: "a cursor is gone after fifteen minutes", file: "engine/audience_view.go",
			old: "		if int64(now-a.used) >= ViewLife.Milliseconds() {\n",
			bad: "		if int64(now-a.used) >= 2*ViewLife.Milliseconds() {\n",
			pkg: inEngine, run: "TestCursor",
		},
		{
			law: "a question is answered as of its position", file: "storage/apply.go",
			old: "	if len(s.views) > 0 && e.changesPerson() {\n",
			bad: "	if false && len(s.views) > 0 && e.changesPerson() {\n",
			pkg: inStore, run: "TestView",
		},
		{
			law: "what a condition came to is forgotten when the person changes", file: "storage/apply.go",
			old: "	if len(s.verdicts.all) > 0 && e.changesPerson() {\n",
			bad: "	if false && len(s.verdicts.all) > 0 && e.changesPerson() {\n",
			pkg: inRules, run: "TestKeptVerdictsAgree",
		},
	}
}
