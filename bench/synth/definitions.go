package synth

import (
	"embed"
	"io/fs"
	"strings"

	"tact/engine/definition"
)

//go:embed definitions
var story embed.FS

// Definitions are the documents that go with the people of the Story shape: a
// shop with twenty offers on five channels, its contact policy, a running
// experiment and a holdout. They are also an example to copy.
func Definitions() ([]definition.File, error) {
	var files []definition.File
	err := fs.WalkDir(story, "definitions", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := story.ReadFile(name)
		if err != nil {
			return err
		}
		files = append(files, definition.File{
			Name: strings.TrimPrefix(name, "definitions/"), Content: content,
		})
		return nil
	})
	return files, err
}
