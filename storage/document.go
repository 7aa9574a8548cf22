package storage

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A small durable key space for definitions and their like: see storage/docs.
// A document is 0x60 | key → format u8 | bytes | CRC32C u32.

const (
	docFormat   = 1
	docKeyMax   = 1024
	docBytesMax = 64 << 20
)

// Doc is one document.
type Doc struct {
	Key   string
	Value []byte
}

// PutDoc stores documents in one atomic step and returns when they are durable.
// ErrUnknown: not within Options.CommitMax; they may be stored later, until
// DocsSettled. ErrDiskFull, ErrFenced: not at all.
func (s *Store) PutDoc(docs ...Doc) error {
	switch {
	case s.closed.Load():
		return ErrClosed
	case s.dead.err() != nil:
		return fmt.Errorf("%w: %w", ErrFenced, s.dead.err())
	case s.guard.full.Load():
		return ErrDiskFull
	}
	b := s.db.db.NewBatch()
	for _, d := range docs {
		if d.Key == "" || len(d.Key) > docKeyMax || len(d.Value) > docBytesMax {
			_ = b.Close() // nothing was written
			return fmt.Errorf("%w: document of %d bytes under a key of %d",
				ErrLimit, len(d.Value), len(d.Key))
		}
		value := append([]byte{docFormat}, d.Value...)
		if err := b.Set(docKey(d.Key), sealRecord(value), nil); err != nil {
			return fmt.Errorf("put document: %w", err)
		}
	}
	return s.putSynced(b)
}

// putSynced commits b beside the caller, who waits no longer than CommitMax.
func (s *Store) putSynced(b *pebble.Batch) error {
	done := make(chan error, 1)
	s.puts.Add(1)
	go func() {
		err := s.commitDoc(b)
		s.puts.Add(-1)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-s.dead.ch:
		return fmt.Errorf("%w: %w", ErrUnknown, s.dead.err())
	case <-time.After(s.o.CommitMax):
		return ErrUnknown
	}
}

// commitDoc commits b. The store ends when it cannot, also when nobody waits any more:
// what lies on the disk then is unknown.
func (s *Store) commitDoc(b *pebble.Batch) error {
	err := s.db.commitSynced(b)
	if err == nil {
		err = b.Close()
	}
	if err != nil {
		err = fmt.Errorf("put document: %w", err)
		s.die(err)
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return nil
}

// DocsSettled tells whether no PutDoc is under way, not even one that has returned
// ErrUnknown: what reading gives is then what is stored.
func (s *Store) DocsSettled() bool { return s.puts.Load() == 0 }

// GetDoc returns a copy of a document, or ErrNotFound.
func (s *Store) GetDoc(key string) ([]byte, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	value, err := s.db.get(docKey(key))
	if err != nil {
		return nil, fmt.Errorf("document %q: %w", key, err)
	}
	return parseDoc(key, value)
}

// ScanDocs calls f for every document whose key begins with prefix, in rising
// order of the keys, until f returns false. value is a copy.
func (s *Store) ScanDocs(prefix string, f func(key string, value []byte) bool) error {
	if s.closed.Load() {
		return ErrClosed
	}
	from := docKey(prefix)
	it, err := s.db.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: after(from)})
	if err != nil {
		return readFault(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		key := string(it.Key()[1:])
		value, err := it.ValueAndErr()
		if err != nil {
			return readFault(err)
		}
		content, err := parseDoc(key, append([]byte(nil), value...))
		if err != nil {
			return err
		}
		if !f(key, content) {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return readFault(err)
	}
	return nil
}

func docKey(key string) []byte { return append([]byte{prefixDoc}, key...) }

func parseDoc(key string, value []byte) ([]byte, error) {
	body, err := checkedValue(value, docFormat)
	if err != nil {
		return nil, fmt.Errorf("document %q: %w", key, err)
	}
	return body[1:], nil
}
