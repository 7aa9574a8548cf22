package engine

import (
	"tact/storage"
	"tact/storage/docs"
)

// Examine looks at everything in the store under dir, which no process may use,
// and changes nothing. revision is the last published one that can be read, 0
// when there is none. See storage.Examine for its errors and its cost.
func Examine(dir string, o storage.Options) (
	d *storage.Diagnosis, revision uint32, err error,
) {
	d, err = storage.Examine(dir, o, func(key string, value []byte) {
		if n, ok := docs.CurrentOf(key, value); ok {
			revision = n
		}
	})
	return d, revision, err
}
