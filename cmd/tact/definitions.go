package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tact/engine/definition"
	"tact/server/client"
)

func newDefinitions() *cobra.Command {
	var (
		server    remote
		revision  uint32
		revisions bool
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "definitions [DIR]",
		Short: "Fetch the definitions in force, or those of an older revision",
		Long: "definitions writes the files that were published last, byte for byte, to DIR, which\n" +
			"must be empty or not there yet: `tact apply DIR` publishes them again. Without DIR it\n" +
			"prints them. --revision N takes those of revision N, --revisions lists revisions.",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if revisions && (len(args) > 0 || revision != 0) {
				return wrongUse(cmd, errors.New("--revisions takes neither a folder nor a revision"))
			}
			c, err := server.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if revisions {
				return listRevisions(cmd, c, asJSON)
			}
			n, files, err := c.Files(cmd.Context(), revision)
			switch {
			case err != nil:
				return remoteError(cmd.Context(), fmt.Errorf("definitions: %w", err))
			case n == 0:
				return errors.New("nothing has been published yet")
			case len(args) == 1:
				return saveDefinitions(cmd, args[0], n, files, asJSON)
			}
			return printDefinitions(cmd, n, files, asJSON)
		},
	}
	server.flags(cmd)
	f := cmd.Flags()
	f.Uint32Var(&revision, "revision", 0, "of this revision (default: the one in force)")
	f.BoolVar(&revisions, "revisions", false, "list the newest revisions")
	f.BoolVar(&asJSON, "json", false, "JSON instead of text")
	return cmd
}

// fetched is what --json says of a revision.
type fetched struct {
	Revision uint32        `json:"revision"`
	Files    []fetchedFile `json:"files"`
}

type fetchedFile struct {
	Name    string `json:"name"`
	Content string `json:"content,omitempty"`
}

func saveDefinitions(
	cmd *cobra.Command, dir string, n uint32, files []client.File, asJSON bool,
) error {
	if err := definition.SaveDir(dir, definitionFiles(files)); err != nil {
		return err
	}
	if !asJSON {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "revision %d: %s in %s\n",
			n, count(len(files), "file"), dir)
		return err
	}
	out := fetched{Revision: n, Files: []fetchedFile{}}
	for _, f := range files {
		out.Files = append(out.Files, fetchedFile{Name: f.Name})
	}
	return writeJSON(cmd.OutOrStdout(), out)
}

// printDefinitions prints the files one below the other, each under a comment with
// its name: of files of YAML that is one file of YAML.
func printDefinitions(cmd *cobra.Command, n uint32, files []client.File, asJSON bool) error {
	w := cmd.OutOrStdout()
	if asJSON {
		out := fetched{Revision: n, Files: []fetchedFile{}}
		for _, f := range files {
			out.Files = append(out.Files, fetchedFile{f.Name, string(f.Content)})
		}
		return writeJSON(w, out)
	}
	for _, f := range files {
		if _, err := fmt.Fprintf(w, "---\n# %s, revision %d\n%s\n", f.Name, n, f.Content); err != nil {
			return err
		}
	}
	return nil
}

func listRevisions(cmd *cobra.Command, c *client.Client, asJSON bool) error {
	list, err := c.Revisions(cmd.Context(), 0)
	if err != nil {
		return remoteError(cmd.Context(), fmt.Errorf("definitions: %w", err))
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), list)
	}
	for _, r := range list {
		note := r.Note
		if r.Restores != 0 {
			note = fmt.Sprintf("restores %d %s", r.Restores, note)
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%d\t%s\t%s\t%s\n",
			r.Number, r.At.Format("2006-01-02T15:04:05Z07:00"), r.Author, note); err != nil {
			return err
		}
	}
	return nil
}
