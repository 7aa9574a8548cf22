package storage

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"tact/storage/eventlog"
	"tact/storage/journal"
)

// A Damage says that bytes of a file are not what was written. errors.Is finds
// ErrCorrupt in it.
type Damage struct {
	File string // in the store's folder, as db/000026.sst
	What string // as: block 12/19048: checksum mismatch
	Err  error  // what was found, of the database beneath; may be nil
}

func (d *Damage) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrCorrupt, d.File, d.What)
}

func (d *Damage) Unwrap() []error {
	if d.Err == nil {
		return []error{ErrCorrupt}
	}
	return []error{ErrCorrupt, d.Err}
}

// damageOf makes a Damage of what Pebble says of bytes. Where it does not say of which
// file they are, the files that the text names count, else the whole database.
func damageOf(err error) *Damage {
	d := &Damage{File: folderDatabase, What: plainText(err), Err: err}
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		name := info.Path[strings.LastIndexByte(info.Path, '/')+1:]
		d.File = folderDatabase + "/" + name
		d.What = strings.ReplaceAll(d.What, "file "+strings.TrimSuffix(name, ".sst")+": ", "")
	} else if files := damagedFiles(d.What); files != "" {
		d.File = files
	}
	return d
}

// tableDamage makes a Damage of an error about the bytes of one table.
func tableDamage(name string, err error) error {
	return &Damage{File: folderDatabase + "/" + name, What: plainText(err), Err: err}
}

// DamageText says in one line what an error tells of damage: the file first, where it
// is known.
func DamageText(err error) string {
	var d *Damage
	if errors.As(err, &d) {
		return d.File + ": " + d.What
	}
	return plainText(err)
}

// plainText is the text of an error in one line, without the class, which is said once,
// and without what only says where it comes from.
func plainText(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	for _, s := range []string{
		ErrCorrupt.Error() + ": ", eventlog.ErrCorrupt.Error() + ": ",
		journal.ErrCorrupt.Error() + ": ", journal.ErrRolledBack.Error() + ": ",
		ErrRolledBack.Error() + ": ", " <corruption detail carrier>",
		"pebble: file 000000: ", "pebble: ",
	} {
		text = strings.ReplaceAll(text, s, "")
	}
	return text
}

// damagedFiles returns the files of a store that a text names, as they lie in its
// folder and parted by commas; "" when it names none. The database names a table by
// its number alone, or by its level and number.
func damagedFiles(text string) string {
	var found []string
	for _, p := range []struct{ in, pattern, after string }{
		{folderDatabase + "/", `\b(\d{6,}\.(?:sst|log))`, ""},
		{folderDatabase + "/", `\b((?:MANIFEST|OPTIONS)-\d{6,}|marker\.[a-z-]+\S*)`, ""},
		{folderDatabase + "/", `\b(?:L\d: |file )(\d{6,}): `, ".sst"},
		{folderLog + "/", `\b((?:effects|decisions)-\d{8,}\.tlog)`, ""},
		{"", `\b(journal-\d{8,}|sidecar-[ab])\b`, ""},
	} {
		for _, m := range regexp.MustCompile(p.pattern).FindAllStringSubmatch(text, -1) {
			if name := p.in + m[1] + p.after; !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	return strings.Join(found, ", ")
}

// openFault names the file in an error of opening the database that names none: what
// it replays are the logs; what is missing where there is a MANIFEST is the other marker.
func (s *Store) openFault(err error) error {
	var d *Damage
	if !errors.As(err, &d) || d.File != folderDatabase {
		return err
	}
	switch {
	case strings.Contains(d.What, "WAL"):
		d.File = s.commitLogs()
	case strings.Contains(d.What, "not pristine"):
		d.File = folderDatabase + "/marker.format-version"
	}
	return err
}

// logDamage says that the database's log lacks what is known to have been synced.
func (s *Store) logDamage(format string, args ...any) error {
	return &Damage{File: s.commitLogs(), What: fmt.Sprintf(format, args...)}
}

// commitLogs names the logs of the database; the newest is the last.
func (s *Store) commitLogs() string {
	names, err := s.o.FS.List(s.o.FS.PathJoin(s.dir, folderDatabase))
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".log") })
	if err != nil || len(names) == 0 {
		return folderDatabase + ", which has no log"
	}
	slices.Sort(names)
	return folderDatabase + "/" + names[len(names)-1]
}
