package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
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
			"itself; and the rings of other stores in --ring-dir, which it never removes. A folder\n" +
			"that it may only read is enough.\n\n" +
			"Exit codes: 0 nothing is damaged, 5 a start refuses the store, 1 it could not look.",
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
	OK       bool      `json:"ok"`
	*Figures           // nil: damage hides them
	Tables   int       `json:"tables"`
	Bytes    int64     `json:"table_bytes"`
	Findings []finding `json:"findings"`
	// Unknown says what could not be looked at or judged; figures are what was read then.
	Unknown []string `json:"unknown"`

	Rings      []otherRing `json:"other_rings"` // in the rings' folder, of other stores
	RingsFault string      `json:"other_rings_unknown,omitempty"`
}

// Figures are what a store says of itself.
type Figures struct {
	Store     string `json:"store"`
	Clean     bool   `json:"ended_cleanly"`
	Starts    uint32 `json:"starts"`
	Users     int    `json:"users"`
	Revision  uint32 `json:"revision"`
	Documents int    `json:"documents"`
	Frames    int    `json:"frames"`
}

type finding struct {
	Damage  bool   `json:"damage"`
	Refusal bool   `json:"refusal"`
	File    string `json:"file"`
	What    string `json:"what"`
	Holds   string `json:"holds,omitempty"`
	WayBack string `json:"way_back"`
}

func newDiagnosis(d *storage.Diagnosis, revision uint32) *diagnosis {
	out := &diagnosis{
		OK: !d.Damaged(), Tables: d.Tables, Bytes: d.Bytes, Findings: []finding{},
		Unknown: append([]string{}, d.Unknown...),
	}
	if d.Known {
		out.Figures = &Figures{
			Store: hex.EncodeToString(d.StoreID[:]), Clean: d.Clean, Starts: d.Epoch, Users: d.Users,
			Revision: revision, Documents: d.Documents, Frames: d.Frames,
		}
	}
	for _, f := range d.Findings {
		out.Findings = append(out.Findings, finding{
			f.Damage, f.Refusal, f.File, f.What, f.Holds, f.WayBack,
		})
	}
	return out
}

func (d *diagnosis) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if v := d.Figures; v != nil {
		row("store", "%s, started %d times, %s", v.Store, v.Starts,
			map[bool]string{true: "ended cleanly", false: "not ended cleanly"}[v.Clean])
		row("content", "%s%s users, revision %d, %d documents, %s frames",
			map[bool]string{true: "of what could be read: "}[len(d.Unknown) > 0], grouped(int64(v.Users)),
			v.Revision, v.Documents, grouped(int64(v.Frames)))
	} else {
		row("content", "unknown: damage hides what is there")
	}
	row("read", "%d tables, %s bytes, every block", d.Tables, grouped(d.Bytes))
	for i := range d.Findings {
		f := &d.Findings[i]
		row("", "")
		row(f.label(), "%s", f.File)
		row("", "%s", f.What)
		if f.Holds != "" {
			row("", "there lie %s", f.Holds)
		}
		row("", "way back: %s", f.WayBack)
	}
	for i, text := range d.Unknown {
		if i == 0 {
			row("", "")
		}
		row("unknown", "%s", text)
	}
	d.printRings(row)
	row("", "")
	row(d.verdict())
	return table.Flush()
}

func (f *finding) label() string {
	switch {
	case f.Refusal:
		return "REFUSED"
	case f.Damage:
		return "DAMAGE"
	}
	return "notice"
}

// verdict is the last line.
func (d *diagnosis) verdict() (name, text string) {
	switch {
	case d.OK && len(d.Unknown) > 0:
		return "ok", "nothing that could be looked at is damaged"
	case d.OK:
		return "ok", "nothing is damaged"
	case slices.ContainsFunc(d.Findings, func(f finding) bool { return f.Damage && !f.Refusal }):
		return "damaged", "a server does not start on damage that it reads"
	}
	return "refused", "nothing is damaged, and a server does not start before it is told"
}
