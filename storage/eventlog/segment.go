package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	segmentMagic  = "tactelog"
	segmentFormat = 1
	segmentHeader = 44
	segmentSuffix = ".tlog"
)

// segmentName returns the name of a segment's file.
func segmentName(stream Stream, number uint64) string {
	return fmt.Sprintf("%s-%08d%s", stream, number, segmentSuffix)
}

// parseSegmentName is the other way round.
func parseSegmentName(name string) (number uint64, ok bool) {
	body, ok := strings.CutSuffix(name, segmentSuffix)
	stream, digits, cut := strings.Cut(body, "-")
	if !ok || !cut || stream != Effects.String() && stream != Decisions.String() {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil
}

// appendSegmentHeader appends
//
//	"tactelog" | format u32 | stream u8 | 0 u8 × 3 | store id 16 | number u64 | CRC32C u32
func appendSegmentHeader(dst []byte, id [16]byte, stream Stream, number uint64) []byte {
	le, at := binary.LittleEndian, len(dst)
	dst = le.AppendUint32(append(dst, segmentMagic...), segmentFormat)
	dst = append(append(dst, byte(stream), 0, 0, 0), id[:]...)
	dst = le.AppendUint64(dst, number)
	return le.AppendUint32(dst, checkSum(dst[at:]))
}

// checkSegmentHeader compares b with what the header should be.
func checkSegmentHeader(b []byte, id [16]byte, stream Stream, number uint64) error {
	want := appendSegmentHeader(nil, id, stream, number)
	if string(b) == string(want) {
		return nil
	}
	le := binary.LittleEndian
	if string(b[:8]) == segmentMagic && checkSum(b[:segmentHeader-4]) ==
		le.Uint32(b[segmentHeader-4:]) && le.Uint32(b[8:]) > segmentFormat {
		return fmt.Errorf("%w: segment format %d", ErrNewerFormat, le.Uint32(b[8:]))
	}
	return fmt.Errorf("%w: it is not this segment", ErrCorrupt)
}

// blockAt is a block and where it begins.
type blockAt struct {
	header
	at int64
}

// readAt reads exactly len(b) bytes.
func readAt(f io.ReaderAt, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: cut short", ErrCorrupt)
	}
	return err
}

// readBlocks reads the headers of all blocks of a segment and follows their chain.
func readBlocks(f io.ReaderAt, g *segment, id [16]byte) ([]blockAt, error) {
	head := make([]byte, segmentHeader)
	if err := readAt(f, head, 0); err != nil {
		return nil, err
	}
	if err := checkSegmentHeader(head, id, g.stream, g.number); err != nil {
		return nil, err
	}
	var blocks []blockAt
	var hash uint64
	buf := make([]byte, headerMax)
	at := int64(segmentHeader)
	for at < g.size {
		b := buf[:min(512, g.size-at)]
		if err := readAt(f, b, at); err != nil {
			return nil, err
		}
		size, err := headerSize(b)
		if err != nil {
			return nil, fmt.Errorf("at byte %d: %w", at, err)
		}
		if int64(size) > g.size-at {
			return nil, fmt.Errorf("at byte %d: %w: block beyond the end", at, ErrCorrupt)
		}
		if b = buf[:size]; size > 512 {
			if err := readAt(f, b, at); err != nil {
				return nil, err
			}
		}
		h, err := parseHeader(b)
		if err == nil && (h.prev != hash || h.stream != g.stream) {
			err = fmt.Errorf("%w: the block before it is another", ErrCorrupt)
		}
		if err != nil {
			return nil, fmt.Errorf("at byte %d: %w", at, err)
		}
		hash = chainHash(b)
		blocks = append(blocks, blockAt{h, at})
		at += int64(size) + h.body()
	}
	if at != g.size || hash != g.hash || len(blocks) != int(g.blocks) {
		return nil, fmt.Errorf("%w: the segment ends in another block than it should", ErrCorrupt)
	}
	return blocks, nil
}

// fetcher reads the columns of a block of a file.
func fetcher(f io.ReaderAt, b *blockAt) fetch {
	return func(dst []byte, at int64) error {
		return readAt(f, dst, b.at+int64(b.size)+at)
	}
}

// syncFolder makes the names in a folder durable.
func syncFolder(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
