package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"

	"tact/storage"
)

// A stream is a file of records, key and value, in blocks. Little-endian:
//
//	"tactbkup" | format u8 | kind u8 | 0 u16 | number u32 | backup id 16 | CRC32C u32
//	block: "bblk" | raw bytes u32 | stored bytes u32 | index u32 | CRC32C u32 | stored bytes
//	end: "bend" | blocks u32 | records u64 | CRC32C u32
//
// A block is records of key length uvarint | value length uvarint | key | value,
// Zstandard-compressed when the stored bytes are fewer than the raw ones. Its crc
// is over the sixteen bytes before it and the stored bytes.
const (
	streamMagic  = "tactbkup"
	streamFormat = 1
	streamHeader = 36
	blockMagic   = 0x6B6C6262 // "bblk"
	endMagic     = 0x646E6562 // "bend"
	blockHeader  = 20
	endBytes     = 20
	// A block of this size compresses about as well as a larger one.
	blockBytes = 1 << 20
	// The largest record is a document or a frame of 64 MiB.
	blockMax = 160 << 20
)

// fileKind says what a file of a backup holds. The number is stored.
type fileKind uint8

const (
	kindRows   fileKind = iota + 1 // of a full backup: what belongs to people and groups
	kindState                      // names, documents, lists, the event log's state
	kindFrames                     // frames, by group and number
	kindPeople                     // people's keys and claims of identities
	kindLog                        // a piece of a segment of the event log, as it is
)

func (k fileKind) String() string {
	names := [...]string{"", "rows", "state", "frames", "people", "log"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// ID names a backup.
type ID [16]byte

// String returns the id in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// streamID says which file of which backup a stream is.
type streamID struct {
	kind   fileKind
	number uint32
	backup ID
}

func appendStreamHeader(b []byte, id streamID) []byte {
	at := len(b)
	b = append(append(b, streamMagic...), streamFormat, byte(id.kind), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, id.number)
	b = append(b, id.backup[:]...)
	return binary.LittleEndian.AppendUint32(b, checkSum(b[at:]))
}

// checkSum is CRC32C, which the processor computes.
func checkSum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// sink is a file being written: what it holds is counted, summed and, when it is
// closed, synced.
type sink struct {
	file  vfs.File
	sum   hash.Hash
	bytes int64
	pace  *pace
}

func createSink(fs vfs.FS, path string, p *pace) (*sink, error) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return &sink{file: f, sum: sha256.New(), pace: p}, nil
}

func (s *sink) Write(b []byte) (int, error) {
	if err := s.pace.spend(int64(len(b))); err != nil {
		return 0, err
	}
	_, _ = s.sum.Write(b) // a hash takes everything; a write may change what it is given
	n, err := s.file.Write(b)
	s.bytes += int64(n)
	return n, err // after an error the file is never named
}

// close ends the file. It is durable when its name is.
func (s *sink) close() error { return errors.Join(s.file.Sync(), s.file.Close()) }

func (s *sink) digest() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// writer writes one stream.
type writer struct {
	to     *sink
	pack   *zstd.Encoder
	raw    []byte
	out    []byte
	blocks uint32
	rows   uint64
}

func newPacker() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
}

func newWriter(to *sink, id streamID, pack *zstd.Encoder) (*writer, error) {
	w := &writer{to: to, pack: pack}
	_, err := to.Write(appendStreamHeader(nil, id))
	return w, err
}

// add appends a record. A block ends when it is full.
func (w *writer) add(key, value []byte) error {
	w.raw = binary.AppendUvarint(w.raw, uint64(len(key)))
	w.raw = binary.AppendUvarint(w.raw, uint64(len(value)))
	w.raw = append(append(w.raw, key...), value...)
	w.rows++
	if len(w.raw) < blockBytes {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	if len(w.raw) == 0 {
		return nil
	}
	if len(w.raw) > blockMax {
		return fmt.Errorf("%w: a record of %d bytes", storage.ErrLimit, len(w.raw))
	}
	w.out = append(w.out[:0], make([]byte, blockHeader)...)
	w.out = w.pack.EncodeAll(w.raw, w.out)
	if len(w.out)-blockHeader >= len(w.raw) {
		w.out = append(w.out[:blockHeader], w.raw...)
	}
	le := binary.LittleEndian
	le.PutUint32(w.out, blockMagic)
	le.PutUint32(w.out[4:], uint32(len(w.raw)))
	le.PutUint32(w.out[8:], uint32(len(w.out)-blockHeader))
	le.PutUint32(w.out[12:], w.blocks)
	sum := crc32.Update(checkSum(w.out[:16]), crc32.MakeTable(crc32.Castagnoli), w.out[blockHeader:])
	le.PutUint32(w.out[16:], sum)
	w.blocks++
	w.raw = w.raw[:0]
	_, err := w.to.Write(w.out)
	return err
}

// end writes what is open and the end; the sink stays open.
func (w *writer) end() error {
	if err := w.flush(); err != nil {
		return err
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, endMagic)
	b = le.AppendUint64(le.AppendUint32(b, w.blocks), w.rows)
	_, err := w.to.Write(le.AppendUint32(b, checkSum(b)))
	return err
}

// ErrDamaged reports a backup in which something is not what was written, or is gone:
// a byte, a file, a backup that it goes on from. It is a storage.ErrCorrupt.
var ErrDamaged = errors.New("damaged backup")

// damage is an ErrDamaged that says what.
type damage struct{ what string }

func (d *damage) Error() string { return "damaged: " + d.what }

func (d *damage) Is(class error) bool {
	return class == ErrDamaged || class == storage.ErrCorrupt
}

// errBytes is what bytes that are not those that were written are.
func errBytes(format string, args ...any) error {
	return &damage{fmt.Sprintf(format, args...)}
}

// unpacker reads streams, one at a time.
type unpacker struct {
	unpack *zstd.Decoder
	stored []byte
	raw    []byte
}

func newUnpacker() (*unpacker, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(blockMax))
	return &unpacker{unpack: d}, err
}

// read reads a stream of size bytes to its end and calls f for every record, whose
// block is verified. It errors with storage.ErrCorrupt, storage.ErrNewerFormat,
// what f returns or what r does. The slices are valid during the call.
func (u *unpacker) read(r io.Reader, size int64, id streamID,
	f func(key, value []byte) error,
) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var head [streamHeader]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return cutShort(err)
	}
	if err := checkStreamHeader(head[:], id); err != nil {
		return err
	}
	left := size - streamHeader
	var rows uint64
	for index := uint32(0); ; index++ {
		n, end, err := u.block(in, left, index)
		if err != nil {
			return fmt.Errorf("at byte %d: %w", size-left, err)
		}
		left -= n
		if end != nil {
			if left != 0 || end.rows != rows {
				return errBytes("%d records, %d bytes behind the end", rows, left)
			}
			return nil
		}
		got, err := eachRecord(u.raw, f)
		if err != nil {
			return err
		}
		rows += got
	}
}

func checkStreamHeader(b []byte, id streamID) error {
	want := appendStreamHeader(nil, id)
	if string(b) == string(want) {
		return nil
	}
	sum := binary.LittleEndian.Uint32(b[streamHeader-4:])
	if string(b[:8]) == streamMagic && checkSum(b[:streamHeader-4]) == sum && b[8] > streamFormat {
		return fmt.Errorf("%w: stream format %d", storage.ErrNewerFormat, b[8])
	}
	return errBytes("it is not file %d of %s of backup %s", id.number, id.kind, id.backup)
}

// streamEnd is what the end says.
type streamEnd struct{ rows uint64 }

// block reads one block into u.raw, or the end.
func (u *unpacker) block(in *bufio.Reader, left int64, index uint32) (int64, *streamEnd, error) {
	var head [blockHeader]byte
	if left < endBytes {
		return 0, nil, errBytes("cut short")
	}
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, cutShort(err)
	}
	le := binary.LittleEndian
	if le.Uint32(head[:]) == endMagic {
		if checkSum(head[:16]) != le.Uint32(head[16:]) || le.Uint32(head[4:]) != index {
			return 0, nil, errBytes("the end fails its checksum")
		}
		return endBytes, &streamEnd{le.Uint64(head[8:])}, nil
	}
	raw, stored := int64(le.Uint32(head[4:])), int64(le.Uint32(head[8:]))
	if le.Uint32(head[:]) != blockMagic || le.Uint32(head[12:]) != index || raw > blockMax ||
		stored > raw || stored > left-blockHeader || raw == 0 {
		return 0, nil, errBytes("no block %d begins here", index)
	}
	u.stored = grown(u.stored, stored)
	if _, err := io.ReadFull(in, u.stored); err != nil {
		return 0, nil, cutShort(err)
	}
	sum := crc32.Update(checkSum(head[:16]), crc32.MakeTable(crc32.Castagnoli), u.stored)
	if sum != le.Uint32(head[16:]) {
		return 0, nil, errBytes("block %d fails its checksum", index)
	}
	if stored == raw {
		u.raw = append(u.raw[:0], u.stored...)
		return blockHeader + stored, nil, nil
	}
	var err error
	u.raw, err = u.unpack.DecodeAll(u.stored, u.raw[:0])
	if err != nil || int64(len(u.raw)) != raw {
		return 0, nil, errBytes("block %d does not unpack: %v", index, err)
	}
	return blockHeader + stored, nil, nil
}

func grown(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

func eachRecord(raw []byte, f func(key, value []byte) error) (rows uint64, err error) {
	for len(raw) > 0 {
		nk, a := binary.Uvarint(raw)
		if a <= 0 {
			return rows, errBytes("malformed record")
		}
		nv, b := binary.Uvarint(raw[a:])
		if b <= 0 || nk > uint64(len(raw)) || nv > uint64(len(raw)) ||
			nk+nv > uint64(len(raw)-a-b) {
			return rows, errBytes("malformed record")
		}
		body := raw[a+b:]
		if err := f(body[:nk], body[nk:nk+nv]); err != nil {
			return rows, err
		}
		raw = body[nk+nv:]
		rows++
	}
	return rows, nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errBytes("cut short")
	}
	return err
}
