package tact_test

// plantedStore break what the store and its event log promise (docs/storage.md).
func plantedStore() []plantedBug {
	return []plantedBug{
		{
			law: "a column is taken with its checksum only", file: "storage/eventlog/cursor.go",
			old: "	if checkSum(stored) != c.crc {\n", bad: "	if false {\n",
			pkg: inLog, run: "TestDamageIsNoticed",
		},
		{
			law: "a frame is taken with its checksum only", file: "storage/frame.go",
			old: "	if checkSum(value[:end]) != le.Uint32(value[end:]) {\n", bad: "	if false {\n",
			pkg: inStore, run: "TestDamagedFrame",
		},
		{
			law: "nobody is answered before the sync", file: "storage/commit.go",
			old: "	if err == nil && s.o.hooks.ackEarly != nil {\n		s.acknowledge()\n" +
				"		s.o.hooks.ackEarly()\n	}\n",
			bad: "	if err == nil {\n		s.acknowledge()\n	}\n",
			pkg: inStore, run: "TestLateCommitFences",
		},
		{
			law: "rows are not written behind a reload", file: "storage/flush.go",
			old: "	defer s.flush.disk.Unlock()\n	if g.generation.Load() != pass.generation {\n",
			bad: "	defer s.flush.disk.Unlock()\n	if false {\n",
			pkg: inStore, run: "TestReloadBeforeRowsAreWritten",
		},
		{
			law: "Ahead sees the table of a reload", file: "storage/commit.go",
			old: "	g.show(l.state)\n", bad: "",
			pkg: inStore, run: "TestAheadAfterLoads",
		},
		{
			law: "a look-up sets the hint right", file: "storage/ahead.go",
			old: "		*hint = r.profile\n", bad: "",
			pkg: inStore, run: "TestHintsFollowProfiles",
		},
		{
			law: "rows of statistics move when their table grows", file: "storage/stats.go",
			old: "			if old[i].taken {\n", bad: "			if old[i].taken && i > 0 {\n",
			pkg: inStore, run: "TestStatsEqualMap",
		},
		{
			law: "what is in the log is wiped from memory", file: "storage/log_kept.go",
			old: "		clear(c.buf[g.list[n].from:g.list[n].to])\n", bad: "",
			pkg: inStore, run: "TestKeptFramesForget|TestKeptFramesAreBounded",
		},
		{
			law: "what a pass reads is not used again before it ends", file: "storage/log_kept.go",
			old: "		if g.read {\n", bad: "		if false {\n",
			pkg: inStore, run: "TestKeptFramesForget|TestKeptFramesAreBounded",
		},
		{
			law: "no frame that was let go of is taken for kept", file: "storage/log_kept.go",
			old: "	g.since = next\n", bad: "",
			pkg: inStore, run: "TestLogFromMemory",
		},
		{
			law: "an event of just 90 days leaves the tail", file: "storage/tail.go",
			old: "		if before <= oldest {\n", bad: "		if before < oldest {\n",
			pkg: inStore, run: "TestTailNewestEqualsAnyEvent",
		},
		{
			law: "a full tail takes no event more", file: "storage/tail.go",
			old: "	c.skip(TailMax-1, oldest)\n", bad: "	c.skip(TailMax, oldest)\n",
			pkg: inStore, run: "TestTailNewestEqualsAnyEvent",
		},
		{
			law: "a string met twice is counted twice", file: "storage/eventlog/census.go",
			old: "		c.count(s, at.ord)\n", bad: "",
			pkg: "./storage/eventlog", run: "TestSharedBy",
		},
		{
			law: "what leaves the tail is summed up", file: "storage/activity_whole.go",
			old: "	case s.drawn.left == 0 && in.body[0]&tailWaits != 0:\n",
			bad: "	case in.body[0]&tailWaits != 0:\n",
			pkg: inStore, run: "TestActivityShowsWhatWaits",
		},
		{
			law: "what is summed up does not wait", file: "storage/activity_whole.go",
			old: "		s.drawn.settle()\n", bad: "",
			pkg: inStore, run: "TestEventsBesideTheirTail",
		},
		{
			law: "what is summed up once is summed up as it comes", file: "storage/activity_whole.go",
			old: "	if s.began || len(sums) > 0 {\n", bad: "	if s.began {\n",
			pkg: inStore, run: "TestEventsBesideTheirTail",
		},
		{
			law: "one event's sums are not those of another", file: "storage/activity_whole.go",
			old: "	if w.holds != a.made || w.only != 0 && w.only != only {\n",
			bad: "	if w.holds != a.made {\n",
			pkg: inStore, run: "TestTwoActivities",
		},
		{
			law: "what begins an activity is written with it", file: "storage/apply_event.go",
			old: "s.pend(r, kept && !s.began, &in))\n	s.noteEvent(e.Ord, e.Event.Event, false)\n",
			bad: "s.pend(r, kept, &in))\n	s.noteEvent(e.Ord, e.Event.Event, false)\n",
			pkg: inStore, run: "TestEventAfterAnOldTail",
		},
		{
			law: "an activity that is missing is found", file: "storage/row_events.go",
			old: ", waiting > 0 && (waiting < t.Len() || t.Floor() != 0):\n", bad: ":\n",
			pkg: inStore, run: "TestEventsDamage",
		},
		{
			law: "an activity that parts begin is written", file: "storage/row_codec.go",
			old: "			r.Flags |= rowDirtyActivity\n", bad: "",
			pkg: inStore, run: "TestPartsBeginAnActivity",
		},
		{
			law: "what an older version sealed opens", file: "storage/seal.go",
			old: "{personCipher, olderCipher}", bad: "{personCipher, personCipher}",
			pkg: inStore, run: "TestOlderPartsOpen",
		},
		{
			law: "a ring has one user", file: "storage/journal/folder.go",
			old: "	if err := own(f); err != nil {\n", bad: "	if err := error(nil); err != nil {\n",
			pkg: inJournal, run: "TestRingHasOneUser",
		},
		{
			law: "a set that a question was given is kept up", file: "storage/bitmap.go",
			old: "		x.set.Remove(uint32(o))\n", bad: "",
			pkg: inStore, run: "TestSetsEqualModel",
		},
		{
			law: "a span with few members becomes a list whole", file: "storage/bitmap.go",
			old: "words.count() <= spanLess", bad: "words.count() <= spanFew+2",
			pkg: inStore, run: "TestSetsEqualModel",
		},
		{
			law: "a span that reaches further has nobody in it yet", file: "storage/bitmap.go",
			old: "		clear(refs[n:])\n", bad: "",
			pkg: inStore, run: "TestSetsEqualModel",
		},
		{
			law: "sets count the bytes of their blocks", file: "storage/bitmap.go",
			old: "	b.used += b.slab.used - before\n", bad: "	b.used += max(b.slab.used-before, 0)\n",
			pkg: inStore, run: "TestSetsEqualModel",
		},
		{
			law: "a frame is trimmed when the log has it", file: "storage/log.go",
			old: "l.holdBound(i, min(l.log.Logged(uint16(i)), g.written.Load()))",
			bad: "l.holdBound(i, g.written.Load())",
			pkg: inStore, run: "TestTrimWaitsForBoth",
		},
		{
			law: "a frame is trimmed when the rows hold it", file: "storage/log.go",
			old: "l.holdBound(i, min(l.log.Logged(uint16(i)), g.written.Load()))",
			bad: "l.holdBound(i, l.log.Logged(uint16(i)))",
			pkg: inStore, run: "TestTrimWaitsForBoth",
		},
		{
			law: "the log's blocks are durable before its state", file: "storage/eventlog/pass.go",
			old: "			if err := f.Sync(); err != nil {\n				return fmt.Errorf(\"sync the event log",
			bad: "			if err := error(nil); f == nil || err != nil {\n				return fmt.Errorf(\"sync the event log",
			pkg: inLog, run: "TestPowerLoss",
		},
		{
			law: "what is oldest leaves first", file: "storage/eventlog/pass.go",
			old: "	counted := p.retired()\n",
			bad: "	counted := p.retired()\n	slices.Reverse(p.state.segments)\n" +
				"	defer func() { slices.Reverse(p.state.segments) }()\n",
			pkg: inLog, run: "TestRetire",
		},
		{
			law: "files of a backup are durable before its manifest", file: "storage/backup/stream.go",
			old: "{ return errors.Join(s.file.Sync(), s.file.Close()) }\n",
			bad: "{ return s.file.Close() }\n",
			pkg: inStore, run: "TestBackupCutAnywhere",
		},
		{
			law:  "names of a backup's files are durable before its manifest",
			file: "storage/backup/take.go",
			old:  "errors.Join(syncFolder(fs, t.out.at.dir), syncFolder(fs, t.dir))",
			bad:  "error(nil)",
			pkg:  inStore, run: "TestBackupCutAnywhere",
		},
		{
			law: "a backup's manifest is durable before it is reported", file: "storage/backup/sealed.go",
			old: "	return syncFolder(fs, dir)\n", bad: "	return nil\n",
			pkg: inStore, run: "TestBackupCutAnywhere",
		},
		{
			law: "the witness is asked", file: "storage/recover.go",
			old: "		rec.ends.raise(ends)\n", bad: "		_ = ends\n",
			pkg: inStore, run: "TestQuietDamageIsRefused",
		},
		{
			law: "a key of two blocks is entered once", file: "storage/dedup_block.go",
			old: "		if t.holds(b[:*fill], p.key) {\n", bad: "		if false {\n",
			pkg: inStore, run: "TestDedupKeyInTwoBlocks",
		},
		{
			law: "the room of a key of two blocks is given back", file: "storage/dedup_block.go",
			old: "	if twice > 0 {\n", bad: "	if twice < 0 {\n",
			pkg: inStore, run: "TestDedupKeyInTwoBlocks",
		},
	}
}
