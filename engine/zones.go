package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tact/storage"
)

// maxZones bounds the zones of a store: a row keeps a zone in 16 bits.
const maxZones = 1<<16 - 1

// zones are the time zones that people live in, loaded once, by dictionary id.
// Reads take no lock.
type zones struct {
	byID atomic.Pointer[[]*time.Location]
	mu   sync.Mutex // serialises growth
}

// at returns a loaded zone, or nil when there is none under id.
func (z *zones) at(id storage.Name) *time.Location {
	list := z.byID.Load()
	if list == nil || int(id) >= len(*list) {
		return nil
	}
	return (*list)[id]
}

// intern loads an IANA zone and mints its id.
func (z *zones) intern(s *storage.Store, name string) (storage.Name, error) {
	if id, ok := s.Lookup(storage.DictZone, name); ok {
		if z.at(id) != nil {
			return id, nil
		}
	}
	loc, err := loadZone(name)
	if err != nil {
		return 0, err
	}
	id, err := s.Intern(storage.DictZone, name)
	if err != nil {
		return 0, err
	}
	return id, z.put(id, loc)
}

// loadZone loads an IANA zone; the local machine's zone has no name here.
func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("%q is not an IANA time zone", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not an IANA time zone", name)
	}
	return loc, nil
}

func (z *zones) put(id storage.Name, loc *time.Location) error {
	if id > maxZones {
		return fmt.Errorf("more than %d time zones", maxZones)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	var list []*time.Location
	if old := z.byID.Load(); old != nil {
		list = append(list, *old...)
	}
	for int(id) >= len(list) {
		list = append(list, nil)
	}
	list[id] = loc
	z.byID.Store(&list)
	return nil
}

// load fills the table from the store's dictionary, at start.
func (z *zones) load(s *storage.Store) error {
	for i, name := range s.NamesOf(storage.DictZone) {
		loc, err := loadZone(name)
		if err != nil {
			return fmt.Errorf("zone of the store: %w", err)
		}
		if err := z.put(storage.Name(i+1), loc); err != nil {
			return err
		}
	}
	return nil
}
