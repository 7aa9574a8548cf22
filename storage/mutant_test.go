package storage

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"

	"tact/storage/lossy"
)

// A disk is the content of every file of a store, and of its ring.
type disk map[string][]byte

const diskRing = "ring"

// takeDisk copies what lies on fs, and the ring.
func takeDisk(fs *lossy.FS, ring *ringMemory) (disk, error) {
	d := disk{}
	for _, dir := range []string{"store", "store/db", "store/log"} {
		names, err := fs.List(dir)
		if errors.Is(err, os.ErrNotExist) && dir == "store/log" {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			path := dir + "/" + name
			info, err := fs.Stat(path)
			if err != nil {
				return nil, err
			}
			if info.IsDir() || name == fileLock {
				continue
			}
			if d[path], err = readFile(fs, path); err != nil {
				return nil, err
			}
		}
	}
	if ring != nil {
		d[diskRing] = bytes.Clone(ring.mem)
	}
	return d, nil
}

// lay puts d on a new file system.
func (d disk) lay() (*lossy.FS, *ringMemory, error) {
	fs, ring := lossy.New(), &ringMemory{}
	if err := errors.Join(fs.MkdirAll("store/db", 0o755), fs.MkdirAll("store/log", 0o755)); err != nil {
		return nil, nil, err
	}
	for path, content := range d {
		if path == diskRing {
			ring.mem = bytes.Clone(content)
			continue
		}
		f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, nil, err
		}
		_, err = f.Write(bytes.Clone(content)) // under the race detector Pebble's Write spoils it
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return nil, nil, err
		}
	}
	return fs, ring, nil
}

func (d disk) clone() disk {
	c := disk{}
	for path, content := range d {
		c[path] = bytes.Clone(content)
	}
	return c
}

// changed names a file of d that fs lacks or holds otherwise, "" when none.
func (d disk) changed(fs *lossy.FS) string {
	for path, content := range d {
		if path == diskRing {
			continue
		}
		got, err := readFile(fs, path)
		if err != nil {
			return path + ": " + err.Error()
		}
		if !bytes.Equal(got, content) {
			return path + " was changed"
		}
	}
	return ""
}

// original is a store as it was left, by a kill or by a clean end, an earlier
// state of its files, and what it tells when it is opened.
type original struct {
	kind  string
	files disk
	stale disk
	tells string
}

func mutantOptions(ring *ringMemory) Options {
	o := simOptions()
	o.Logger = slog.New(slog.DiscardHandler)
	o.JournalSlots = 64
	o.hooks.memTable = 128 << 10
	o.hooks.shm = ring
	return o
}

// makeOriginals plays four lives of a store and keeps what it leaves.
func makeOriginals(seed uint64) ([]original, error) {
	o := mutantOptions(&ringMemory{})
	fs, ring := lossy.New(), o.hooks.shm.(*ringMemory)
	sim := newSimulation(seed, o)
	var states []disk
	for life := range 4 {
		o.FS = fs
		if life == 3 {
			// The last grants lie in the journal alone, the last records in one log.
			o.BoundedMax, o.FlushEvery, o.PurgeEvery = time.Hour, time.Hour, time.Hour
		}
		s, err := Open("store", o)
		if err != nil {
			return nil, err
		}
		if life > 0 {
			sim.groups[0].logFloor(s.groups[0])
		}
		if err := originalLife(sim, s, life); err != nil {
			return nil, err
		}
		if life < 3 {
			if err := settle(s); err != nil {
				return nil, err
			}
		}
		// At one moment: the store goes on, and deletes tables meanwhile.
		killed, err := takeDisk(fs.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(seed, 0)),
		}), ring.copy(s))
		if err != nil {
			return nil, err
		}
		if err := s.Close(); err != nil {
			return nil, err
		}
		closed, err := takeDisk(fs, nil)
		if err != nil {
			return nil, err
		}
		states = append(states, killed, closed)
	}
	n := len(states)
	list := []original{
		{kind: "killed", files: states[n-2], stale: states[n-4]},
		{kind: "closed", files: states[n-1], stale: states[n-2]},
		{kind: "killed early", files: states[2], stale: states[1]},
	}
	for i := range list {
		var err error
		if list[i].tells, err = tellDisk(list[i].files); err != nil {
			return nil, fmt.Errorf("%s, nothing damaged: %w", list[i].kind, err)
		}
	}
	return list, nil
}

// settle waits until all is durable: damage to a record that is still being synced at
// the kill would be a loss that nobody was promised to hear of.
func settle(s *Store) error {
	for _, g := range s.groups {
		g.Lock()
		last := g.LastFrame()
		g.Unlock()
		if err := s.Wait(g.id, last, 0); err != nil {
			return err
		}
	}
	return nil
}

// originalLife writes a little of everything. People of the second group are
// made by hand; the generator owns the first.
func originalLife(sim *simulation, s *Store, life int) error {
	if err := sim.groups[0].write(s, s.groups[0], 60, nil); err != nil {
		return err
	}
	doc := Doc{fmt.Sprint("doc/", life), bytes.Repeat([]byte{byte(life)}, 700)}
	if err := s.PutDoc(doc); err != nil {
		return err
	}
	var hashes [][16]byte
	for i := range 40 {
		hashes = append(hashes, [16]byte{byte(i * 5), byte(life), 7})
	}
	list, err := s.Intern(DictList, "complaints")
	if err != nil {
		return err
	}
	if _, err := s.EditList(&ListEdit{List: list, Add: hashes}); err != nil {
		return err
	}
	g := s.groups[1]
	var frame uint64
	var ords []Ord
	for i := 0; len(ords) < 6; i++ {
		id := fmt.Appendf(nil, "hand-%d-%d", life, i)
		slot := s.SlotOf(1, id)
		if s.GroupOf(slot) != g {
			continue
		}
		g.Lock()
		person, ord := g.NextPerson()
		e := Effect{Kind: EffectCreate, Ord: ord, Time: s.HighWater(), Create: CreateEffect{
			Workspace: 1, Slot: slot, Person: person, ID: id, IDHash: s.IndexHash(1, id), Key: g.NewKey(),
		}}
		frame, err = g.Append(&e)
		g.Unlock()
		if err != nil {
			return err
		}
		ords = append(ords, ord)
	}
	if err := s.Wait(1, frame, 0); err != nil {
		return err
	}
	for i, ord := range ords {
		if err := grantSafely(s, g, ord, Name(i+1)); err != nil {
			return err
		}
	}
	time.Sleep(20 * time.Millisecond) // a pass of the flusher
	return nil
}

func grantSafely(s *Store, g *Group, ord Ord, cap Name) error {
	g.Lock()
	now := secondOf(s.HighWater())
	e := Effect{Kind: EffectReserve, Ord: ord, Time: s.HighWater(), Reserve: ReserveEffect{
		ID: g.NextReservation(), Granted: now, Expires: now + 600, Grace: 300,
		Keys: []HeldKey{personKey(cap)},
	}}
	_, ticket, err := g.Reserve(&e, WaitNone)
	g.Unlock()
	if err != nil {
		return err
	}
	return s.WaitTicket(g.id, ticket, 0)
}

// tellDisk opens what lies on a disk and says what it holds: all of it.
func tellDisk(d disk) (string, error) {
	fs, ring, err := d.lay()
	if err != nil {
		return "", err
	}
	text, _, err := tellFolder(fs, ring)
	return text, err
}

func tellFolder(fs *lossy.FS, ring *ringMemory) (text string, opened bool, err error) {
	o := mutantOptions(ring)
	o.FS = fs
	s, err := Open("store", o)
	if err != nil {
		return "", false, err
	}
	if text, err = tellStore(s); err == nil {
		err = s.Check()
	}
	return text, true, errors.Join(err, s.Close())
}

// tellStore says everything that a store holds, in a few lines.
func tellStore(s *Store) (string, error) {
	var b strings.Builder
	for _, g := range s.groups {
		g.Lock()
		sum, err := g.mu.state.checksum()
		high := g.high.Load()
		g.Unlock()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "group %d: state %016x at %d\n", g.id, sum, high)
	}
	for _, decisions := range []bool{false, true} {
		effects, count := make([]*xxh3.Hasher, len(s.groups)), 0
		for i := range effects {
			effects[i] = xxh3.New()
		}
		err := s.ScanLog(&LogQuery{Decisions: decisions, Personal: true}, func(e *LogEntry) error {
			if e.Epoch >= s.epoch {
				return nil // what this start wrote is no part of what was left
			}
			count++
			text := fmt.Appendf(nil, "%d %d %d %d %v", e.Frame, e.Effect.Kind, e.Effect.Ord,
				e.Effect.Time, e.Lost)
			if !e.Lost { // what is left of such an event depends on whether the logger has passed
				text = appendPersonal(appendClear(text, &e.Effect), &e.Effect)
			}
			_, _ = effects[e.Group].Write(text) // a hash takes everything
			return nil
		})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%d effects:", count)
		for _, h := range effects {
			fmt.Fprintf(&b, " %016x", h.Sum64())
		}
		b.WriteByte('\n')
	}
	err := s.ScanDocs("", func(key string, value []byte) bool {
		fmt.Fprintf(&b, "doc %s %016x\n", key, xxh3.Hash(value))
		return true
	})
	for _, l := range s.lists.view() {
		hashes := xxh3.New()
		for i := range 256 {
			for life := range 5 {
				if s.Listed([16]byte{byte(i), byte(life), 7}) {
					_, _ = hashes.Write([]byte{byte(i), byte(life)}) // a hash takes everything
				}
			}
		}
		fmt.Fprintf(&b, "list %d: %d, %016x\n", l.list, l.set.Len(), hashes.Sum64())
	}
	for k := range s.dict.kinds {
		fmt.Fprintf(&b, "names %d: %v\n", k, s.NamesOf(DictKind(k)))
	}
	totals := s.TotalCounts()
	slices.SortFunc(totals, func(a, b TotalCount) int {
		return strings.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key))
	})
	fmt.Fprintf(&b, "totals %v\nincident %v\n", totals, s.Stats().Journal.Incident)
	return b.String(), err
}

// A mutation is damage to one file, or to two that are swapped.
type mutation struct {
	kind, class string
	what        string // "": it cannot be done to what was drawn
}

// mutationKinds are drawn alike, but for flips, which are drawn twice as often.
func mutationKinds() []string {
	return []string{
		"flip", "flip", "zeros", "noise", "cut", "delete", "swap", "swap far", "stale", "moved", "marker",
	}
}

// mutate damages d and says how.
func mutate(rng *rand.Rand, d, stale disk) mutation {
	classes := map[string][]string{}
	for _, path := range slices.Sorted(maps.Keys(d)) {
		classes[class(path)] = append(classes[class(path)], path)
	}
	of := slices.Sorted(maps.Keys(classes))
	for {
		names := classes[of[rng.IntN(len(of))]]
		kinds := mutationKinds()
		m := mutation{kind: kinds[rng.IntN(len(kinds))]}
		path := names[rng.IntN(len(names))]
		m.class = class(path)
		switch m.kind {
		case "flip", "zeros", "noise", "cut", "moved":
			m.what = damageBytes(rng, m.kind, d, path)
		case "delete":
			if path != diskRing {
				delete(d, path)
				m.what = path + ": deleted"
			}
		case "swap", "swap far":
			if m.kind == "swap far" { // with a file of another class
				names = classes[of[rng.IntN(len(of))]]
			}
			other := names[rng.IntN(len(names))]
			if !bytes.Equal(d[path], d[other]) && !witnessed(path, other) && !witnessed(other, path) {
				d[path], d[other] = d[other], d[path]
				m.what = fmt.Sprintf("%s and %s swapped", path, other)
			}
		case "stale":
			m.what = staleFile(rng, d, stale, path)
		case "marker":
			if m.class == "marker" {
				m.what = staleMarker(d, stale)
			}
		}
		if m.what != "" {
			return m
		}
	}
}

// witnessed tells whether one file is the only one that knows the last half second of
// the other: damage to both is what a loss of power leaves.
func witnessed(log, witness string) bool {
	return class(witness) == "witness" && (class(log) == ".log" || class(log) == "journal")
}

// damageBytes damages bytes of a file; "" when it has none.
func damageBytes(rng *rand.Rand, kind string, d disk, path string) string {
	b := d[path]
	if len(b) == 0 {
		return ""
	}
	lo := rng.IntN(len(b))
	if kind == "flip" {
		bit := rng.IntN(8)
		b[lo] ^= 1 << bit
		return fmt.Sprintf("%s: bit %d of byte %d of %d flipped", path, bit, lo, len(b))
	}
	if kind == "cut" {
		d[path] = b[:lo]
		return fmt.Sprintf("%s: cut from %d to %d bytes", path, len(b), lo)
	}
	if rng.IntN(2) == 0 {
		lo = lo / 512 * 512
	}
	hi := min(len(b), lo+[]int{1, 16, 512, 4096}[rng.IntN(4)])
	switch kind {
	case "zeros":
		clear(b[lo:hi])
	case "noise":
		for i := lo; i < hi; i++ {
			b[i] = byte(rng.Uint32())
		}
	default:
		to := rng.IntN(max(1, len(b)-(hi-lo)))
		copy(b[to:], bytes.Clone(b[lo:hi]))
		return fmt.Sprintf("%s: bytes %d to %d of %d also written to %d", path, lo, hi, len(b), to)
	}
	return fmt.Sprintf("%s: %s in bytes %d to %d of %d", path, kind, lo, hi, len(b))
}

// staleFile puts an older file in the place of one: the same as it was earlier, or
// another of its class.
func staleFile(rng *rand.Rand, d, stale disk, path string) string {
	from := path
	if _, ok := stale[path]; !ok || rng.IntN(3) == 0 {
		var all []string
		for other := range stale {
			if class(other) == class(path) {
				all = append(all, other)
			}
		}
		if len(all) == 0 {
			return ""
		}
		slices.Sort(all)
		from = all[rng.IntN(len(all))]
	}
	if bytes.Equal(stale[from], d[path]) {
		return ""
	}
	n := len(d[path])
	d[path] = bytes.Clone(stale[from])
	return fmt.Sprintf("%s: %s of earlier, %d bytes for %d", path, from, len(d[path]), n)
}

// staleMarker makes the MANIFEST before the current one the current one, as an
// older copy of the folder's names would; "" when there is no other.
func staleMarker(d, stale disk) string {
	var marker string
	var all []string
	for path := range d {
		if strings.HasPrefix(path, "store/db/marker.manifest.") {
			marker = path
		}
	}
	for path := range stale {
		if strings.HasPrefix(path, "store/db/MANIFEST-") && !strings.HasSuffix(marker, path[9:]) {
			all = append(all, path)
		}
	}
	if len(all) == 0 {
		return ""
	}
	manifest := slices.Max(all)
	if d[manifest] == nil {
		d[manifest] = bytes.Clone(stale[manifest])
	}
	delete(d, marker)
	d["store/db/marker.manifest.000999."+manifest[len("store/db/"):]] = nil
	return marker + ": names " + manifest
}

// class is the kind of a file.
func class(path string) string {
	name := path[strings.LastIndex(path, "/")+1:]
	switch {
	case strings.HasSuffix(name, ".log"), strings.HasSuffix(name, ".sst"):
		return name[len(name)-4:]
	}
	kind, _, _ := strings.Cut(name, "-")
	kind, _, _ = strings.Cut(kind, ".")
	return kind
}

// mutantTrial makes one mutant. A fault of it is named by its seed.
func mutantTrial(seed uint64, originals map[uint64][]original) string {
	base := seed / 500
	list := originals[base]
	if list == nil {
		var err error
		if list, err = makeOriginals(base); err != nil {
			return "FAULT original: " + err.Error()
		}
		clear(originals)
		originals[base] = list
	}
	rng := rand.New(rand.NewPCG(seed, 17))
	o := list[rng.IntN(len(list))]
	d := o.files.clone()
	what := o.kind + ": " + mutate(rng, d, o.stale).what
	return judgeMutant(what, d, o.tells)
}

// Every kind of damage is done to every class of file that it can be done to.
func TestMutantsCoverEveryFile(t *testing.T) {
	list, err := makeOriginals(1)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 18))
	seen := map[mutation]int{}
	for i := range 6000 {
		o := list[i%len(list)]
		m := mutate(rng, o.files.clone(), o.stale)
		seen[mutation{kind: m.kind, class: m.class}]++
	}
	never := map[mutation]bool{
		// One file, or all alike: there is nothing to swap it with, no older one that
		// differs. The ring is memory; a marker is a name without bytes.
		{kind: "swap", class: "OPTIONS"}: true, {kind: "swap", class: "witness"}: true,
		{kind: "swap", class: diskRing}: true, {kind: "delete", class: diskRing}: true,
		{kind: "swap", class: ".log"}: true, {kind: "swap", class: "journal"}: true,
		{kind: "stale", class: "OPTIONS"}: true,
	}
	for _, class := range []string{
		".log", ".sst", "MANIFEST", "OPTIONS", "sidecar", "witness", "journal", "effects", "decisions",
		diskRing,
	} {
		for _, kind := range mutationKinds() {
			if m := (mutation{kind: kind, class: class}); seen[m] == 0 && !never[m] && kind != "marker" {
				t.Errorf("%s of %s: never", kind, class)
			}
		}
	}
	if seen[mutation{kind: "marker", class: "marker"}] == 0 {
		t.Error("no MANIFEST of before is made the current one")
	}
	t.Logf("%d kinds of damage by class of file", len(seen))
}

// judgeMutant opens a damaged disk. It is refused with a class, and then nothing
// on it has changed; or it tells what the original told, also at the next start.
func judgeMutant(what string, d disk, tells string) string {
	fs, ring, err := d.lay()
	if err != nil {
		return "FAULT " + err.Error()
	}
	o := mutantOptions(ring)
	o.FS = fs
	found, err := Examine("store", o, nil)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Sprintf("FAULT %s: examine: %v", what, err)
	}
	if changed := d.changed(fs); changed != "" {
		return fmt.Sprintf("FAULT %s: examined, and %s", what, changed)
	}
	got, opened, err := tellFolder(fs, ring)
	if found != nil && err != nil && !found.Damaged() {
		return fmt.Sprintf("FAULT %s: examined: %+v, opened: %v", what, found.Findings, err)
	}
	refused := errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNewerFormat) ||
		errors.Is(err, ErrRolledBack)
	switch {
	case err != nil && !refused:
		return fmt.Sprintf("FAULT %s: an error without a class: %v", what, err)
	case !opened:
		if changed := d.changed(fs); changed != "" {
			return fmt.Sprintf("FAULT %s: refused (%v), but %s", what, err, changed)
		}
		return "refused " + what
	case err != nil:
		return "loud " + what + ": " + err.Error()
	case strings.Contains(got, "incident true") && strings.Contains(tells, "incident false"):
		return "incident " + what
	case got != tells:
		return fmt.Sprintf("FAULT %s: opens and tells\n%s\nwant\n%s", what, got, tells)
	}
	if _, _, err = tellFolder(fs, ring); err != nil {
		return fmt.Sprintf("FAULT %s: the second start: %v", what, err)
	}
	if found != nil && found.Damaged() { // in what nothing reads: a superseded entry
		return "dormant " + what
	}
	return "harmless " + what
}

// Damage to any file is refused, told loudly, or without effect: never is
// anything silently wrong or missing, and nothing is changed after a refusal.
// TACT_EFFORT=1 makes 10,000 mutants; TACT_SEED=n begins elsewhere.
func TestMutants(t *testing.T) {
	originals := map[uint64][]original{}
	trial := func(i int) string { return mutantTrial(uint64(i), originals) }
	if childTrials("mutants", trial) {
		return
	}
	run := runTrials(t, "mutants", int(firstSeed(t)), trials(t, 10_000, 0.01), 100)
	run.report(t, "mutants")
}
