package storage

import "fmt"

// FrameInfo is what a frame says of itself.
type FrameInfo struct {
	Group       GroupID
	Epoch       uint32
	Number      uint64
	Previous    uint64 // hash of the frame before
	Hash        uint64
	Round       uint64   // of the commit, in the epoch; 0: not known
	From, Until UnixMsec // times of its first and its last effect
}

// InspectFrame checks a frame and its records. created is called with the store's
// key of the key of every person who is created in it; nil: nobody asks.
func InspectFrame(value []byte, created func(key []byte)) (info FrameInfo, err error) {
	h, records, err := parseFrame(value)
	if err != nil {
		return info, err
	}
	info = FrameInfo{
		Group: h.group, Epoch: h.epoch, Number: h.number, Previous: h.prev, Round: h.round,
		Hash: frameHash(value), From: h.time, Until: h.time,
	}
	for range h.count {
		r, rest, err := h.next(records)
		if err != nil {
			return info, err
		}
		records, info.Until = rest, r.time
		if r.kind == EffectCreate && created != nil {
			in := effectReader{b: r.clear}
			ws, slot, who := WorkspaceID(in.u32()), Slot(in.u16()), PersonID(in.u64())
			if in.bad {
				return info, fmt.Errorf("%w: malformed create", ErrCorrupt)
			}
			created(appendPersonKeyKey(nil, slot, ws, who))
		}
	}
	return info, nil
}

// CopyKind says what a key of the store stands for, as far as a copy of the store
// must know.
type CopyKind uint8

// Kinds of keys, for copies.
const (
	CopyOther     CopyKind = iota // records of the node that a copy keeps, and what no other kind is
	CopyRow                       // part of a person, of a group, of the members of segments
	CopyIdentity                  // identity → person, by a keyed hash
	CopyPersonKey                 // what opens the sealed parts of a person
	CopyFrame
	CopyDerived // of the frames: not to be copied
	CopyName
	CopyDoc
	CopyListed  // on a suppression list
	CopyErased  // entry of the ledger of erasures
	CopyOwnName // name that may be known of people alone: see CopyNameGone
)

// CopyKindOf tells what a key stands for.
func CopyKindOf(key []byte) CopyKind {
	switch {
	case len(key) == 0:
		return CopyOther
	case key[0] < identitySlots>>8:
		return CopyRow
	case key[0] < prefixFrame:
		return CopyIdentity
	}
	switch key[0] {
	case prefixFrame:
		return CopyFrame
	case prefixGroup, prefixMember, prefixDedup, prefixMoved:
		return CopyRow
	case prefixPersonKey:
		return CopyPersonKey
	case prefixName:
		if len(key) > 1 && (key[1] == byte(DictSource) || key[1] == byte(DictConsentText)) {
			return CopyOwnName
		}
		return CopyName
	case prefixDoc:
		return CopyDoc
	case prefixList:
		return CopyListed
	case prefixErased:
		return CopyErased
	case prefixPurge:
		return CopyDerived // there is nothing to purge in a copy without keys
	case prefixNode:
		return copyNodeKind(key)
	}
	return CopyOther
}

func copyNodeKind(key []byte) CopyKind {
	if len(key) == 2 {
		switch key[1] {
		case nodeEpoch, nodeJournal, nodeCommit, nodeHold:
			return CopyDerived // of the life of this store alone
		}
	}
	return CopyOther
}

// AppendPersonKey appends the key under which the key of a person is stored:
// 0x30 | slot u16 | workspace u32 | person u64.
func AppendPersonKey(dst []byte, slot Slot, ws WorkspaceID, person PersonID) []byte {
	return appendPersonKeyKey(dst, slot, ws, person)
}

// CopyNameGone is what stands in the place of a CopyOwnName that only people had who
// were erased.
func CopyNameGone() []byte { return []byte(nameGone) }

// CopyErasure reads an entry of the ledger of erasures.
func CopyErasure(key, value []byte) (Erasure, error) { return parseErasure(key, value) }

// CopyDocKey returns the name of a document, and its content, as ScanDocs does.
func CopyDocKey(key, value []byte) (name string, content []byte, err error) {
	content, err = parseDoc(string(key[1:]), value)
	return string(key[1:]), content, err
}

// CopyDocRow is the other way round.
func CopyDocRow(name string, content []byte) (key, value []byte) {
	return docKey(name), sealRecord(append([]byte{docFormat}, content...))
}
