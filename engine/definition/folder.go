package definition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrTooLarge reports a definitions folder with more than MaxBytes of text, or
// with more files or folders than a definitions folder can have.
var ErrTooLarge = errors.New("definitions folder is too large")

// maxEntries bounds the files and folders LoadDir looks at: a folder that was
// named by mistake (a home, a root) is refused and not read through.
const maxEntries = 100_000

// LoadDir reads every *.yaml and *.yml file of dir and of its folders, in the
// order of their names, without parsing them. Names are slash-separated and
// relative to dir. Names that start with a dot are left out. Symbolic links are
// followed; a link back to a folder that is being read is left out, so a loop
// ends. It returns ErrTooLarge beyond MaxBytes of text.
func LoadDir(dir string) ([]File, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("read definitions: %s is not a folder", dir)
	}
	w := &folderWalk{room: MaxBytes}
	if err := w.walk(dir, "", []os.FileInfo{info}); err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	if len(w.files) == 0 {
		return nil, fmt.Errorf("read definitions: no *.yaml or *.yml under %s", dir)
	}
	slices.SortFunc(w.files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return w.files, nil
}

// SaveDir writes files to dir, which must not be there or be empty, so that LoadDir
// gives the same documents: byte for byte where they are YAML. A name that is no
// place inside a folder, or that LoadDir would leave out, is an error before
// anything is written.
func SaveDir(dir string, files []File) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("write definitions: %s is not empty", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write definitions: %w", err)
	}
	out := make([]File, 0, len(files))
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		f, err := asYAML(f)
		if err != nil {
			return fmt.Errorf("write definitions: %s: %w", f.Name, err)
		}
		hidden := strings.HasPrefix(f.Name, ".") || strings.Contains(f.Name, "/.")
		local := fs.ValidPath(f.Name) && filepath.IsLocal(filepath.FromSlash(f.Name))
		if !local || hidden || seen[f.Name] {
			return fmt.Errorf("write definitions: %q is no name of a file in a folder", f.Name)
		}
		seen[f.Name] = true
		out = append(out, f)
	}
	for _, f := range out {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("write definitions: %w", err)
		}
		if err := os.WriteFile(name, f.Content, 0o644); err != nil {
			return fmt.Errorf("write definitions: %w", err)
		}
	}
	return nil
}

type folderWalk struct {
	files []File
	room  int64 // bytes that may still be read
	seen  int   // entries looked at
}

// walk reads the folder at disk, whose name inside the set is name. open holds
// the folders from the root to this one.
func (w *folderWalk) walk(disk, name string, open []os.FileInfo) error {
	entries, err := os.ReadDir(disk)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if w.seen++; w.seen > maxEntries {
			return fmt.Errorf("%w: more than %d files and folders", ErrTooLarge, maxEntries)
		}
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := w.entry(filepath.Join(disk, e.Name()), path.Join(name, e.Name()), open); err != nil {
			return err
		}
	}
	return nil
}

func (w *folderWalk) entry(disk, name string, open []os.FileInfo) error {
	wanted := strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
	info, err := os.Stat(disk)
	if errors.Is(err, fs.ErrNotExist) && !wanted {
		return nil // a dangling link to something that is not a definition
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		for _, above := range open {
			if os.SameFile(above, info) {
				return nil
			}
		}
		return w.walk(disk, name, append(slices.Clip(open), info))
	}
	if !wanted {
		return nil
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	return w.read(disk, name)
}

func (w *folderWalk) read(disk, name string) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, w.room+1))
	if err != nil {
		return err
	}
	if w.room -= int64(len(content)); w.room < 0 {
		return fmt.Errorf("%w: %s (at %s)", ErrTooLarge, tooManyBytes(), name)
	}
	w.files = append(w.files, File{Name: name, Content: content})
	return nil
}

func tooManyBytes() string {
	return fmt.Sprintf("definitions hold more than %d MiB of text", MaxBytes>>20)
}

func withoutBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) }

// textFault finds the first byte that is not UTF-8, or the first control
// character that no document may hold.
func textFault(f File) (Fault, bool) {
	pos := Pos{File: f.Name, Line: 1, Column: 1}
	for rest := f.Content; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		switch {
		case c == utf8.RuneError && size == 1:
			return Fault{Pos: pos, Message: "broken UTF-8"}, true
		case c < ' ' && c != '\t' && c != '\n' && c != '\r', c >= 0x7f && c < 0xa0 && c != 0x85:
			return Fault{Pos: pos, Message: fmt.Sprintf("control character U+%04X", c)}, true
		case c == '\n':
			pos.Line, pos.Column = pos.Line+1, 0
		}
		pos.Column++
		rest = rest[size:]
	}
	return Fault{}, false
}
