package storage

import (
	"encoding/binary"
	"fmt"
	"io"
)

// manifest is the store's own first record, written once at creation under
// 0x70 0x01:
//
//	format u8 | store id 16 | groups u16 | slot hash u8 | created ms u64 |
//	token key 16 | identity key 16 | slot, index, dedup, document seed u64 |
//	CRC32C u32                                      little-endian
type manifest struct {
	id      [16]byte
	groups  int
	created UnixMsec
	keys    Keys
}

const (
	manifestFormat = 1
	manifestSize   = 1 + 16 + 2 + 1 + 8 + 16 + 16 + 4*8 + 4
	slotHashXXH3   = 1 // "xxh3-1", see Store.SlotOf
)

func makeManifest(o *Options) (m manifest, err error) {
	var random [16 + 16 + 16 + 4*8]byte
	if _, err := io.ReadFull(o.Rand, random[:]); err != nil {
		return m, fmt.Errorf("random source: %w", err)
	}
	le := binary.LittleEndian
	copy(m.id[:], random[0:])
	copy(m.keys.TokenKey[:], random[16:])
	copy(m.keys.IdentityKey[:], random[32:])
	m.keys.SlotSeed = le.Uint64(random[48:])
	m.keys.IndexSeed = le.Uint64(random[56:])
	m.keys.DedupSeed = le.Uint64(random[64:])
	m.keys.DocumentSeed = le.Uint64(random[72:])
	m.groups, m.created = o.Groups, o.Now()
	return m, nil
}

func (m *manifest) append(b []byte) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(append(b, manifestFormat), m.id[:]...)
	b = append(le.AppendUint16(b, uint16(m.groups)), slotHashXXH3)
	b = le.AppendUint64(b, uint64(m.created))
	b = append(append(b, m.keys.TokenKey[:]...), m.keys.IdentityKey[:]...)
	b = le.AppendUint64(b, m.keys.SlotSeed)
	b = le.AppendUint64(b, m.keys.IndexSeed)
	b = le.AppendUint64(b, m.keys.DedupSeed)
	b = le.AppendUint64(b, m.keys.DocumentSeed)
	return le.AppendUint32(b, checkSum(b[start:]))
}

func parseManifest(b []byte) (m manifest, err error) {
	if len(b) > 0 && b[0] > manifestFormat {
		return m, fmt.Errorf("%w: %d, this version knows up to %d",
			ErrNewerFormat, b[0], manifestFormat)
	}
	le := binary.LittleEndian
	if len(b) != manifestSize || checkSum(b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return m, fmt.Errorf("%w: the store's manifest record", ErrCorrupt)
	}
	if b[19] != slotHashXXH3 {
		return m, fmt.Errorf("%w: slot hash %d", ErrNewerFormat, b[19])
	}
	copy(m.id[:], b[1:])
	m.groups = int(le.Uint16(b[17:]))
	m.created = UnixMsec(le.Uint64(b[20:]))
	copy(m.keys.TokenKey[:], b[28:])
	copy(m.keys.IdentityKey[:], b[44:])
	m.keys.SlotSeed = le.Uint64(b[60:])
	m.keys.IndexSeed = le.Uint64(b[68:])
	m.keys.DedupSeed = le.Uint64(b[76:])
	m.keys.DocumentSeed = le.Uint64(b[84:])
	if m.groups < 1 || m.groups > 1024 || m.groups&(m.groups-1) != 0 {
		return m, fmt.Errorf("%w: %d groups in the store's manifest record", ErrCorrupt, m.groups)
	}
	return m, nil
}

// epochRecord is under 0x70 0x02 and rewritten at every open:
//
//	format u8 | epoch u32 | opened ms u64 | CRC32C u32
func appendEpoch(b []byte, epoch uint32, opened UnixMsec) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(append(b, manifestFormat), epoch)
	b = binary.LittleEndian.AppendUint64(b, uint64(opened))
	return binary.LittleEndian.AppendUint32(b, checkSum(b[start:]))
}

func parseEpoch(b []byte) (uint32, error) {
	if len(b) != 17 || checkSum(b[:13]) != binary.LittleEndian.Uint32(b[13:]) {
		return 0, fmt.Errorf("%w: the epoch record", ErrCorrupt)
	}
	if b[0] > manifestFormat {
		return 0, fmt.Errorf("%w: epoch record, format %d", ErrNewerFormat, b[0])
	}
	return binary.LittleEndian.Uint32(b[1:]), nil
}
