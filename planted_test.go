package tact_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A plantedBug is a change of one file that breaks a law, and the suite that must
// see it.
type plantedBug struct {
	law      string
	file     string
	old, bad string // old stands in the file exactly once
	pkg, run string // go test -run
	quick    bool   // played without TACT_EFFORT too
}

// plantedBugs break what caps and the journal promise (docs/caps.md, docs/journal.md).
func plantedBugs() []plantedBug {
	const (
		journal = "./storage/journal"
		store   = "./storage"
		engine  = "./engine"
	)
	return []plantedBug{
		{
			law: "A1: no answer before the lease is durable", file: "storage/journal/lease.go",
			old: "		return now < l.Before\n", bad: "		return now < l.End\n",
			pkg: journal, run: "TestSimulation", quick: true,
		},
		{
			law: "J1: a record is taken with its checksum only", file: "storage/journal/record.go",
			old: "if !trusting && le.Uint32(slot) != sum(salt, slot[4:recordHead+n]) {",
			bad: "if false && le.Uint32(slot) != sum(salt, slot[4:recordHead+n]) {",
			pkg: journal, run: "TestSimulation",
		},
		{
			law: "J3: a slot is used again when its frame is durable", file: "storage/journal/journal.go",
			old: "full := j.mu.tail-j.mu.water >= uint64(j.o.Slots)", bad: "full := false",
			pkg: journal, run: "TestSimulation",
		},
		{
			law: "J5: a sync is credited with what was stored before it", file: "storage/journal/writer.go",
			old: "	if j.o.bugs.creditLater {\n", bad: "	if true {\n",
			pkg: journal, run: "TestSimulation",
		},
		{
			law: "R4: the stand-in is not forgotten", file: "storage/contact_lease.go",
			old: "	if tr == nil || t.certain {\n", bad: "	if true || t.certain {\n",
			pkg: engine, run: "TestLinearizable",
		},
		{
			law: "R3: an incident is not ignored", file: "storage/carrier.go",
			old: "		if !c.rec.Harmless {\n			e.Incident", bad: "		if false {\n			e.Incident",
			pkg: engine, run: "TestLinearizable",
		},
		{
			law: "U1: a pending use is dated at its latest moment", file: "storage/contact.go",
			old: "n == 0 || h.Expires() <= since || !h.Live(t) ||",
			bad: "n == 0 || h.Granted() <= since || !h.Live(t) ||",
			pkg: store, run: "TestCapsOverCrashes",
		},
		{
			law: "a ring's oldest use counts", file: "storage/contact_ring.go",
			old: "i >= 0 && r.time(i) > since; i-- {\n			u.add",
			bad: "i > 0 && r.time(i) > since; i-- {\n			u.add",
			pkg: engine, run: "TestLinearizable",
		},
		{
			law: "a late confirm takes its own place in the ring", file: "storage/contact_edit.go",
			old: "	for i > 0 && r.time(i-1) > use {\n		i--\n	}\n", bad: "",
			pkg: store, run: "TestHeldUsePushesNothingOut|TestStateEqualsModel",
		},
		{
			law: "T3: nothing expires early after a start", file: "storage/contact_held.go",
			old: "	if granted <= floor && expires >= granted {\n", bad: "	if false {\n",
			pkg: store, run: "TestFloorGivesTheLifeAgain",
		},
		{
			law: "a request that is sent again is not decided anew", file: "storage/contact_edit.go",
			old: "	d.requests = append(d.requests, e.ID[:]...)\n",
			bad: "	d.requests = append(d.requests, e.ID[:]...)\n	d.requests = d.requests[:0]\n",
			pkg: engine, run: "TestLinearizable",
		},
		{
			law: "a decision that holds a use outlives its frame", file: "storage/grant.go",
			old: "	number, why := g.carryDecision(e, frame)\n",
			bad: "	number, why := held.Record+1, WaitNone\n",
			pkg: engine, run: "TestLinearizable|TestEnginePowerLoss",
		},
		{
			law: "a reservation is released once", file: "storage/contact_edit.go",
			old: "	d.opens--\n}\n", bad: "	d.opens--\n	d.given = append(d.given, d.given...)\n}\n",
			pkg: store, run: "TestExpireHoldsGivesBack",
		},
		{
			law: "a total is given back once", file: "storage/apply_contact.go",
			old: "		s.share.give(k)\n	}\n	for i := range d.moved {",
			bad: "		s.share.give(k)\n		s.share.give(k)\n	}\n	for i := range d.moved {",
			pkg: store, run: "TestExpireHoldsGivesBack",
		},
		{
			law: "J6: a record is judged by the floor it was made under", file: "storage/carrier.go",
			old: "		err := s.recarry(g)\n		if err == nil {\n" +
				"			g.sealLocked() // the new floor begins behind them\n			_, err = g.Append(&e)\n",
			bad: "		_, err := g.Append(&e)\n		if err == nil {\n			err = s.recarry(g)\n",
			pkg: store, run: "TestRecordsKeepTheirFloor",
		},
		{
			law: "R7: what a copy does not know counts", file: "storage/rollback.go",
			old: "	if t.blind == 0 {\n", bad: "	if t.blind >= 0 {\n",
			pkg: store, run: "TestOlderCopyNeedsAPolicy",
		},
		{
			law: "R7: an older copy waits for a policy", file: "storage/rollback.go",
			old: "	if p != CapsProtect && p != CapsTrust {\n", bad: "	if p > CapsTrust {\n",
			pkg: store, run: "TestOlderCopyNeedsAPolicy",
		},
		{
			law: "X4: a survivor counts what it has taken in", file: "storage/contact_origin.go",
			old: "		d.insertTagged(r, to, end)\n", bad: "		_, _ = to, end\n",
			pkg: store, run: "TestMergesOverCrashes",
		},
		{
			law:  "X4: two people who may have lost a use keep a stand-in each",
			file: "storage/contact_origin.go",
			old:  "		if again {\n", bad: "		if again || true {\n",
			pkg: store, run: "TestMergeKeepsBothStandIns",
		},
		{
			law:  "X4: a lost reservation is known to whoever has taken its person in",
			file: "storage/incident.go",
			old:  "	of := s.incidents[id.Number>>48%uint64(len(s.incidents))]\n",
			bad:  "	of := s.incidents[len(s.incidents)-1]\n",
			pkg:  store, run: "TestMergeKeepsBothStandIns",
		},
		{
			law: "a merge moves nothing twice", file: "storage/merge.go",
			old: "	wait[0], err = a.Append(&cede)\n", bad: "	wait[0] = wait[1]\n",
			pkg: store, run: "TestMergesOverCrashes|TestMergeContacts",
		},
		{
			law: "a reload takes no second use", file: "engine/decide/cap_keys.go",
			old: "u.holds && !r.keeping {\n", bad: "u.holds {\n",
			pkg: engine, run: "TestLinearizable",
		},
		{
			law: "an item is accepted once", file: "engine/outcome_count.go",
			old: "	if counted && f.on == definition.CountAccept {\n",
			bad: "	if false && counted && f.on == definition.CountAccept {\n",
			pkg: engine, run: "TestAcceptOfAnItemCountsOnce",
		},
	}
}

// TestPlantedBugs breaks one law after the other in a copy of one file, which the
// compiler takes instead of the file, and runs the suite named: it must fail, by a
// test and not by the build. Without TACT_EFFORT every change is looked up in the
// source and one is played; the whole takes some twenty minutes:
//
//	TACT_EFFORT=1 go test -run TestPlantedBugs -timeout 60m .
func TestPlantedBugs(t *testing.T) {
	effort, _ := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64)
	for _, b := range slices.Concat(plantedBugs(), plantedRules(), plantedStore()) {
		source, err := os.ReadFile(b.file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), b.old); n != 1 {
			t.Errorf("%s: %d places in %s, want 1", b.law, n, b.file)
			continue
		}
		if effort < 0.1 && (!b.quick || testing.Short()) {
			continue
		}
		t.Run(b.law, func(t *testing.T) { b.play(t, string(source)) })
	}
}

func (b *plantedBug) play(t *testing.T, source string) {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go tool here: ", err)
	}
	overlay := b.overlay(t, source)
	cmd := exec.Command(tool, "test", "-overlay", overlay, "-count=1", "-timeout", "5m",
		"-run", "^("+b.run+")$", b.pkg)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TACT_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	said, err := cmd.CombinedOutput()
	seen := regexp.MustCompile(`(?m)^\s*--- FAIL: .*|^panic: .*`).Find(said)
	if err == nil || seen == nil {
		t.Fatalf("%s %s does not see it: %v\n%s", b.pkg, b.run, err, said)
	}
	t.Logf("%s %s: %s", b.pkg, b.run, firstLine(said, seen))
}

// firstLine is what the failing test said first.
func firstLine(said, after []byte) string {
	_, rest, _ := strings.Cut(string(said), string(after))
	line, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	return strings.TrimSpace(string(after)) + " " + line
}

// overlay writes the broken copy and the list that names it.
func (b *plantedBug) overlay(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	copied, list := filepath.Join(dir, "copy.go"), filepath.Join(dir, "overlay.json")
	file, err := filepath.Abs(b.file)
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: copied}})
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(source, b.old, b.bad, 1)
	for name, content := range map[string]string{copied: broken, list: string(replace)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(fmt.Errorf("overlay: %w", err))
		}
	}
	return list
}
