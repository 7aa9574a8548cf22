package backup

import (
	"encoding/binary"
	"errors"
	"testing"

	"tact/storage"
)

// What a version to come wrote into a backup is refused as such, and not as damaged.
func TestNewerFormats(t *testing.T) {
	f := func(name string, now, newer sealed, format int) {
		t.Helper()
		for v, want := range map[sealed]error{now: nil, newer: storage.ErrNewerFormat} {
			b, err := encodeSealed(v)
			if err != nil {
				t.Fatal(err)
			}
			var read sealed = &Manifest{}
			if _, ok := v.(*peopleIndex); ok {
				read = &peopleIndex{}
			}
			if err := decodeSealed(b, format, read); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
	f("manifest.json", &Manifest{Format: manifestFormat}, &Manifest{Format: manifestFormat + 1},
		manifestFormat)
	f("people.json", &peopleIndex{Format: peopleFormat}, &peopleIndex{Format: peopleFormat + 1},
		peopleFormat)
	var id streamID
	head := appendStreamHeader(nil, id)
	if err := checkStreamHeader(head, id); err != nil {
		t.Fatal(err)
	}
	head[8] = streamFormat + 1
	binary.LittleEndian.PutUint32(head[streamHeader-4:], checkSum(head[:streamHeader-4]))
	if err := checkStreamHeader(head, id); !errors.Is(err, storage.ErrNewerFormat) {
		t.Errorf("a file of records: %v", err)
	}
}
