package eventlog

import "errors"

// Classes of errors.
var (
	// ErrCorrupt reports bytes on disk that are not what was written, or are missing.
	ErrCorrupt = errors.New("event log is corrupt")
	// ErrNewerFormat reports a log written by a newer version.
	ErrNewerFormat = errors.New("event log has a newer format")
	// ErrFull reports a block that takes no more records.
	ErrFull = errors.New("block is full")
)

// Stream is one of the two logs of a store. The number is stored.
type Stream uint8

// Streams.
const (
	Effects   Stream = iota // events, outcomes, changes: all but decisions
	Decisions               // decision records
	Streams                 // how many there are
)

func (s Stream) String() string {
	if s == Decisions {
		return "decisions"
	}
	return "effects"
}

// NoOrd marks a record of nobody.
const NoOrd = 0xFFFFFFFF

// Record is one effect. Its slices are views: of the caller's when it is added,
// of the block when it is read, valid until the next record.
type Record struct {
	Group  uint16 // read only: a block is of one group
	Frame  uint64 // rises within a group
	Epoch  uint32
	Index  uint32 // read only: position among the frame's records of this stream
	Kind   uint8
	Type   uint32 // name of the event or outcome; 0: none
	Ord    uint32 // the person's ordinal in the group; NoOrd: nobody
	Config uint32
	Time   int64 // ms since 1970, by the server's clock
	// Occurred is when it happened by the caller's clock, in ms; Time when nobody
	// said otherwise.
	Occurred int64
	Clear    []byte // nothing personal, kept as it is
	// Dedup and Body are the hashes of an idempotency key and of its body; 0: none.
	Dedup uint64
	Body  uint32

	// The personal part. Text is an id or a word, Raw the compact JSON of an
	// object, Personal whatever else; nil and empty are one.
	Text, Raw, Personal []byte
	// Lost: there was a personal part and its key is gone.
	Lost bool
}

// personal reports whether r says anything about a person.
func (r *Record) personal() bool { return len(r.Text)+len(r.Raw)+len(r.Personal) > 0 }

// KeyOf returns the key of a person of a group; false: there is none any more.
type KeyOf func(group uint16, ord uint32) (key [16]byte, ok bool)
