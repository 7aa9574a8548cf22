package storage

import (
	"errors"
	"fmt"
)

// ErrRestoring reports a folder without a store, beside which one is being made, or was
// until a restore was cut short. To make an empty store there would hide that.
var ErrRestoring = errors.New("a restore is under way, or was cut short")

// RestoringFolder names the folder, beside dir, in which a store is made that is to have
// the name dir.
func RestoringFolder(dir string) string { return dir + ".restoring" }

// Restoring errors with ErrRestoring when there is no store in dir and a restore has
// begun one. Of o it uses FS.
func Restoring(dir string, o Options) error {
	o.fill()
	there, err := exists(o.FS, o.FS.PathJoin(dir, folderDatabase))
	if there || err != nil {
		return err
	}
	beside := RestoringFolder(dir)
	if there, err = exists(o.FS, beside); there {
		return fmt.Errorf("%w: there is no store in %s yet, and %s is there. Let the restore end, "+
			"or run it again, which begins anew; to do without it, remove that folder",
			ErrRestoring, dir, beside)
	}
	return err
}
