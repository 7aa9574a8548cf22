package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"

	"tact/storage"
	"tact/storage/lossy"
)

// A store of every format that main ever wrote lies in testdata/stores: what was
// on the disk, once after a clean end and once after a kill, and beside it in
// words what a reader is told of it. The newest code must open each and tell the
// same. TACT_FIXTURE=name writes a new one with the code as it is: never write
// an old name anew.
//
//	1  rows, caps, journal, lists, segments; before there was an event log: nothing
//	   was ever trimmed of its frames
//	2  the same with an event log of several segments, trimmed frames, a tail of
//	   frames in no block, and reservations that a reload is given again
//	3  frames with the round of their commit, by which a restore cuts all groups at one
//	4  events that lie beside their person's history, reservations that are one record of
//	   the journal with their decision
//	5  parts that are sealed with ChaCha20-Poly1305
const fixtureFolder = "testdata/stores"

const fixtureSegments = `
---
{kind: segment, id: chosen, members: static}
---
{kind: segment, id: even, rule: {attribute: n, in: [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]}}
---
{kind: segment, id: followed, rule: {tag: stage, is: "1"}, track: true}
`

// fixtureMachine has the clock under which a fixture is opened.
func fixtureMachine() *machine { return &machine{wall: 1_790_100_000_000, mono: 1} }

func TestStoreFixtures(t *testing.T) {
	if name := os.Getenv("TACT_FIXTURE"); name != "" {
		writeFixture(t, name)
	}
	archives, err := filepath.Glob(fixtureFolder + "/*.tar.gz")
	if err != nil || len(archives) < 10 {
		t.Fatalf("fixtures: %v %v", archives, err)
	}
	for _, archive := range archives {
		words, err := os.ReadFile(strings.TrimSuffix(archive, ".tar.gz") + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		fs := vfs.NewMem()
		if err := unpack(archive, fs); err != nil {
			t.Fatalf("%s: %v", archive, err)
		}
		again := ""
		for round := range 2 { // as found, and as the newest code has left it
			e, err := openFixture(fs, "")
			if err != nil {
				t.Fatalf("%s, start %d: %v", archive, round+1, err)
			}
			got := tellStore(t, e)
			if !strings.HasPrefix(filepath.Base(archive), "1-") {
				got += tellLog(t, e)
			}
			last := "" // a decision, so what is asked at the very end
			if at := strings.LastIndex(string(words), "\nagain "); at >= 0 {
				words, last = words[:at+1], string(words[at+1:])
			}
			if got != string(words) {
				t.Errorf("%s, start %d:\n%s\nwant:\n%s", archive, round+1, got, words)
			}
			if again = last + again; round == 1 && again != "" {
				if got := tellAgain(t, e); got != again {
					t.Errorf("%s: a reload is given %q, want %q", archive, got, again)
				}
			}
			if err := errors.Join(e.CheckStore(), e.Close()); err != nil {
				t.Errorf("%s: %v", archive, err)
			}
		}
	}
}

func openFixture(fs vfs.FS, ring string) (*Engine, error) {
	return Open("store", Options{Read: fixtureMachine().read, Storage: storage.Options{
		Groups: 2, FS: fs, RingDir: ring, JournalSlots: 64,
	}})
}

// writeFixture plays a client against an engine and packs what is on the disk
// twice: while it runs, as after a kill, and when it has ended.
func writeFixture(t *testing.T, name string) {
	l := newLoss(7)
	m := fixtureMachine()
	l.m.wall = m.wall - 3600_000
	var err error
	if l.e, err = Open("store", Options{Read: l.m.read, Storage: storage.Options{
		Groups: 2, FS: l.fs, JournalSlots: 64, FlushEvery: 20 * time.Millisecond, LogSegment: 4 << 10,
	}}); err != nil {
		t.Fatal(err)
	}
	files := testFiles(fmt.Sprintf(lossWorld, 2, 3, "hold") + fixtureSegments)
	if _, faults, _, err := l.e.Publish(files, "test", "fixture", 0); err != nil || len(faults) > 0 {
		t.Fatal(err, faults)
	}
	b := &bed{t: t, fs: l.fs, m: l.m, e: l.e}
	for i := range l.users {
		b.user(*l.userDoc(&l.users[i], i))
	}
	b.user(UserDoc{
		UserID: []byte("eve"), HasLocale: true, Locale: []byte("zh-CN"),
		Consents: []ConsentDoc{{
			Purpose: []byte("marketing"), Channel: []byte("email"), Source: []byte("form"), Granted: true,
		}},
		HasBlacklist: true, Blacklist: [][]byte{[]byte("sms")},
		Addresses: []AddressDoc{{[]byte("email"), [][]byte{[]byte("eve@example.com")}}},
	})
	b.fillOf("chosen", FillReplace, "ann", "eve")
	_, err = l.e.EditList([]byte("complaints"), []ListEntry{
		{Kind: ListEmail, Digest: ListDigest(ListEmail, []byte("eve@example.com"))},
		{Kind: ListUser, Digest: ListDigest(ListUser, []byte("bob"))},
	})
	steps := []func() error{l.decide, l.see, l.see, l.patch, l.event}
	for i := 0; i < 200 && err == nil; i++ {
		if i%60 == 50 {
			time.Sleep(500 * time.Millisecond) // the rows are written, so that frames are trimmed
			err = l.e.store.FlushLog()
		}
		err = errors.Join(err, steps[i%len(steps)]())
		l.m.pass(10 * time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.m.pass(time.Duration(m.wall-l.m.wall) * time.Millisecond)
	if err := l.decide(); err != nil {
		t.Fatal(err)
	}
	again := tellAgain(t, l.e)
	time.Sleep(100 * time.Millisecond) // the records of decisions are durable
	killed := l.clone(100)
	words := tellStore(t, l.e) + tellLog(t, l.e) + again
	if err := l.e.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, fs := range map[string]*lossy.FS{"killed": killed, "closed": l.fs} {
		path := filepath.Join(fixtureFolder, name+"-"+kind)
		err := errors.Join(os.MkdirAll(fixtureFolder, 0o755), pack(fs, path+".tar.gz"),
			os.WriteFile(path+".txt", []byte(words), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tellStore says in words what the store holds, through what an engine tells.
func tellStore(t *testing.T, e *Engine) string {
	t.Helper()
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("revision %d", e.Revision())
	for _, id := range []string{"ann", "bob", "eve"} {
		v, err := e.User([]byte(id))
		if err != nil {
			t.Fatal(err)
		}
		tellUser(say, v)
		for _, offer := range []string{"a", "b", "c"} {
			c, err := e.ContactState([]byte(id), []byte(offer))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range c.Caps {
				say("  %s: cap %s of %q: %d used, %d held, %s", offer, n.CapID, n.Dimension, n.Used,
					len(n.Reserved), n.Reason)
			}
		}
	}
	for _, n := range e.Totals() {
		say("total %s of %q: %d spent, %d held", n.CapID, n.Of, n.Spent, n.Held)
	}
	for _, n := range e.Stats() {
		say("stats %s/%s %q %s: %d %g", n.OfferID, n.TreatmentID, n.Variant, n.What, n.N, n.Value)
	}
	for _, n := range e.Lists() {
		say("list %s: %d entries", n.ID, n.Entries)
	}
	for _, s := range []string{"chosen", "even", "followed"} {
		bed := bed{t: t, e: e}
		say("segment %s: %s", s, bed.members(s))
	}
	return b.String()
}

// tellLog says what the event log and the frames behind it hold: by person what
// happened, and all decisions.
func tellLog(t *testing.T, e *Engine) string {
	t.Helper()
	lines := map[string]string{}
	events, err := e.Events(&EventsQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for v, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		lines[string(v.Person)] += fmt.Sprintf("log %s: %s %s at %d %s %s/%s %s %g\n", v.Person, v.Event,
			v.EventID, v.Occurred, v.Raw, v.Offer, v.Treatment, v.Outcome, v.Value)
	}
	err = e.store.ScanLog(&storage.LogQuery{Decisions: true, Personal: true},
		func(entry *storage.LogEntry) error {
			d := &entry.Effect.Decision
			key := fmt.Sprintf("group %d", entry.Group)
			lines[key] += fmt.Sprintf("log decision %x in frame %d: %016x\n", d.ID, entry.Frame,
				xxh3.Hash(append(slices.Clone(d.Record), d.Personal...)))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		b.WriteString(lines[key])
	}
	return b.String()
}

// tellAgain says what a reload of a page is given: what it holds already.
func tellAgain(t *testing.T, e *Engine) string {
	t.Helper()
	var d Decision
	if err := e.Decide(&DecideRequest{
		UserID: []byte("eve"), Timeout: time.Second,
		Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte("page")}},
	}, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Items) == 0 {
		t.Fatalf("nothing is given to eve: %+v", d.Slots)
	}
	text := "again"
	for _, it := range d.Items {
		text += fmt.Sprintf(" %s until %d as %v", it.OfferID, it.ExpiresAt, it.Reservation)
	}
	return text + "\n"
}

func tellUser(say func(string, ...any), v *UserView) {
	say("user %s, zone %q, locale %q, segments %v, blacklist %v", v.UserID, v.Timezone, v.Locale,
		v.Segments, v.Blacklist)
	for _, i := range v.Identities {
		say("  identity %s %s", i.Type, i.Value)
	}
	for _, a := range v.Attributes {
		say("  attribute %s: %d %q", a.Name, a.Value.Num, a.Value.Bytes)
	}
	for _, tag := range v.Tags {
		say("  tag %s is %q", tag.Tag, tag.Is)
	}
	for _, c := range v.Consents {
		say("  consent %s by %s: %v, from %q", c.Purpose, c.Channel, c.Granted, c.Source)
	}
	for _, a := range v.Addresses {
		say("  address %s %v", a.Channel, a.Values)
	}
	for _, ev := range v.Events {
		props := make([]string, len(ev.Props))
		for i, p := range ev.Props {
			props[i] = fmt.Sprintf("%s=%d", p.Name, p.Value.Num)
		}
		say("  event %s at %d of %q: %s", ev.Event, ev.Occurred, ev.Offer, strings.Join(props, " "))
	}
}

func pack(fs *lossy.FS, path string) error {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	for _, dir := range []string{"store", "store/db", "store/log"} {
		names, err := fs.List(dir)
		if err != nil {
			return err
		}
		slices.Sort(names)
		for _, name := range names {
			if err := packFile(archive, fs, dir+"/"+name); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

func packFile(archive *tar.Writer, fs vfs.FS, name string) error {
	info, err := fs.Stat(name)
	if err != nil || info.IsDir() || strings.HasSuffix(name, "/LOCK") {
		return err
	}
	f, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	err = archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = archive.Write(content)
	}
	return err
}

func unpack(path string, fs vfs.FS) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	zip, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	archive := tar.NewReader(zip)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fs.MkdirAll(filepath.Dir(h.Name), 0o755); err != nil {
			return err
		}
		f, err := fs.Create(h.Name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, archive)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
}
