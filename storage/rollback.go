package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A store that is put back as it was earlier knows nothing of what was answered
// since. Its caps would give the same uses once more, so it is refused until
// somebody says what is to become of them. It is known for such a copy by the ring or
// the journal of a later start, or by a mark that was left in its folder.

// A CapsPolicy says what the caps of a store that is an older copy of itself do.
type CapsPolicy uint8

// Policies. The numbers are stored; they never change.
const (
	// CapsRefuse: such a store is refused with ErrRolledBack.
	CapsRefuse CapsPolicy = iota
	// CapsProtect: every counter is full in every window that began before the start,
	// of known people and of unknown ones: see Group.Instant and Store.Blind. So no
	// cap is exceeded whatever the store does not know, and nothing is offered under
	// a cap until a window that began later is in force, for a lifetime never.
	CapsProtect
	// CapsTrust: what the copy says is taken for all there is.
	CapsTrust
	// CapsLift ends, at any start, the protection that an earlier one began.
	CapsLift
)

func (p CapsPolicy) String() string {
	if p > CapsLift {
		return "unknown"
	}
	return [...]string{"refuse", "protect", "trust", "lift"}[p]
}

// ParseCapsPolicy reads what String writes.
func ParseCapsPolicy(s string) (CapsPolicy, error) {
	for p := CapsRefuse; p <= CapsLift; p++ {
		if p.String() == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("caps policy %q: want protect, trust, lift or refuse", s)
}

// An OlderCopy is what a folder's mark says.
type OlderCopy struct {
	// Caps is the policy of the next start; CapsRefuse leaves it to Options.Caps.
	Caps CapsPolicy
	// Newest is the latest time that anything may have been answered at which the
	// copy does not hold, where that is known; 0 = when the next start is made, which
	// counts in any case.
	Newest UnixMsec
}

// RollbackEffect is the start of a group that is an older copy of itself, or the end
// of its protection.
type RollbackEffect struct {
	Blind  UnixSec  // uses up to it may be missing; 0 = none are, or nobody minds
	Person PersonID // ids up to it may have been given to people who are not known
}

const (
	fileOlderCopy   = "older-copy"
	olderCopyMagic  = "tactcopy"
	olderCopyFormat = 1
	olderCopyBytes  = 8 + 1 + 1 + 8 + 4

	// What a copy does not know may have begun so many epochs and people of a group:
	// reservations and people of the new start must not be taken for those.
	rollbackEpochs = 1 << 12
	rollbackPeople = 1 << 24
)

// MarkOlderCopy marks the store in dir, which no process may use, as a copy that was
// taken while another went on: the next Open does to the caps what the mark says, and
// leaves the ring alone that it finds. The mark is gone when that start is durable.
// Errors: ErrNotFound without a store, ErrLocked, or what the disk says.
func MarkOlderCopy(dir string, c OlderCopy, o Options) error {
	if c.Caps > CapsTrust {
		return fmt.Errorf("mark %s: %w: caps policy %s", dir, ErrInvalid, c.Caps)
	}
	o.fill()
	lock, err := lockExamined(o.FS, dir)
	if err != nil {
		return err
	}
	if err := errors.Join(writeOlderCopy(o.FS, dir, c), lock.Close()); err != nil {
		return fmt.Errorf("mark %s: %w", dir, err)
	}
	return nil
}

// appendOlderCopy appends "tactcopy" | format u8 | policy u8 | newest ms i64 | crc u32.
func appendOlderCopy(b []byte, c OlderCopy) []byte {
	start, le := len(b), binary.LittleEndian
	b = append(append(b, olderCopyMagic...), olderCopyFormat, byte(c.Caps))
	b = le.AppendUint64(b, uint64(c.Newest))
	return le.AppendUint32(b, checkSum(b[start:]))
}

func parseOlderCopy(b []byte) (c OlderCopy, err error) {
	if len(b) > 12 && string(b[:8]) == olderCopyMagic && b[8] > olderCopyFormat &&
		checkSum(b[:len(b)-4]) == le32(b[len(b)-4:]) {
		return c, fmt.Errorf("%w: mark of an older copy, format %d", ErrNewerFormat, b[8])
	}
	if len(b) != olderCopyBytes || string(b[:8]) != olderCopyMagic || b[8] != olderCopyFormat ||
		checkSum(b[:len(b)-4]) != le32(b[len(b)-4:]) || b[9] > byte(CapsTrust) {
		return c, fmt.Errorf("%w: the mark of an older copy fails its checksum", ErrCorrupt)
	}
	return OlderCopy{CapsPolicy(b[9]), UnixMsec(le64(b[10:]))}, nil
}

func writeOlderCopy(fs vfs.FS, dir string, c OlderCopy) error {
	path := fs.PathJoin(dir, fileOlderCopy)
	f, err := fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(appendOlderCopy(nil, c))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(fs.Rename(path+".new", path), syncFolder(fs, dir))
}

// olderCopy is what a start knows of itself.
type olderCopy struct {
	OlderCopy
	marked bool // by a file
	is     bool // the store is an older copy, Caps says what follows
}

// loadOlderCopy reads the mark of the folder. Without a policy the store is refused.
func (s *Store) loadOlderCopy() error {
	b, err := readFile(s.o.FS, s.o.FS.PathJoin(s.dir, fileOlderCopy))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", fileOlderCopy, err)
	}
	c := &s.older
	if c.OlderCopy, err = parseOlderCopy(b); err != nil {
		return fmt.Errorf("%s: %w", fileOlderCopy, err)
	}
	if c.Caps == CapsRefuse && s.o.Caps <= CapsTrust {
		c.Caps = s.o.Caps
	}
	if c.Caps == CapsRefuse {
		return fmt.Errorf("%w: it was put back as it was earlier, and nobody has said what "+
			"becomes of its caps: protect or trust", ErrRolledBack)
	}
	c.marked, c.is = true, true
	return nil
}

// accepts reports whether a store that the ring or the journal has found to be an
// older copy is to be opened, and notes it.
func (c *olderCopy) accepts(p CapsPolicy) bool {
	if p != CapsProtect && p != CapsTrust {
		return false
	}
	c.is, c.Caps = true, p
	return true
}

// rollback is the effect of a start at a time for one group; ok is false when there
// is none.
func (s *Store) rollback(g *Group, at UnixMsec) (e Effect, ok bool) {
	st, c := g.mu.state, &s.older
	e = Effect{Kind: EffectRollback, Ord: NoOrd, Time: at}
	e.Rollback.Blind = st.blind
	switch {
	case c.is:
		e.Rollback.Person = st.person + rollbackPeople
		if c.Caps == CapsProtect {
			newest := max(at, s.o.Now(), c.Newest)
			up := UnixSec(min(max((newest+999)/1000, 0), math.MaxUint32))
			e.Rollback.Blind = max(st.blind, up)
		}
		return e, true
	case s.o.Caps == CapsLift && st.blind != 0:
		e.Rollback.Blind = 0
		return e, true
	}
	return e, false
}

// settleRollback ends what a start had to do as an older copy: it is durable.
func (s *Store) settleRollback() error {
	for _, g := range s.groups {
		g.Lock()
		s.blind = max(s.blind, g.mu.state.blind)
		g.Unlock()
	}
	switch c := &s.older; {
	case c.is:
		level := slog.LevelWarn
		if c.marked { // who marked it knows
			level = slog.LevelInfo
		}
		s.o.Logger.Log(context.Background(), level, "the store is an older copy of itself: "+
			"what was answered since is not known", "caps", c.Caps, "blind_until", s.blind)
	case s.blind != 0:
		s.o.Logger.Info("caps are protected: windows that began before are full",
			"blind_until", s.blind)
	}
	if !s.older.marked {
		return nil
	}
	path := s.o.FS.PathJoin(s.dir, fileOlderCopy)
	if err := errors.Join(s.o.FS.Remove(path), syncFolder(s.o.FS, s.dir)); err != nil {
		return fmt.Errorf("%s: %w", fileOlderCopy, err)
	}
	return nil
}

// Blind returns the moment up to which uses may have happened that the store does not
// know of, because it was put back as it was earlier under CapsProtect; 0 = none. It
// never changes while the store is open. A reservation that was answered by then may
// be used until it expires.
func (s *Store) Blind() UnixSec { return s.blind }

// Blind is Store.Blind, with life seconds for what was reserved by then: a window that
// holds the result may hold uses that nobody knows of. 0 = there is none.
func (t Instant) Blind(life uint32) UnixSec {
	if t.blind == 0 {
		return 0
	}
	return UnixSec(min(uint64(t.blind)+uint64(life), math.MaxUint32))
}
