package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// frameHold says which frames are not trimmed although rows and log hold them: they
// are what the next incremental backup is made of. The logger's turn guards it.
type frameHold struct {
	kept   []uint64 // by group: frames above are held; nil: nobody waits for them
	taking []uint64 // by group, for the copy that is being made
}

// holdFormat: the record under 0x70 0x06 is
// format u8 | groups u16 | groups × frame u64 | CRC32C u32.
const holdFormat = 1

func appendHold(b []byte, kept []uint64) []byte {
	b = binary.LittleEndian.AppendUint16(append(b, holdFormat), uint16(len(kept)))
	for _, n := range kept {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return sealRecord(b)
}

func parseHold(b []byte, groups int) (kept []uint64, err error) {
	body, err := checkedValue(b, holdFormat)
	if err == nil && (len(body) != 3+8*groups || int(le16(body[1:])) != groups) {
		err = ErrCorrupt
	}
	if err != nil {
		return nil, fmt.Errorf("held frames: %w", err)
	}
	for i := range groups {
		kept = append(kept, le64(body[3+8*i:]))
	}
	return kept, nil
}

// loadHold reads which frames are held. The event log is open.
func (s *Store) loadHold() error {
	value, err := s.db.get([]byte{prefixNode, nodeHold})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	h := &s.logs.hold
	if h.kept, err = parseHold(value, len(s.groups)); err != nil {
		return err
	}
	for i, g := range s.groups {
		lower := appendFrameKey(nil, g.id, h.kept[i]+1)
		size, err := s.db.db.EstimateDiskUsage(lower, after(lower[:3]))
		if err != nil {
			return readFault(err)
		}
		s.logs.held.Add(int64(size))
	}
	return nil
}

// Keep holds the frames behind the copy until the next copy is kept, or until they
// are more than Options.HoldBytes.
func (c *Copy) Keep() error {
	s := c.s
	s.logs.turn.Lock()
	defer s.logs.turn.Unlock()
	kept := frameNumbers(c.Ends)
	b := s.db.db.NewBatch()
	if err := b.Set([]byte{prefixNode, nodeHold}, appendHold(nil, kept), nil); err != nil {
		return fmt.Errorf("hold frames: %w", err)
	}
	if err := s.putSynced(b); err != nil {
		return fmt.Errorf("hold frames: %w", err)
	}
	s.logs.hold.kept = kept
	s.logs.held.Store(0)
	return nil
}

// holdBound lowers the first frame of a group that is to stay. The logger's turn is
// taken.
func (l *logger) holdBound(group int, bound uint64) uint64 {
	for _, held := range [...][]uint64{l.hold.kept, l.hold.taking} {
		if held != nil {
			bound = min(bound, held[group]+1)
		}
	}
	return bound
}

// letGo gives up frames that are held when there are too many: the next backup will
// be a full one.
func (s *Store) letGo() error {
	l := &s.logs
	if l.hold.kept == nil || l.held.Load() <= s.o.HoldBytes {
		return nil
	}
	b := s.db.db.NewBatch()
	defer b.Close()
	if err := b.Delete([]byte{prefixNode, nodeHold}, nil); err != nil {
		return fmt.Errorf("held frames: %w", err)
	}
	if err := s.db.write(b); err != nil {
		return fmt.Errorf("held frames: %w", err)
	}
	s.o.Logger.Warn("frames for the next incremental backup take too much: it will be a full one",
		"bytes", l.held.Load(), "limit", s.o.HoldBytes)
	l.hold.kept = nil
	l.held.Store(0)
	return nil
}

// HeldBytes returns about how many bytes of frames wait for the next incremental
// backup; held is false when none is expected.
func (s *Store) HeldBytes() (bytes int64, held bool) {
	s.logs.turn.Lock()
	defer s.logs.turn.Unlock()
	return s.logs.held.Load(), s.logs.hold.kept != nil
}
