package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// sealed is a JSON document that ends in the SHA-256 of itself with that field
// empty.
type sealed interface{ checksum() *string }

func encodeSealed(v sealed) ([]byte, error) {
	*v.checksum() = ""
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	*v.checksum() = hex.EncodeToString(sum[:])
	b, err = json.MarshalIndent(v, "", " ")
	return append(b, '\n'), err
}

// decodeSealed reads what encodeSealed wrote, byte for byte.
func decodeSealed(b []byte, format int, v sealed) error {
	var head struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(b, &head) == nil && head.Format > format {
		return fmt.Errorf("%w: %d, this version knows up to %d",
			storage.ErrNewerFormat, head.Format, format)
	}
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	if err := in.Decode(v); err != nil {
		return errBytes("%v", err)
	}
	again, err := encodeSealed(v)
	if err != nil {
		return err
	}
	if head.Format < 1 || !bytes.Equal(again, b) {
		return errBytes("it fails its checksum")
	}
	return nil
}

// sealedMax bounds the bytes of a sealed document.
const sealedMax = 256 << 20

func readSealed(fs vfs.FS, path string, format int, v sealed) error {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, sealedMax))
	if err != nil {
		return err
	}
	if err := decodeSealed(b, format, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeSealed replaces a document: the old one or the new one is there after a
// crash, whole.
func writeSealed(fs vfs.FS, dir, name string, v sealed) error {
	b, err := encodeSealed(v)
	if err != nil {
		return err
	}
	path := fs.PathJoin(dir, name)
	f, err := fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".new", path); err != nil {
		return err
	}
	return syncFolder(fs, dir)
}

// syncFolder makes the names in a folder durable.
func syncFolder(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrBusy reports a folder of backups that somebody else works on.
var ErrBusy = errors.New("another backup or erasure works on this folder")

const lockPause = 20 * time.Millisecond

// lock takes a lock file, waiting as long as ctx allows.
func lock(ctx context.Context, fs vfs.FS, path string) (io.Closer, error) {
	for {
		held, err := fs.Lock(path)
		if err == nil {
			return held, nil
		}
		timer := time.NewTimer(lockPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w: %s: %w", ErrBusy, path, err)
		}
	}
}
