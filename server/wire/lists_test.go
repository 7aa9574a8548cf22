package wire

import (
	"encoding/hex"
	"testing"

	"tact/engine"
)

// FuzzListEntry: a line is taken or refused, never half; a digest that is taken
// comes back when its bytes are written.
func FuzzListEntry(f *testing.F) {
	f.Add([]byte(`{"kind":"email","value":"a@example.com"}`))
	f.Add([]byte(`{"kind":"phone","sha256":"` +
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" + `","remove":true}`))
	f.Add([]byte(`{"kind":"user","value":"","sha256":""}`))
	f.Add([]byte(`{"kind":"fax"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var d Decoder
		var e engine.ListEntry
		if fault := d.ListEntry(line, &e); fault != nil {
			if fault.Code == "" || fault.Detail == "" {
				t.Fatalf("%q: %+v", line, fault)
			}
			return
		}
		if e.Kind < engine.ListUser || e.Kind > engine.ListWecom {
			t.Fatalf("%q: kind %d", line, e.Kind)
		}
		again := engine.ListEntry{Kind: e.Kind}
		text := hex.AppendEncode(nil, e.Digest[:])
		if fault := ListHex(text, &again); fault != nil || again.Digest != e.Digest {
			t.Fatalf("%q: %v", text, fault)
		}
	})
}
