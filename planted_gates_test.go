package tact_test

// plantedGates break what stands before the caps: quiet hours, consents, blacklists and
// lists (docs/policy.md), and what is said of them.
func plantedGates() []plantedBug {
	const inSets = "./storage/suppress"
	return []plantedBug{
		{
			law:  "a window over midnight belongs to the day on which it begins",
			file: "engine/decide/quiet.go",
			old:  "	case minute < s.Until && begins(day-1):\n",
			bad:  "	case minute < s.Until && begins(day):\n",
			pkg:  inDecide, run: "TestQuietUntil",
		},
		{
			law: "days that are excepted are not quiet", file: "engine/decide/quiet.go",
			old: "(!q.hasOn || q.on.has(day)) && !q.except.has(day)\n",
			bad: "!q.hasOn || q.on.has(day)\n",
			pkg: inDecide, run: "TestQuietUntil",
		},
		{
			law:  "quiet is what a wall shows whose clock is set meanwhile",
			file: "engine/decide/quiet.go",
			old:  "		if end <= wall.until {\n", bad: "		if end > 0 {\n",
			pkg: inDecide, run: "TestQuietUntil",
		},
		{
			law:  "a person without a zone is judged in all that may be theirs",
			file: "engine/decide/quiet.go",
			old:  "		for _, zone := range r.zones() {\n",
			bad:  "		for _, zone := range r.zones()[:1] {\n",
			pkg:  inEngine, run: "TestQuietOptions",
		},
		{
			law: "one of several that drops is enough", file: "engine/decide/quiet.go",
			old: "by < 0 || hold && !q.Hold", bad: "by < 0",
			pkg: inEngine, run: "TestQuietOptions",
		},
		{
			law: "contact-state tells when quiet hours end", file: "engine/contact_reach.go",
			old: "state.Until != decide.Never {\n", bad: "state.Until == decide.Never {\n",
			pkg: inEngine, run: "TestQuietOptions",
		},
		{
			law: "mandatory messages pass the blacklist", file: "engine/decide/slab.go",
			old: "	if o.Class != definition.Mandatory {\n		black",
			bad: "	if o.Class <= definition.Mandatory {\n		black",
			pkg: inDecide, run: "TestGatesByClass",
		},
		{
			law: "marketing that reaches out needs a consent", file: "engine/decide/slab.go",
			old: "ConsentRequired&(1<<ch) != 0:\n", bad: "ConsentRequired&(1<<ch) == 0:\n",
			pkg: inDecide, run: "TestGatesByClass",
		},
		{
			law: "a blacklist comes before a cap", file: "engine/decide/pick_reason.go",
			old: "	case !r.allHold(s, black), black.count > 0 && r.listed(s):\n",
			bad: "	case false:\n",
			pkg: inDecide, run: "TestGatesByClass|TestEqualToModel",
		},
		{
			law: "of two of one time the withdrawal holds", file: "storage/profile.go",
			old: "			granted = granted && c.Granted\n", bad: "			granted = c.Granted\n",
			pkg: inEngine, run: "TestConsentHistory",
		},
		{
			law: "the history of consents is by time", file: "storage/profile_edit.go",
			old: "	for at > 0 && d.consents[at-1].At > c.At {\n",
			bad: "	for at > len(d.consents) {\n",
			pkg: inEngine, run: "TestConsentHistory",
		},
		{
			law: "a consent in force is never forgotten", file: "storage/profile_edit.go",
			old: "		if d.inForce(i) {\n", bad: "		if i > MaxConsents {\n",
			pkg: inEngine, run: "TestConsentHistory",
		},
		{
			law: "a filter's yes is confirmed", file: "storage/suppress/suppress.go",
			old: "	_, ok := search(r.hashes, h)\n	return ok\n",
			bad: "	_, ok := search(r.hashes, h)\n	return ok || r.filter != nil\n",
			pkg: inSets, run: "TestSetAgainstMap",
		},
		{
			law: "an edit of a list counts at once", file: "engine/lists.go",
			old: "kept.Epoch == epoch {\n", bad: "kept.Epoch != 0 {\n",
			pkg: inEngine, run: "TestListedPeople",
		},
		{
			law:  "a contact of an item that held nothing is a fact",
			file: "engine/outcome_count.go",
			old:  "	if f.token.Reservation.Number == 0 && !b.binds(f) {\n",
			bad:  "	if f.token.Reservation.Number == 0 {\n",
			pkg:  inEngine, run: "TestContactThatHeldNothing",
		},
	}
}
