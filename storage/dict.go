package storage

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"
)

const (
	dictKinds   = 32      // room for kinds to come
	dictNames   = 1 << 20 // per kind
	dictNameMax = 256     // bytes
)

// dictionary maps names to dense ids and back, per kind. Reads take no lock:
// they follow an atomic pointer to a table whose places are set once. Minting
// takes the lock; the table doubles at two thirds full.
//
// A minted name is pending until a commit holds it. The committer takes the
// frames first and the pending names second, so a name is durable no later than
// the first frame that uses it.
type dictionary struct {
	kinds [dictKinds]dictKind
	held  sync.RWMutex // see HoldNames
	mu    struct {
		sync.Mutex
		pending []dictEntry
	}
}

type dictEntry struct {
	kind DictKind
	id   Name
	name string
}

type dictKind struct {
	table atomic.Pointer[dictTable]
	names atomic.Pointer[[]string] // by id - 1; grows by append, so old headers stay valid
}

type dictTable struct {
	places []atomic.Pointer[dictEntry] // a power of two
}

func (t *dictTable) find(hash uint64, name string) *dictEntry {
	mask := uint64(len(t.places) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		e := t.places[i].Load()
		if e == nil || e.name == name {
			return e
		}
	}
}

func (t *dictTable) put(e *dictEntry) {
	mask := uint64(len(t.places) - 1)
	i := xxh3.HashString(e.name) & mask
	for t.places[i].Load() != nil {
		i = (i + 1) & mask
	}
	t.places[i].Store(e)
}

func (d *dictionary) kind(k DictKind) *dictKind {
	if k == 0 || int(k) >= dictKinds {
		return nil
	}
	return &d.kinds[k]
}

// Lookup returns the id of a name. It takes no lock and does not allocate.
func (s *Store) Lookup(k DictKind, name string) (Name, bool) {
	kind := s.dict.kind(k)
	if kind == nil || len(name) == 0 { // what is hidden has no name
		return 0, false
	}
	t := kind.table.Load()
	if t == nil {
		return 0, false
	}
	if e := t.find(xxh3.HashString(name), name); e != nil {
		return e.id, true
	}
	return 0, false
}

// LookupBytes is Lookup of a name that lies in a buffer.
func (s *Store) LookupBytes(k DictKind, name []byte) (Name, bool) {
	kind := s.dict.kind(k)
	if kind == nil || len(name) == 0 { // what is hidden has no name
		return 0, false
	}
	t := kind.table.Load()
	if t == nil {
		return 0, false
	}
	mask := uint64(len(t.places) - 1)
	for i := xxh3.Hash(name) & mask; ; i = (i + 1) & mask {
		e := t.places[i].Load()
		if e == nil {
			return 0, false
		}
		if e.name == string(name) {
			return e.id, true
		}
	}
}

// NameOf returns the name of an id, "" when there is none.
func (s *Store) NameOf(k DictKind, id Name) string {
	names := s.NamesOf(k)
	if id == 0 || int(id) > len(names) {
		return ""
	}
	return names[id-1]
}

// NamesOf returns the names of a kind: the name of id n is at n - 1. The slice
// must not be changed; names minted later are not in it.
func (s *Store) NamesOf(k DictKind) []string {
	kind := s.dict.kind(k)
	if kind == nil {
		return nil
	}
	if p := kind.names.Load(); p != nil {
		return *p
	}
	return nil
}

// Intern returns the id of a name and mints one for a new name. The name is
// durable no later than the first frame that uses the id. ErrLimit: the name is
// empty or longer than 256 bytes, or the kind holds 1,048,576 names.
func (s *Store) Intern(k DictKind, name string) (Name, error) {
	if id, ok := s.Lookup(k, name); ok {
		return id, nil
	}
	kind := s.dict.kind(k)
	if kind == nil || name == "" || len(name) > dictNameMax {
		return 0, fmt.Errorf("%w: name of %d bytes in dictionary %d", ErrLimit, len(name), k)
	}
	s.dict.mu.Lock()
	defer s.dict.mu.Unlock()
	if id, ok := s.Lookup(k, name); ok {
		return id, nil
	}
	n := len(s.NamesOf(k))
	if n >= dictNames {
		return 0, fmt.Errorf("%w: %d names in dictionary %d", ErrLimit, n, k)
	}
	// A clone: the caller's name may be a view of a request.
	e := &dictEntry{kind: k, id: Name(n + 1), name: string([]byte(name))}
	kind.add(e)
	s.dict.mu.pending = append(s.dict.mu.pending, *e)
	return e.id, nil
}

// add puts the entry with the next id; the dictionary's lock is held, or nobody
// else knows the dictionary yet.
func (k *dictKind) add(e *dictEntry) {
	var names []string
	if p := k.names.Load(); p != nil {
		names = *p
	}
	t := k.table.Load()
	if t == nil || (len(names)+1)*3 > len(t.places)*2 {
		t = k.grow(t)
	}
	names = append(names, e.name)
	k.names.Store(&names)
	t.put(e)
	k.table.Store(t)
}

func (k *dictKind) grow(old *dictTable) *dictTable {
	if old == nil {
		return &dictTable{places: make([]atomic.Pointer[dictEntry], 16)}
	}
	t := &dictTable{places: make([]atomic.Pointer[dictEntry], 2*len(old.places))}
	for i := range old.places {
		if e := old.places[i].Load(); e != nil && e.name != "" {
			t.put(e)
		}
	}
	return t
}

// takePending moves the pending names to dst.
func (d *dictionary) takePending(dst []dictEntry) []dictEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	dst = append(dst, d.mu.pending...)
	clear(d.mu.pending)
	d.mu.pending = d.mu.pending[:0]
	return dst
}

// giveBack makes names pending again after a commit that went wrong.
func (d *dictionary) giveBack(names []dictEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.pending = append(append([]dictEntry(nil), names...), d.mu.pending...)
}

// nameGone stands on disk for a name that only people held who were erased. In memory
// it is empty, and nobody finds it.
const nameGone = "\x00"

// HoldNames keeps the names that the caller looks up from being taken for nobody's
// until what it appends says whose they are; it returns what ends that. It is for the
// names that Patch.Consents has: sources and text versions.
func (s *Store) HoldNames() (done func()) {
	s.dict.held.RLock()
	return s.dict.held.RUnlock
}

// unusedNames returns those of the names that no person holds. Nobody finds them any
// more: who means the same mints another id.
// Cost: up to two looks at the consents of everybody, some thousand people at a time
// under their group's lock.
func (s *Store) unusedNames(names []NameRef) []NameRef {
	free := s.withoutHeld(names)
	if len(free) == 0 {
		return nil
	}
	s.dict.held.Lock() // whoever has looked one up has appended
	for _, n := range free {
		s.dict.hide(n, s.NameOf(n.Kind, n.ID))
	}
	s.dict.held.Unlock()
	unused := s.withoutHeld(free)
	for _, n := range free {
		if !slices.Contains(unused, n) {
			s.dict.show(n, s.NameOf(n.Kind, n.ID))
		}
	}
	return unused
}

// withoutHeld returns those of the names that no person holds now.
func (s *Store) withoutHeld(names []NameRef) []NameRef {
	if len(names) == 0 {
		return nil
	}
	free := make(map[NameRef]bool, len(names))
	for _, n := range names {
		free[n] = true
	}
	for _, g := range s.groups {
		g.eachConsent(func(c Consent) {
			delete(free, NameRef{DictSource, c.Source})
			delete(free, NameRef{DictConsentText, c.Text})
		})
	}
	return slices.DeleteFunc(slices.Clone(names), func(n NameRef) bool { return !free[n] })
}

// eachConsent calls f for every consent of everybody.
func (g *Group) eachConsent(f func(Consent)) {
	const block = 4096
	for from := 0; ; from += block {
		g.mu.Lock()
		st := g.mu.state
		end := st.len()
		for o := from; o < min(from+block, end); o++ {
			if r := st.row(Ord(o)); r != nil {
				Profile{st.slab.get(r.profile)}.EachConsent(func(c Consent) bool { f(c); return true })
			}
		}
		g.mu.Unlock()
		if from+block >= end {
			return
		}
	}
}

// at returns the place of a name, or of what hides it; nil when it has none.
func (t *dictTable) at(n NameRef, text string) *atomic.Pointer[dictEntry] {
	mask := uint64(len(t.places) - 1)
	for i := xxh3.HashString(text) & mask; ; i = (i + 1) & mask {
		switch e := t.places[i].Load(); {
		case e == nil:
			return nil
		case e.id == n.ID && (e.name == text || e.name == ""):
			return &t.places[i]
		}
	}
}

// hide takes a name out of the look-ups.
func (d *dictionary) hide(n NameRef, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.kind(n.Kind).table.Load(); t != nil && text != "" {
		if place := t.at(n, text); place != nil {
			place.Store(&dictEntry{kind: n.Kind, id: n.ID})
		}
	}
}

// show brings back a name that somebody holds, unless it was minted anew.
func (d *dictionary) show(n NameRef, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.kind(n.Kind).table.Load()
	if t == nil || text == "" || t.find(xxh3.HashString(text), text) != nil {
		return
	}
	e := &dictEntry{kind: n.Kind, id: n.ID, name: text}
	if place := t.at(n, text); place != nil {
		place.Store(e)
		return
	}
	t.put(e) // the table has grown meanwhile, without it
}

// drop forgets the texts of names.
func (d *dictionary) drop(names []NameRef) {
	d.mu.Lock()
	defer d.mu.Unlock()
	texts := map[DictKind][]string{}
	for _, n := range names {
		of, ok := texts[n.Kind]
		if p := d.kind(n.Kind).names.Load(); !ok && p != nil {
			of = slices.Clone(*p)
			texts[n.Kind] = of
		}
		if n.ID > 0 && int(n.ID) <= len(of) {
			of[n.ID-1] = ""
		}
	}
	for kind, of := range texts {
		d.kinds[kind].names.Store(&of)
	}
}

// load adds a name read from disk; ids come in rising order without gaps.
func (d *dictionary) load(k DictKind, id Name, name string) error {
	kind := d.kind(k)
	if kind == nil {
		return fmt.Errorf("%w: dictionary %d", ErrNewerFormat, k)
	}
	var have int
	if p := kind.names.Load(); p != nil {
		have = len(*p)
	}
	if name == nameGone && int(id) == have+1 {
		var names []string
		if p := kind.names.Load(); p != nil {
			names = *p
		}
		names = append(names, "")
		kind.names.Store(&names)
		return nil
	}
	if int(id) != have+1 || name == "" || len(name) > dictNameMax {
		return fmt.Errorf("%w: name %d of dictionary %d", ErrCorrupt, id, k)
	}
	kind.add(&dictEntry{kind: k, id: id, name: name})
	return nil
}
