package docs

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"tact/storage"
)

// Published gathers the revisions behind another that were published up to a time,
// for a store that is made again as it was then.
type Published struct {
	After uint32 // the current revision of the older copy; see CurrentOf
	Until storage.UnixMsec

	heads    []Revision
	docs     map[uint32]storage.Doc // of heads
	contents map[uint32]storage.Doc
}

// Add looks at one document of a later copy of the store, in any order. Documents
// that are no revisions are passed over.
func (p *Published) Add(key string, value []byte) error {
	if p.docs == nil {
		p.docs, p.contents = make(map[uint32]storage.Doc), make(map[uint32]storage.Doc)
	}
	doc := storage.Doc{Key: key, Value: append([]byte(nil), value...)}
	if n, ok := numbered(key, keyContent); ok && n > p.After {
		p.contents[n] = doc
	}
	n, ok := numbered(key, keyHead)
	if !ok || n <= p.After {
		return nil
	}
	h, err := parseHead(value)
	if err != nil {
		return err
	}
	p.heads, p.docs[n] = append(p.heads, h.Revision), doc
	return nil
}

func numbered(key, prefix string) (uint32, bool) {
	digits, ok := strings.CutPrefix(key, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil
}

// Docs returns what makes the newest revision of that time the current one; nothing
// when there is none behind After.
func (p *Published) Docs() (put []storage.Doc) {
	slices.SortFunc(p.heads, func(a, b Revision) int { return int(a.Number) - int(b.Number) })
	last := p.After
	for i := range p.heads {
		h := &p.heads[i]
		if h.Time > p.Until || h.Number != last+1 {
			break
		}
		last = h.Number
		put = append(put, p.docs[h.Number])
		if content, ok := p.contents[h.Content]; ok && h.Content == h.Number {
			put = append(put, content)
		}
	}
	if len(put) == 0 {
		return nil
	}
	return append(put, storage.Doc{
		Key: keyCurrent, Value: binary.LittleEndian.AppendUint32(nil, last),
	})
}
