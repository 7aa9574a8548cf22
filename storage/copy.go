package storage

// CopyKind says what a key of the store stands for, as far as a copy of the store
// must know.
type CopyKind uint8

// Kinds of keys, for copies.
const (
	CopyOther     CopyKind = iota // documents, names, lists, records of groups and the node
	CopyRow                       // part of a person
	CopyIdentity                  // identity → person, by a keyed hash
	CopyPersonKey                 // what opens the sealed parts of a person
	CopyFrame
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
	case key[0] == prefixPersonKey:
		return CopyPersonKey
	case key[0] == prefixFrame:
		return CopyFrame
	}
	return CopyOther
}

// AppendPersonKey appends the key under which the key of a person is stored:
// 0x30 | slot u16 | workspace u32 | person u64.
func AppendPersonKey(dst []byte, slot Slot, ws WorkspaceID, person PersonID) []byte {
	return appendPersonKeyKey(dst, slot, ws, person)
}
