package engine

import (
	"encoding/hex"
	"testing"

	"tact/storage"
)

// Golden vectors: RFC 4493 section 4, AES-CMAC with the key 2b7e1516….
func TestMACEqualsRFC4493(t *testing.T) {
	key := [16]byte{
		0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
		0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c,
	}
	s, err := newSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	f := func(msg, want string) {
		t.Helper()
		m, err := hex.DecodeString(msg)
		if err != nil {
			t.Fatal(err)
		}
		var w tokenScratch
		s.mac(&w, m)
		if got := hex.EncodeToString(w.mac[:]); got != want {
			t.Errorf("mac(%s) = %s, want %s", msg, got, want)
		}
	}
	full := "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	f("", "bb1d6929e95937287fa37d129b756746")
	f(full[:32], "070a16b46b4d4144f79bdd9dd04a287c")
	f(full[:80], "dfa66747de9ae63030ca32611497c827")
	f(full, "51f0bebf7e3b9d92fc49741779363cfe")
}

func sampleToken(variants int) token {
	t := token{
		Person: storage.PersonRef{Group: 3, Ord: 70000, Person: 1 << 40}, Offer: 9, Treatment: 11,
		Placement: 4, Channel: 2, Class: 1, Life: 86400,
		Reservation: storage.ReservationID{Epoch: 7, Number: 3<<48 | 12345}, NVariants: variants,
	}
	for i := range t.Decision {
		t.Decision[i] = byte(i * 17)
	}
	for i := range variants {
		t.Variants[i] = storage.Name(100 + i)
	}
	return t
}

// A token reads back as written, is at most 160 characters long, costs no
// allocation, and no changed character is accepted.
func TestTokenRoundTripAndForgery(t *testing.T) {
	s, err := newSealer([16]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	w := new(tokenScratch)
	for n := 0; n <= tokenMaxVariants; n++ {
		in := sampleToken(n)
		text := s.Append(nil, &in, w)
		if len(text) > 160 {
			t.Fatalf("token of %d characters", len(text))
		}
		var out token
		if err := s.Open(text, &out, w); err != nil || out != in {
			t.Fatalf("open: %v\n got %+v\nwant %+v", err, out, in)
		}
		for i := range text {
			bad := append([]byte(nil), text...)
			bad[i] ^= 1
			if s.Open(bad, &out, w) == nil {
				t.Fatalf("character %d of %d changed and accepted", i, len(text))
			}
		}
		if s.Open(text[:len(text)-1], &out, w) == nil {
			t.Fatal("a cut token was accepted")
		}
	}
	in := sampleToken(2)
	buf := make([]byte, 0, 200)
	if n := testing.AllocsPerRun(100, func() { buf = s.Append(buf[:0], &in, w) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzTokenOpen(f *testing.F) {
	s, err := newSealer([16]byte{9})
	if err != nil {
		f.Fatal(err)
	}
	in := sampleToken(1)
	f.Add(s.Append(nil, &in, new(tokenScratch)))
	f.Fuzz(func(t *testing.T, text []byte) {
		var out token
		w := new(tokenScratch)
		if s.Open(text, &out, w) == nil && string(s.Append(nil, &out, w)) != string(text) {
			t.Fatalf("accepted %q but writes it otherwise", text)
		}
	})
}
