package storage

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// olderCopyOf is a store's folder as it was before it was started again, and the
// ring that knows of the later start and of a grant in it.
func olderCopyOf(t *testing.T) (old *lossy.FS, ring *ringMemory, o Options) {
	t.Helper()
	fs, ring := lossy.New(), &ringMemory{}
	s, g, ord := carried(t, fs, ring)
	if err := s.WaitTicket(0, hold(t, s, g, ord, personKey(1)), time.Minute); err != nil {
		t.Fatal(err)
	}
	old = fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, g, ord = carried(t, fs, ring)
	if err := s.WaitTicket(0, hold(t, s, g, ord, personKey(1)), time.Minute); err != nil {
		t.Fatal(err)
	}
	left := ring.copy(s).mem
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o = simOptions()
	o.Groups, o.JournalSlots, o.FS = 1, 64, old
	ring = &ringMemory{mem: left}
	o.hooks.shm = ring
	return old, ring, o
}

// A store whose ring knows a later start is refused until it is said what becomes of
// its caps; what was said holds over every later start until it is lifted.
func TestOlderCopyNeedsAPolicy(t *testing.T) {
	f := func(p CapsPolicy, blind bool) {
		t.Helper()
		_, _, o := olderCopyOf(t)
		for _, none := range []CapsPolicy{CapsRefuse, CapsLift} {
			o.Caps = none
			if _, err := Open("store", o); !errors.Is(err, ErrRolledBack) {
				t.Fatalf("%s: %v", none, err)
			}
		}
		starts := []CapsPolicy{p, CapsRefuse, CapsTrust, CapsRefuse}
		for i, now := range starts {
			o.Caps = now
			s := mustOpen(t, o.FS, o)
			g := s.groups[0]
			g.Lock()
			at := g.Instant(secondOf(s.HighWater()))
			person, _ := g.NextPerson()
			g.Unlock()
			if got := s.Blind() != 0; got != blind || at.Blind(0) != s.Blind() {
				t.Fatalf("%s, start %d: blind until %d, %d", p, i, s.Blind(), at.Blind(0))
			}
			if blind && (s.Blind() < at.Now || at.Blind(90) != s.Blind()+90) {
				t.Errorf("blind until %d and %d, now is %d", s.Blind(), at.Blind(90), at.Now)
			}
			if person <= rollbackPeople || s.Epoch() <= rollbackEpochs {
				t.Errorf("the next person is %d, the epoch %d", person, s.Epoch())
			}
			mustCheck(t, s)
			mustClose(t, s)
		}
		o.Caps = CapsLift
		s := mustOpen(t, o.FS, o)
		if s.Blind() != 0 {
			t.Errorf("blind until %d after it was lifted", s.Blind())
		}
		mustClose(t, s)
		o.Caps = CapsRefuse
		s = mustOpen(t, o.FS, o)
		if s.Blind() != 0 {
			t.Errorf("blind until %d after a start", s.Blind())
		}
		mustClose(t, s)
	}
	f(CapsProtect, true)
	f(CapsTrust, false)
}

// A policy that is named means nothing to a store that is no older copy.
func TestCapsPolicyOfASoundStore(t *testing.T) {
	for _, p := range []CapsPolicy{CapsProtect, CapsTrust, CapsLift} {
		fs := vfs.NewMem()
		o := testOptions(fs)
		mustClose(t, mustOpen(t, fs, o))
		o.Caps = p
		s := mustOpen(t, fs, o)
		if s.Blind() != 0 || s.Epoch() != 2 {
			t.Errorf("%s: blind until %d, epoch %d", p, s.Blind(), s.Epoch())
		}
		mustClose(t, s)
	}
}

// A marked folder asks for a policy, or brings one; what the ring holds is not its
// own. The mark is gone when the start is durable, and not before.
func TestMarkOlderCopy(t *testing.T) {
	const newest = 1_800_000_000_001
	f := func(mark, option CapsPolicy, opens bool, blind UnixSec) {
		t.Helper()
		fs, ring := lossy.New(), &ringMemory{}
		s, g, ord := carried(t, fs, ring)
		old := fs.CrashClone(vfs.CrashCloneCfg{})
		ticket := hold(t, s, g, ord, personKey(1))
		if err := s.WaitTicket(0, ticket, time.Minute); err != nil {
			t.Fatal(err)
		}
		left := ring.copy(s).mem
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		o := simOptions()
		o.Groups, o.JournalSlots, o.FS, o.Caps = 1, 64, old, option
		o.hooks.shm = &ringMemory{mem: left}
		if err := MarkOlderCopy("store", OlderCopy{mark, newest}, o); err != nil {
			t.Fatal(err)
		}
		examined := o
		examined.hooks.shm = nil
		d, err := Examine("store", examined, nil)
		if err != nil || len(d.Findings) == 0 || d.Findings[0].File != fileOlderCopy ||
			d.Findings[0].Damage == opens || d.Findings[0].Refusal == opens {
			t.Fatalf("the doctor says %+v, %v", d, err)
		}
		cut := errors.New("cut")
		for _, stage := range []string{"opened", "epoch"} {
			broken := o
			broken.hooks.opened = func(at string) error {
				if at == stage {
					return cut
				}
				return nil
			}
			if _, err := Open("store", broken); errors.Is(err, cut) != opens {
				t.Fatalf("mark %s, option %s: cut when %s: %v", mark, option, stage, err)
			}
		}
		s, err = Open("store", o)
		if !opens {
			if !errors.Is(err, ErrRolledBack) {
				t.Fatalf("mark %s, option %s: %v", mark, option, err)
			}
			return
		}
		if err != nil {
			t.Fatalf("mark %s, option %s: %v", mark, option, err)
		}
		g = s.groups[0]
		g.Lock()
		n := g.Contact(ord).opens()
		g.Unlock()
		if s.Blind() != blind || n != 0 {
			t.Errorf("mark %s, option %s: blind until %d, want %d; %d open reservations",
				mark, option, s.Blind(), blind, n)
		}
		mustClose(t, s)
		if there, err := exists(old, "store/"+fileOlderCopy); there || err != nil {
			t.Errorf("the mark is still there: %v", err)
		}
		o.Caps = CapsRefuse
		mustClose(t, mustOpen(t, old, o))
	}
	f(CapsRefuse, CapsRefuse, false, 0)
	f(CapsRefuse, CapsLift, false, 0)
	f(CapsRefuse, CapsTrust, true, 0)
	f(CapsRefuse, CapsProtect, true, newest/1000+1)
	f(CapsTrust, CapsProtect, true, 0)
	f(CapsProtect, CapsTrust, true, newest/1000+1)
}

// Marks that are not whole, of no store, of a policy that none may have.
func TestMarkOlderCopyRefused(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	if err := MarkOlderCopy("store", OlderCopy{}, o); !errors.Is(err, ErrNotFound) {
		t.Errorf("no store: %v", err)
	}
	s := mustOpen(t, fs, o)
	if err := MarkOlderCopy("store", OlderCopy{}, o); !errors.Is(err, ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	mustClose(t, s)
	if err := MarkOlderCopy("store", OlderCopy{Caps: CapsLift}, o); !errors.Is(err, ErrInvalid) {
		t.Errorf("lift: %v", err)
	}
	whole := appendOlderCopy(nil, OlderCopy{CapsTrust, 9})
	f := func(b []byte, want error) {
		t.Helper()
		if _, err := parseOlderCopy(b); !errors.Is(err, want) {
			t.Errorf("%x: %v", b, err)
		}
	}
	for i := range whole {
		f(whole[:i], ErrCorrupt)
		bad := slices.Clone(whole)
		bad[i] ^= 1
		f(bad, ErrCorrupt)
	}
	newer := slices.Clone(whole[:len(whole)-4])
	newer[8]++
	f(le32Append(newer, checkSum(newer)), ErrNewerFormat)
	if c, err := parseOlderCopy(whole); err != nil || c != (OlderCopy{CapsTrust, 9}) {
		t.Errorf("%+v: %v", c, err)
	}
	for p := CapsRefuse; p <= CapsLift; p++ {
		if got, err := ParseCapsPolicy(p.String()); got != p || err != nil {
			t.Errorf("%s: %s, %v", p, got, err)
		}
	}
	if _, err := ParseCapsPolicy("maybe"); err == nil {
		t.Error("a policy of no name is taken")
	}
}

func le32Append(b []byte, v uint32) []byte {
	return append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
}

// A mark is written back byte for byte, or refused.
func FuzzOlderCopy(f *testing.F) {
	f.Add(appendOlderCopy(nil, OlderCopy{CapsProtect, 1 << 40}))
	f.Add([]byte(olderCopyMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseOlderCopy(b)
		if err == nil && !slices.Equal(appendOlderCopy(nil, c), b) {
			t.Errorf("%x becomes %x", b, appendOlderCopy(nil, c))
		}
	})
}
