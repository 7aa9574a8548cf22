package storage

import "encoding/binary"

func appendKeys(b []byte, keys []HeldKey) []byte {
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for i := range keys {
		k := &keys[i]
		b = binary.AppendUvarint(b, uint64(k.Key.Cap))
		b = binary.AppendUvarint(b, uint64(k.Key.Dim))
		b = binary.LittleEndian.AppendUint16(b, k.CountOn)
		b = append(b, k.Limit, k.flags())
		if k.Total || k.Coarse != CoarseNone {
			b = binary.AppendUvarint(b, uint64(k.Window))
		}
		if k.Cost != 0 {
			b = binary.AppendUvarint(b, k.Cost)
		}
	}
	return b
}

func appendWindows(b []byte, windows []TotalKey) []byte {
	b = binary.AppendUvarint(b, uint64(len(windows)))
	for _, k := range windows {
		b = binary.AppendUvarint(b, uint64(k.Cap))
		b = binary.AppendUvarint(b, uint64(k.Dim))
		b = binary.AppendUvarint(b, uint64(k.Window))
	}
	return b
}

func (d *effectDecoder) heldKeys() []HeldKey {
	d.keys = d.keys[:0]
	for range d.in.count(6) {
		k := HeldKey{
			Key:     CounterKey{Cap: d.in.name(), Dim: d.in.uvarint32()},
			CountOn: d.in.u16(), Limit: d.in.u8(),
		}
		flags := d.in.u8()
		d.in.check(flags&^heldKeyCost <= heldKeyFlags)
		k.Total, k.Coarse = flags&heldKeyTotal != 0, Coarse(flags>>1&3)
		if flags != 0 {
			k.Window = d.in.uvarint32()
		}
		if flags&heldKeyCost != 0 {
			k.Cost = d.in.uvarint()
			d.in.check(k.Total && k.Cost != 0)
		}
		d.keys = append(d.keys, k)
	}
	return orNil(d.keys)
}

// totalWindows reads the windows of a confirm: none in one of a version without
// them.
func (d *effectDecoder) totalWindows() []TotalKey {
	d.windows = d.windows[:0]
	if len(d.in.b) == 0 {
		return nil
	}
	n := d.in.count(3)
	d.in.check(n > 0 || len(d.in.b) > 0)
	for range n {
		d.windows = append(d.windows, TotalKey{
			CounterKey: CounterKey{Cap: d.in.name(), Dim: d.in.uvarint32()}, Window: d.in.uvarint32(),
		})
	}
	return orNil(d.windows)
}
