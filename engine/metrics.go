package engine

import (
	"fmt"
	"io"
	"sync/atomic"

	"tact/storage"
)

// counter is a count of things that happened since start.
type counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *counter) Inc() { c.n.Add(1) }

// counters are what the conductor counts for /metrics.
type counters struct {
	waited       [storage.WaitCauses]counter // decisions that waited for the disk, by cause
	lateGrants   counter                     // grants not durable in time, released
	renderErrors counter
	repeats      counter // contacts reported again for one reservation
	late         counter // contacts whose reservation had gone
	lost         counter // contacts whose reservation a loss of power took
}

// WriteMetrics writes the conductor's and the store's figures in the Prometheus
// text format.
func (e *Engine) WriteMetrics(w io.Writer) {
	c := &e.counters
	line := func(name, kind, help string, v any) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %v\n", name, help, name, kind, name, v)
	}
	const waited = "tact_decisions_waited_total"
	fmt.Fprintf(w, "# HELP %s decisions that waited until the caps they used were durable\n"+
		"# TYPE %s counter\n", waited, waited)
	for i := range c.waited[1:] {
		cause := storage.WaitCause(i + 1)
		fmt.Fprintf(w, "%s{cause=%q} %d\n", waited, cause, c.waited[cause].n.Load())
	}
	line("tact_grants_late_total", "counter",
		"grants that were not durable in time and were released", c.lateGrants.n.Load())
	line("tact_render_errors_total", "counter", "messages that did not render",
		c.renderErrors.n.Load())
	kept := e.keptAnswers()
	each := "# HELP %[1]s answers to plain requests: given again from memory, judged anew, and " +
		"given up for another\n# TYPE %[1]s counter\n" +
		"%[1]s{result=\"given\"} %[2]d\n%[1]s{result=\"judged\"} %[3]d\n%[1]s{result=\"dropped\"} %[4]d\n"
	fmt.Fprintf(w, each, "tact_kept_answers_total", kept.given, kept.judged, kept.dropped)
	line("tact_outcomes_repeated_total", "counter",
		"contacts reported again for a confirmed reservation", c.repeats.n.Load())
	line("tact_outcomes_ungranted_total", "counter",
		"contacts counted although their reservation had gone", c.late.n.Load())
	line("tact_outcomes_lost_total", "counter",
		"contacts that took the place of a stand-in after a loss", c.lost.n.Load())
	line("tact_visitors", "gauge", "rows of people nobody introduced", e.visitors.Load())
	line("tact_revision", "gauge", "definitions revision in force", e.Revision())
	line("tact_epoch", "gauge", "number of this start of the store", e.store.Epoch())
	line("tact_server_time_ms", "gauge", "server time", int64(e.clock.Now()))
	protected := e.ProtectedCaps()
	line("tact_caps_protected", "gauge",
		"caps that are full for everybody: the store is an older copy, see serve --caps", protected)
	people := 0
	if protected > 0 {
		people = int(e.store.Stats().People)
	}
	line("tact_people_protected", "gauge",
		"people in memory for whom caps are full since the store is an older copy", people)
	e.writeStoreMetrics(w, line)
	e.writeTallies(w)
}

func (e *Engine) writeStoreMetrics(w io.Writer, line func(name, kind, help string, v any)) {
	s := e.store.Stats()
	writeParts(w, &s.Bytes)
	line("tact_huge_bytes", "gauge", "memory of the process that the kernel holds in huge pages",
		storage.HugeBytes())
	line("tact_users", "gauge", "people in memory", s.People)
	line("tact_commits_total", "counter", "synced commits", s.Commits)
	line("tact_frames_total", "counter", "frames made durable", s.Frames)
	line("tact_commits_late_total", "counter", "commits beyond their deadline", s.Late)
	line("tact_commit_median_seconds", "gauge", "median of the latest commits",
		s.CommitMedian.Seconds())
	line("tact_commit_longest_seconds", "gauge", "longest of the latest commits",
		s.CommitLongest.Seconds())
	line("tact_durable_lag_seconds", "gauge", "for how long the oldest effect not durable waits",
		e.store.Lag().Seconds())
	line("tact_last_end_clean", "gauge", "1 when the life before this one ended in order",
		oneIf(e.store.Cut().Clean))
	line("tact_durable_lag_frames", "gauge", "frames appended and not durable", s.DurableLag)
	line("tact_flush_lag_rows", "gauge", "rows changed and not written behind", s.FlushLag)
	line("tact_disk_free_bytes", "gauge", "free bytes of the store's disk", s.DiskFree)
	line("tact_corrupt_blocks_total", "counter", "corrupt blocks met", s.Corruptions)
	line("tact_write_stalls_total", "counter", "write stalls of the store", s.WriteStalls)
	writeCommits(w, &s)
	line("tact_disk_full", "gauge", "1 while appends are refused for want of disk space",
		oneIf(s.DiskFull))
	writeJournal(w, &s.Journal, line)
	line("tact_totals_block_units", "gauge",
		"units of totals that decisions may give before they are durable", e.store.Totals().Blocks())
	writeLog(w, &s.Log, line)
}

// writeLog writes what the event log holds, and what has left it and why.
func writeLog(w io.Writer, l *storage.LogStats, line func(name, kind, help string, v any)) {
	line("tact_log_pending_bytes", "gauge", "bytes of frames that are in no block yet, about",
		l.Pending)
	line("tact_log_frames_total", "counter", "frames moved into the event log", l.Frames)
	line("tact_log_busy_seconds_total", "counter", "time spent on moving frames", l.BusySeconds)
	each := func(name, kind, help string, value func(s *storage.LogStreamStats) any) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		fmt.Fprintf(w, "%s{stream=\"effects\"} %v\n", name, value(&l.Effects))
		fmt.Fprintf(w, "%s{stream=\"decisions\"} %v\n", name, value(&l.Decisions))
	}
	each("tact_log_bytes", "gauge", "bytes of the event log",
		func(s *storage.LogStreamStats) any { return s.Bytes })
	each("tact_log_records", "gauge", "records of the event log",
		func(s *storage.LogStreamStats) any { return s.Records })
	each("tact_log_oldest_ms", "gauge", "time of the oldest record, 0 without any",
		func(s *storage.LogStreamStats) any { return int64(s.Oldest) })
	each("tact_log_gone_days_total", "counter", "files dropped because they were too old",
		func(s *storage.LogStreamStats) any { return s.GoneDays })
	each("tact_log_gone_bytes_total", "counter", "files dropped because the log was too large",
		func(s *storage.LogStreamStats) any { return s.GoneBytes })
	each("tact_log_gone_until_ms", "gauge", "time of the newest record dropped, 0 for none",
		func(s *storage.LogStreamStats) any { return int64(s.GoneUntil) })
}

func oneIf(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// writeJournal writes what became of grants, and how long the journal's writes
// take.
func writeJournal(
	w io.Writer, j *storage.JournalStats, line func(name, kind, help string, v any),
) {
	line("tact_grants_at_once_total", "counter",
		"grants answered before they were durable", j.AtOnce)
	line("tact_grants_waited_total", "counter", "grants that waited for the journal", j.Waited)
	line("tact_grants_framed_total", "counter",
		"grants the journal did not take, that waited for their frame", j.Refused)
	line("tact_journal_late_total", "counter", "waits that ended at their deadline", j.Late)
	line("tact_journal_backlog", "gauge", "records whose frame is not durable", j.Backlog)
	line("tact_journal_faults_total", "counter", "writes of the journal that went wrong",
		j.Failures)
	line("tact_journal_stopped", "gauge", "1 when the journal takes nothing more", oneIf(j.Dead))
	line("tact_journal_direct", "gauge", "1 when it is written past the page cache",
		oneIf(j.Direct))
	line("tact_journal_ring", "gauge", "1 when grants may be answered at once", oneIf(j.Ring))
	line("tact_journal_ring_locked", "gauge", "1 when the ring's pages stay in memory",
		oneIf(j.Ring && j.Unlocked == ""))
	line("tact_journal_full_total", "counter",
		"times a full journal ended answers at once for a while", j.Closed)
	share := 0.0
	if n := j.AtOnce + j.Waited + j.Refused; n > 0 {
		share = 1 - float64(j.AtOnce)/float64(n)
	}
	line("tact_grants_waited_ratio", "gauge", "share of grants that waited for the disk", share)
	line("tact_incidents", "gauge", "1 when this start followed a loss", oneIf(j.Incident))
	line("tact_stand_ins_total", "counter", "stand-ins written down", j.Charged)
	line("tact_stand_ins_released_total", "counter", "stand-ins given back", j.Released)
	line("tact_stand_ins_taken_total", "counter", "counters whose lost use has come", j.Taken)
	line("tact_totals_burnt_units", "gauge",
		"units of totals that this start burnt after a loss: uses, or minor units of budgets", j.Burnt)
	line("tact_journal_longest_seconds", "gauge", "longest write", j.Longest.Seconds())
	const name = "tact_journal_seconds"
	fmt.Fprintf(w, "# HELP %s time of the journal's writes\n# TYPE %s histogram\n", name, name)
	var n uint64
	for i, c := range j.Syncs[:len(j.Syncs)-1] {
		n += c
		fmt.Fprintf(w, "%s_bucket{le=\"%g\"} %d\n", name, float64(uint64(1)<<i)/1e6, n)
	}
	n += j.Syncs[len(j.Syncs)-1]
	fmt.Fprintf(w, "%s_bucket{le=\"+Inf\"} %d\n%s_sum %g\n%s_count %d\n",
		name, n, name, j.Total.Seconds(), name, n)
}

// writeCommits writes the histogram of commit times.
func writeCommits(w io.Writer, s *storage.StoreStats) {
	const name = "tact_commit_seconds"
	fmt.Fprintf(w, "# HELP %s time of synced commits\n# TYPE %s histogram\n", name, name)
	var n uint64
	for i, bound := range storage.CommitBuckets() {
		n += s.CommitCounts[i]
		fmt.Fprintf(w, "%s_bucket{le=\"%g\"} %d\n", name, float64(bound)/1e6, n)
	}
	n += s.CommitCounts[len(s.CommitCounts)-1]
	fmt.Fprintf(w, "%s_bucket{le=\"+Inf\"} %d\n%s_sum %g\n%s_count %d\n",
		name, n, name, s.CommitSum.Seconds(), name, n)
}

// Waited returns how many decisions have waited for the disk, by storage.WaitCause:
// the first thing that each waited for.
func (e *Engine) Waited() (n [storage.WaitCauses]uint64) {
	for i := range n {
		n[i] = e.counters.waited[i].n.Load()
	}
	return n
}

// StoreStats returns the store's own figures, for benchmarks and checks.
func (e *Engine) StoreStats() storage.StoreStats { return e.store.Stats() }

// CheckStore compares rows, indexes, bitmaps, counters and disk of every group.
func (e *Engine) CheckStore() error { return e.store.Check() }
