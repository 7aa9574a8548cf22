//go:build !linux

package journal

import "os"

// openDirect opens an ordinary file: its writes are followed by a sync.
func openDirect(path string) (f *os.File, direct bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR, 0)
	return f, false, err
}

func syncData(f *os.File) error { return f.Sync() }

func mapShared(*os.File, int) ([]byte, error) { return nil, errNoRing }
func tryOwn(*os.File) (bool, error)           { return false, errNoRing }
func lockMemory([]byte) error                 { return errNoRing }
func unmapShared([]byte) error                { return nil }

func mappings(string) map[string]int { return nil }
