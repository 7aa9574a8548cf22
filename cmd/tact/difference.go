package main

import (
	"context"
	"fmt"
	"strings"

	"tact/engine/definition"
	"tact/server/client"
)

// maxListed bounds the documents that are listed as new or changed; those that
// are removed are all named.
const maxListed = 50

// reportChanges is what a publish changes, document by document, as kind/id.
type reportChanges struct {
	Added   []string `json:"added"`
	Changed []string `json:"changed"`
	Removed []string `json:"removed"`
	Same    int      `json:"same"`
}

// changesOf compares two revisions, or a revision and a folder.
func changesOf(before, after []definition.File) *reportChanges {
	was, _ := definition.Load(before) // faults are the server's to report
	is, _ := definition.Load(after)
	d := definition.Diff(was, is)
	c := &reportChanges{Added: d.Added, Changed: d.Changed, Removed: d.Removed, Same: d.Same}
	for _, list := range []*[]string{&c.Added, &c.Changed, &c.Removed} {
		if *list == nil {
			*list = []string{}
		}
	}
	return c
}

// filesOf reads the files of a revision from a server; revision 0 has none.
func filesOf(ctx context.Context, c *client.Client, n uint32) ([]definition.File, error) {
	if n == 0 {
		return nil, nil
	}
	_, files, err := c.Files(ctx, n)
	return definitionFiles(files), err
}

func definitionFiles(files []client.File) []definition.File {
	out := make([]definition.File, len(files))
	for i, f := range files {
		out[i] = definition.File{Name: f.Name, Content: f.Content}
	}
	return out
}

func clientFiles(files []definition.File) []client.File {
	out := make([]client.File, len(files))
	for i, f := range files {
		out[i] = client.File{Name: f.Name, Content: f.Content}
	}
	return out
}

// publishedChanges compares a new revision with the one it took over from: the one
// before it, as revisions are numbered without gaps.
func publishedChanges(ctx context.Context, c *client.Client, n uint32) (*reportChanges, error) {
	before, err := filesOf(ctx, c, n-1)
	if err != nil {
		return nil, err
	}
	after, err := filesOf(ctx, c, n)
	if err != nil {
		return nil, err
	}
	return changesOf(before, after), nil
}

// lines names what is removed, changed and new.
func (c *reportChanges) lines() string {
	var b strings.Builder
	list := func(sign string, names []string, most int) {
		for i, name := range names {
			if i == most {
				fmt.Fprintf(&b, "%s … and %d more\n", sign, len(names)-most)
				return
			}
			fmt.Fprintf(&b, "%s %s\n", sign, name)
		}
	}
	list("-", c.Removed, len(c.Removed))
	list("~", c.Changed, maxListed)
	list("+", c.Added, maxListed)
	fmt.Fprintf(&b, "%s removed, %d changed, %d new, %d as they were\n",
		count(len(c.Removed), "document"), len(c.Changed), len(c.Added), c.Same)
	return b.String()
}
