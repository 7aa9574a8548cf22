package storage

import "tact/storage/journal"

// A RingFile is a ring of a journal in a folder of rings.
type RingFile = journal.RingFile

// Rings lists the rings in a folder of rings: of stores in use, of stores that a kill or
// a loss of power has ended and that will be opened again, and of stores that are gone.
// It changes nothing. See journal.Rings.
func Rings(dir string) ([]RingFile, error) { return journal.Rings(dir) }
