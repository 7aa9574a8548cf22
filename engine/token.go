package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"tact/storage"
)

// Sizes of a tracking token. The longest is 118 bytes, 158 characters.
const (
	tokenVersion     = 1
	tokenFixed       = 66 // bytes before the variants
	tokenMACSize     = 12
	tokenFallback    = 1 // flags
	tokenScoped      = 2 // identity u32, device u32 stand before the variants
	tokenMaxVariants = 10
	tokenMaxBytes    = tokenFixed + 4*tokenMaxVariants + tokenMACSize

	tokenScopedSize     = 8
	tokenScopedVariants = tokenMaxVariants - tokenScopedSize/4 // of a scoped token
)

// errToken reports bytes that are not a token of this store.
var errToken = errors.New("not a tracking token of this server")

// token is what a tracking token carries: everything an outcome needs, so that
// it is accepted even when the decision's record was lost.
//
//	version u8 | decision id 16 | group u16 | ord u32 | person u64 |
//	offer u32 | treatment u32 | placement u32 | channel u8 | class u8 |
//	life u32 (seconds from the decision to expires_at) |
//	reservation epoch u32, number u64 (0 = nothing held) | variants n u8 |
//	flags u8 (1 = a fallback, 2 = scoped) | reserved 3 | identity u32, device u32 when
//	scoped | n × variant u32 | AES-CMAC 12
//
// all big-endian.
type token struct {
	Decision    storage.DecisionID
	Person      storage.PersonRef
	Offer       storage.Name
	Treatment   storage.Name
	Placement   storage.Name
	Channel     uint8
	Class       uint8
	Life        uint32
	Reservation storage.ReservationID
	Fallback    bool   // counts nothing
	Identity    uint32 // decide.Person.IdentityKey, for caps by identity; 0 = none
	Device      uint32
	Variants    [tokenMaxVariants]storage.Name
	NVariants   int
}

// decidedAt returns the time of a decision from its id.
func decidedAt(id *storage.DecisionID) storage.UnixMsec {
	return storage.UnixMsec(binary.BigEndian.Uint64(id[:8]) >> 16)
}

// sealer writes and checks tokens. It is safe for concurrent use; each caller
// brings its own scratch.
type sealer struct {
	block  cipher.Block
	k1, k2 [16]byte
}

// tokenScratch holds the blocks of one computation; reused, never shared.
type tokenScratch struct {
	block [16]byte
	mac   [16]byte
	raw   [tokenMaxBytes]byte
}

// newSealer prepares AES-CMAC (RFC 4493) under key.
func newSealer(key [16]byte) (*sealer, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	s := &sealer{block: block}
	var l [16]byte
	block.Encrypt(l[:], l[:])
	s.k1 = double(l)
	s.k2 = double(s.k1)
	return s, nil
}

// double multiplies by x in GF(2^128), RFC 4493 section 2.3.
func double(in [16]byte) (out [16]byte) {
	var carry byte
	for i := 15; i >= 0; i-- {
		out[i] = in[i]<<1 | carry
		carry = in[i] >> 7
	}
	out[15] ^= 0x87 * carry
	return out
}

// mac computes AES-CMAC of msg into w.mac. Cost: one AES block per 16 bytes.
func (s *sealer) mac(w *tokenScratch, msg []byte) {
	w.mac = [16]byte{}
	for len(msg) > 16 {
		subtle.XORBytes(w.mac[:], w.mac[:], msg[:16])
		s.block.Encrypt(w.mac[:], w.mac[:])
		msg = msg[16:]
	}
	w.block = [16]byte{}
	n := copy(w.block[:], msg)
	key := &s.k1
	if n < 16 {
		w.block[n] = 0x80
		key = &s.k2
	}
	subtle.XORBytes(w.block[:], w.block[:], key[:])
	subtle.XORBytes(w.mac[:], w.mac[:], w.block[:])
	s.block.Encrypt(w.mac[:], w.mac[:])
}

// Append writes t in its text form (base64url without padding) to dst.
func (s *sealer) Append(dst []byte, t *token, w *tokenScratch) []byte {
	b := append(w.raw[:0], tokenVersion)
	b = append(b, t.Decision[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(t.Person.Group))
	b = binary.BigEndian.AppendUint32(b, uint32(t.Person.Ord))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Person.Person))
	b = binary.BigEndian.AppendUint32(b, uint32(t.Offer))
	b = binary.BigEndian.AppendUint32(b, uint32(t.Treatment))
	b = binary.BigEndian.AppendUint32(b, uint32(t.Placement))
	b = append(b, t.Channel, t.Class)
	b = binary.BigEndian.AppendUint32(b, t.Life)
	b = binary.BigEndian.AppendUint32(b, t.Reservation.Epoch)
	b = binary.BigEndian.AppendUint64(b, t.Reservation.Number)
	var flags byte
	if t.Fallback {
		flags = tokenFallback
	}
	if t.scoped() {
		flags |= tokenScoped
	}
	b = append(b, byte(t.NVariants), flags, 0, 0, 0)
	if t.scoped() {
		b = binary.BigEndian.AppendUint32(b, t.Identity)
		b = binary.BigEndian.AppendUint32(b, t.Device)
	}
	for _, v := range t.Variants[:t.NVariants] {
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	}
	s.mac(w, b)
	b = append(b, w.mac[:tokenMACSize]...)
	return base64.RawURLEncoding.AppendEncode(dst, b)
}

func (t *token) scoped() bool { return t.Identity|t.Device != 0 }

// maxVariants is how many variants the token has room for.
func (t *token) maxVariants() int {
	if t.scoped() {
		return tokenScopedVariants
	}
	return tokenMaxVariants
}

// Open reads and authenticates a token. It errors with errToken on anything
// this store did not write.
func (s *sealer) Open(text []byte, t *token, w *tokenScratch) error {
	n := base64.RawURLEncoding.DecodedLen(len(text))
	if n < tokenFixed+tokenMACSize || n > tokenMaxBytes {
		return errToken
	}
	n, err := base64.RawURLEncoding.Strict().Decode(w.raw[:], text)
	if err != nil || w.raw[0] != tokenVersion {
		return errToken
	}
	b := w.raw[:n]
	variants, fixed := int(b[61]), tokenFixed
	if b[62]&tokenScoped != 0 {
		fixed += tokenScopedSize
	}
	if variants > tokenMaxVariants || n != fixed+4*variants+tokenMACSize {
		return errToken
	}
	s.mac(w, b[:n-tokenMACSize])
	if subtle.ConstantTimeCompare(w.mac[:tokenMACSize], b[n-tokenMACSize:]) != 1 {
		return errToken
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	*t = token{
		Person: storage.PersonRef{
			Group:  storage.GroupID(binary.BigEndian.Uint16(b[17:])),
			Ord:    storage.Ord(u32(19)),
			Person: storage.PersonID(binary.BigEndian.Uint64(b[23:])),
		},
		Offer: storage.Name(u32(31)), Treatment: storage.Name(u32(35)),
		Placement: storage.Name(u32(39)), Channel: b[43], Class: b[44], Life: u32(45),
		Reservation: storage.ReservationID{
			Epoch: u32(49), Number: binary.BigEndian.Uint64(b[53:]),
		},
		Fallback: b[62]&tokenFallback != 0, NVariants: variants,
	}
	copy(t.Decision[:], b[1:17])
	if fixed != tokenFixed {
		t.Identity, t.Device = u32(tokenFixed), u32(tokenFixed+4)
	}
	for i := range variants {
		t.Variants[i] = storage.Name(u32(fixed + 4*i))
	}
	return nil
}
