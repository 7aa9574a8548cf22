package engine

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"tact/storage"
)

// A sample of counts, and the traffic of an hour, whose bytes are any are an error of a
// class, or are read in full: written again they are read as the same.
func FuzzSamples(f *testing.F) {
	f.Add(appendSample(nil, 1_800_000_000_000, []segmentCount{{3, 1 << 40}, {9, 0}}))
	f.Add(appendSample(nil, 7, nil))
	f.Add(trafficHour{490_000, 12}.append(nil))
	f.Add(trafficHour{maxHour, 1 << 63}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		class := func(err error) bool {
			return errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrNewerFormat)
		}
		at, counts, err := decodeSample(b, nil)
		switch {
		case err != nil && !class(err):
			t.Fatal(err)
		case err == nil:
			again, same, err := decodeSample(appendSample(nil, at, counts), nil)
			if err != nil || again != at || !slices.Equal(same, counts) || at < 0 {
				t.Fatalf("%x: %d %v, then %d %v, %v", b, at, counts, again, same, err)
			}
		}
		hour, err := decodeTraffic(b)
		switch {
		case err != nil && !class(err):
			t.Fatal(err)
		case err == nil && !bytes.Equal(hour.append(nil), b):
			t.Fatalf("%x is read as %+v", b, hour)
		}
	})
}
