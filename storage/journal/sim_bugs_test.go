package journal

import "testing"

// planted is one broken law and how soon the simulator meets it.
type planted struct {
	name  string
	bugs  bugs
	rows  simBugs
	seeds uint64 // within which it is seen; above 1,000 only in the long suite
}

func plantedBugs() []planted {
	return []planted{
		{name: "phantom forgotten", seeds: 1000, rows: simBugs{phantomForgotten: true}},
		{name: "phantom dated at M", seeds: 1000, rows: simBugs{phantomAtMark: true}},
		{name: "phantom without life", seeds: 20000, rows: simBugs{phantomWithoutLife: true}},
		{name: "pending dated at grant", seeds: 1000, rows: simBugs{pendingAtGrant: true}},
		{name: "confirm acked before durable", seeds: 1000, rows: simBugs{ackEarly: true}},
		{name: "no grace after boot", seeds: 1000, rows: simBugs{noGraceAfterBoot: true}},
		{name: "expiry by wall clock only", seeds: 1000, rows: simBugs{expiryByWall: true}},
		{name: "lost reservation's confirm dropped", seeds: 1000, rows: simBugs{lostConfirmDropped: true}},
		{name: "lease renewed over an uncharged incident", seeds: 1000, rows: simBugs{leaseOverUncharged: true}},
		{name: "any late confirm takes the phantom", seeds: 400000, rows: simBugs{lateTakesPhantom: true}},
		{name: "clean mark before the final sync", seeds: 1000, rows: simBugs{cleanEarly: true}},
		{name: "client's life from stepped clock", seeds: 100000, rows: simBugs{lifeFromSteppedClock: true}},
		{name: "boot id alone decides", seeds: 1000, rows: simBugs{bootAlone: true}},
		{name: "no checksum", seeds: 1000, bugs: bugs{noChecksum: true}},
		{name: "no epoch in numbers", seeds: 1000, bugs: bugs{noEpoch: true}},
		{name: "lease durable only after the reply", seeds: 1000, bugs: bugs{leaseEarly: true}},
		{name: "two un-synced answered per key", seeds: 5000, bugs: bugs{twoUnsynced: true}},
		{name: "two uses of a key in one un-synced record", seeds: 5000, bugs: bugs{twoUses: true}},
		{name: "sync credited with stores made during it", seeds: 1000, bugs: bugs{creditLater: true}},
		{name: "slot reused before rows durable", seeds: 2000, bugs: bugs{reuseEarly: true}},
		{name: "watermark over an unflushed row", seeds: 1000, bugs: bugs{waterEarly: true}},
		{name: "high-water behind, not ahead", seeds: 200000, bugs: bugs{aheadBehind: true}},
		{name: "lease judged at boot time", seeds: 1000, bugs: bugs{leaseAtBoot: true}},
		{name: "D = highest instead of gap-free", seeds: 1000, bugs: bugs{knownHighest: true}},
	}
}

// TestPlantedBugs breaks one law after the other: the simulator sees it within
// the stated number of seeds. The rare ones wait for the long suite.
func TestPlantedBugs(t *testing.T) {
	_, long := effort(t)
	for _, p := range plantedBugs() {
		if p.seeds > 1000 && !long {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for seed := range p.seeds {
				if fault, _ := runSeed(seed, p.bugs, p.rows); fault != "" {
					t.Logf("seed %d: %s", seed, fault)
					return
				}
			}
			t.Errorf("not seen in %d seeds", p.seeds)
		})
	}
}
