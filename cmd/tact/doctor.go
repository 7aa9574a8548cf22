package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tact/engine"
	"tact/storage"
)

func newDoctor() *cobra.Command {
	var asJSON bool
	var ringDir string
	cmd := &cobra.Command{
		Use:   "doctor DIR",
		Short: "Say what is wrong with the store of a data folder, and the way back",
		Long: "doctor reads the whole store in DIR, which no server may use, and changes nothing:\n" +
			"every table, the logs, what they are compared with, rows, frames, documents. It\n" +
			"names each damage, what lies there and the way back, and what a start mends by\n" +
			"itself; and the rings of other stores in --ring-dir, which it never removes.\n\n" +
			"Exit codes: 0 nothing is damaged, 5 something is, 1 it could not look.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := storage.Options{Logger: newLogger(cmd.ErrOrStderr(), false), RingDir: ringDir}
			d, revision, err := engine.Examine(storeFolder(args[0]), o)
			if errors.Is(err, storage.ErrNotFound) {
				return noStore(args[0])
			}
			if err != nil {
				return err
			}
			out := newDiagnosis(d, revision)
			out.Rings, out.RingsFault = otherRings(ringDir, d.StoreID)
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), out)
			} else {
				err = out.print(cmd.OutOrStdout())
			}
			if err == nil && !out.OK {
				return &exitError{code: exitDamaged}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one line of JSON")
	cmd.Flags().StringVar(&ringDir, "ring-dir", defaultRingDir, "as of serve")
	return cmd
}

// diagnosis is what doctor prints.
type diagnosis struct {
	OK        bool      `json:"ok"`
	Store     string    `json:"store"`
	Clean     bool      `json:"ended_cleanly"`
	Starts    uint32    `json:"starts"`
	Users     int       `json:"users"`
	Revision  uint32    `json:"revision"`
	Documents int       `json:"documents"`
	Frames    int       `json:"frames"`
	Tables    int       `json:"tables"`
	Bytes     int64     `json:"table_bytes"`
	Findings  []finding `json:"findings"`

	Rings      []otherRing `json:"other_rings"` // in the rings' folder, of other stores
	RingsFault string      `json:"other_rings_unknown,omitempty"`
}

type finding struct {
	Damage  bool   `json:"damage"`
	File    string `json:"file"`
	What    string `json:"what"`
	Holds   string `json:"holds,omitempty"`
	WayBack string `json:"way_back"`
}

func newDiagnosis(d *storage.Diagnosis, revision uint32) *diagnosis {
	out := &diagnosis{
		OK: !d.Damaged(), Store: hex.EncodeToString(d.StoreID[:]), Clean: d.Clean, Starts: d.Epoch,
		Users: d.Users, Revision: revision, Documents: d.Documents, Frames: d.Frames,
		Tables: d.Tables, Bytes: d.Bytes, Findings: []finding{},
	}
	for _, f := range d.Findings {
		out.Findings = append(out.Findings, finding(f))
	}
	return out
}

func (d *diagnosis) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("store", "%s, started %d times, %s", d.Store, d.Starts,
		map[bool]string{true: "ended cleanly", false: "not ended cleanly"}[d.Clean])
	row("content", "%s users, revision %d, %d documents, %s frames", grouped(int64(d.Users)),
		d.Revision, d.Documents, grouped(int64(d.Frames)))
	row("read", "%d tables, %s bytes, every block", d.Tables, grouped(d.Bytes))
	for _, f := range d.Findings {
		row("", "")
		row(map[bool]string{true: "DAMAGE", false: "notice"}[f.Damage], "%s", f.File)
		row("", "%s", f.What)
		if f.Holds != "" {
			row("", "there lie %s", f.Holds)
		}
		row("", "way back: %s", f.WayBack)
	}
	d.printRings(row)
	row("", "")
	row(map[bool]string{true: "ok", false: "damaged"}[d.OK], "%s", map[bool]string{
		true: "nothing is damaged", false: "a server does not start on damage that it reads",
	}[d.OK])
	return table.Flush()
}
