package storage

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"tact/storage/suppress"
)

// Suppression lists: who must not be reached, by keyed hashes of user ids and
// of addresses. One key an entry, under a prefix of their own, so that adding
// and removing is idempotent:
//
//	0x80 | format u8 (1) | list u32 | hash 16      → nothing
//
// The list is a DictList name. All entries are resident too (storage/suppress).

const (
	listFormat   = 1
	listKeyBytes = 22
	// MaxLists is the largest number of lists.
	MaxLists = 64
	// MaxListEdit is the largest number of hashes of one EditList.
	MaxListEdit = 1 << 16
)

// ListEdit adds and removes hashes of one list. A hash in both is removed.
type ListEdit struct {
	List   Name
	Add    [][16]byte
	Remove [][16]byte
}

// ListEdited says what an edit changed: Added hashes were not in the list
// before, Removed ones were.
type ListEdited struct{ Added, Removed int }

// ListSize is one list as it stands.
type ListSize struct {
	List    Name
	Entries int
	Bytes   int64 // resident
}

// lists are the suppression lists of a store.
type lists struct {
	turn  chan struct{} // one edit at a time: full while one runs
	epoch atomic.Uint64
	sets  atomic.Pointer[[]listSet] // rising names; sets are added, never taken out
}

type listSet struct {
	list Name
	set  *suppress.Set
}

func (l *lists) view() []listSet {
	if p := l.sets.Load(); p != nil {
		return *p
	}
	return nil
}

// set returns the set of a list, made when it is new. The caller has the turn.
func (l *lists) set(list Name) (*suppress.Set, error) {
	old := l.view()
	at := 0
	for ; at < len(old) && old[at].list <= list; at++ {
		if old[at].list == list {
			return old[at].set, nil
		}
	}
	if len(old) == MaxLists {
		return nil, fmt.Errorf("%w: more than %d lists", ErrLimit, MaxLists)
	}
	sets := append(make([]listSet, 0, len(old)+1), old[:at]...)
	sets = append(append(sets, listSet{list, new(suppress.Set)}), old[at:]...)
	l.sets.Store(&sets)
	return sets[at].set, nil
}

// ListHash returns the keyed hash under which a list keeps a digest of a kind.
// It does not allocate.
func (s *Store) ListHash(kind uint8, digest *[32]byte) [16]byte {
	// Names of identity types are dictionary ids, which never come this high.
	const above = 0xFFFFFF00
	return s.IdentityHash(0, Name(above|uint32(kind)), digest[:])
}

// ListEpoch is 0 while every list is empty, and else a number that rises with
// every edit: what was looked up under an older one is to be looked up again.
// An edit that has returned is behind every ListEpoch read afterwards.
func (s *Store) ListEpoch() uint64 { return s.lists.epoch.Load() }

// EachListed calls f for every list that has the hash. No allocation.
func (s *Store) EachListed(hash [16]byte, f func(list Name)) {
	h := suppress.HashOf(hash)
	for _, l := range s.lists.view() {
		if l.set.Has(h) {
			f(l.list)
		}
	}
}

// Listed tells whether some list has the hash. No allocation.
func (s *Store) Listed(hash [16]byte) bool {
	h := suppress.HashOf(hash)
	for _, l := range s.lists.view() {
		if l.set.Has(h) {
			return true
		}
	}
	return false
}

// ListSizes returns every list, in rising names.
func (s *Store) ListSizes() []ListSize {
	var out []ListSize
	for _, l := range s.lists.view() {
		out = append(out, ListSize{l.list, l.set.Len(), l.set.Bytes()})
	}
	return out
}

// EditList adds and removes hashes and returns when that is durable and seen by
// every look-up that begins afterwards. ErrUnknown: not durable in time; the
// same edit may be made again. ErrFenced: an edit before it is still not
// durable. ErrLimit: more than MaxListEdit hashes, or more than MaxLists lists.
// Edits of all lists wait for each other, also for those whose caller has gone:
// so what is durable comes in the order of what is seen.
func (s *Store) EditList(e *ListEdit) (done ListEdited, err error) {
	switch {
	case s.closed.Load():
		return done, ErrClosed
	case s.dead.err() != nil:
		return done, fmt.Errorf("%w: %w", ErrFenced, s.dead.err())
	case s.guard.full.Load():
		return done, ErrDiskFull
	case len(e.Add)+len(e.Remove) > MaxListEdit:
		return done, fmt.Errorf("%w: %d hashes in one edit", ErrLimit, len(e.Add)+len(e.Remove))
	}
	l := &s.lists
	late := time.NewTimer(s.o.CommitMax)
	defer late.Stop()
	select {
	case l.turn <- struct{}{}:
	case <-late.C:
		return done, fmt.Errorf("%w: an edit of a list is late", ErrFenced)
	}
	type result struct {
		done ListEdited
		err  error
	}
	// The slices are the caller's: what they say is copied before the caller is let go.
	add, remove := hashesOf(e.Add), hashesOf(e.Remove)
	list := e.List
	ended := make(chan result, 1)
	go func() {
		done, err := s.editList(list, add, remove)
		<-l.turn
		ended <- result{done, err}
	}()
	select {
	case r := <-ended:
		return r.done, r.err
	case <-s.dead.ch:
		return done, fmt.Errorf("%w: %w", ErrUnknown, s.dead.err())
	case <-late.C:
		return done, ErrUnknown
	}
}

// editList makes one edit durable, then seen. The caller has the turn.
func (s *Store) editList(list Name, add, remove []suppress.Hash) (done ListEdited, err error) {
	set, err := s.lists.set(list)
	if err != nil {
		return done, err
	}
	missing, present := without(set.Missing(add), remove), set.Present(remove)
	if len(missing)+len(present) == 0 {
		return done, nil
	}
	if err := s.writeList(list, missing, present); err != nil {
		return done, err
	}
	set.Add(missing)
	set.Remove(present)
	s.lists.epoch.Add(1)
	return ListEdited{len(missing), len(present)}, nil
}

func hashesOf(bytes [][16]byte) []suppress.Hash {
	out := make([]suppress.Hash, len(bytes))
	for i, b := range bytes {
		out[i] = suppress.HashOf(b)
	}
	return out
}

// without takes what is removed in the same edit out of what is added.
func without(add, remove []suppress.Hash) []suppress.Hash {
	if len(remove) == 0 {
		return add
	}
	gone := make(map[suppress.Hash]bool, len(remove))
	for _, h := range remove {
		gone[h] = true
	}
	kept := add[:0]
	for _, h := range add {
		if !gone[h] {
			kept = append(kept, h)
		}
	}
	return kept
}

func (s *Store) writeList(list Name, add, remove []suppress.Hash) error {
	b := s.db.db.NewBatchWithSize((len(add) + len(remove)) * (listKeyBytes + 4))
	var err error
	var key [listKeyBytes]byte
	for _, h := range add {
		if err == nil {
			err = b.Set(appendListKey(key[:0], list, h), nil, nil)
		}
	}
	for _, h := range remove {
		if err == nil {
			err = b.Delete(appendListKey(key[:0], list, h), nil)
		}
	}
	if err != nil {
		_ = b.Close() // nothing was written
		return fmt.Errorf("edit list: %w", err)
	}
	err = s.db.commitSynced(b)
	if err == nil {
		err = b.Close()
	}
	if err != nil {
		err = fmt.Errorf("edit list: %w", err)
		s.die(err)
	}
	return err
}

func appendListKey(dst []byte, list Name, h suppress.Hash) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, prefixList, listFormat), uint32(list))
	return h.Append(dst)
}

func parseListKey(key []byte) (list Name, h suppress.Hash, err error) {
	switch {
	case len(key) > 1 && key[0] == prefixList && key[1] > listFormat:
		return 0, h, fmt.Errorf("%w: entry of a list, format %d", ErrNewerFormat, key[1])
	case len(key) != listKeyBytes || key[0] != prefixList || key[1] != listFormat:
		return 0, h, fmt.Errorf("%w: entry of a list: key %x", ErrCorrupt, key)
	}
	list = Name(binary.BigEndian.Uint32(key[2:]))
	if list == 0 {
		return 0, h, fmt.Errorf("%w: entry of no list: key %x", ErrCorrupt, key)
	}
	return list, suppress.HashOf([16]byte(key[6:])), nil
}

// loadLists reads every entry. Keys are sorted, so each list comes as one run.
func (s *Store) loadLists() error {
	l := &s.lists
	var (
		list    Name
		hashes  []suppress.Hash
		entered int
	)
	enter := func() error {
		if list == 0 {
			return nil
		}
		set, err := l.set(list)
		if err != nil {
			return err
		}
		if cap(hashes)-len(hashes) > len(hashes)/32 {
			hashes = slices.Clone(hashes)
		}
		set.Load(hashes)
		entered += len(hashes)
		return nil
	}
	from := []byte{prefixList}
	err := s.db.scan(from, after(from), func(key, _ []byte) error {
		of, h, err := parseListKey(key)
		if err != nil {
			return err
		}
		if of != list {
			if err := enter(); err != nil {
				return err
			}
			list, hashes = of, nil
		}
		hashes = append(hashes, h)
		return nil
	})
	if err == nil {
		err = enter()
	}
	if err != nil {
		return fmt.Errorf("load lists: %w", err)
	}
	if entered > 0 {
		l.epoch.Store(1)
	}
	return nil
}

// Listing is what lists say of a person, as the engine keeps it: the epoch of
// the lists it was looked up under, and the channels they block. The zero
// Listing is unknown.
type Listing struct {
	Epoch   uint64 // below 2^48
	Blocked uint16 // bit per channel
}

// Listing returns what SetListing kept of a person, or nothing when the profile
// has changed since. Derived, as a row's bits are: never logged, never written,
// outside the checksum.
func (g *Group) Listing(o Ord) Listing {
	kept := g.mu.state.listings
	if int(o) >= len(kept) {
		return Listing{}
	}
	return Listing{kept[o] >> 16, uint16(kept[o])}
}

// SetListing keeps what lists say of a person. Memory: 8 bytes for every ordinal
// up to the person's.
func (g *Group) SetListing(o Ord, l Listing) {
	st := g.mu.state
	for int(o) >= len(st.listings) {
		st.listings = append(st.listings, make([]uint64, rowChunk)...)
	}
	st.listings[o] = l.Epoch<<16 | uint64(l.Blocked)
}

// forgetListing makes what is kept of a person unknown.
func (s *state) forgetListing(o Ord) {
	if int(o) < len(s.listings) {
		s.listings[o] = 0
	}
}
