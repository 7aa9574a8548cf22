package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tact/storage/backup"
)

func newBackupList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list DIR",
		Short: "List the backups in a folder: what they cover, when, how large",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := backup.List(args[0], backup.Options{})
			if err != nil {
				return err
			}
			if len(all) == 0 && !asJSON {
				return isBackups(args[0])
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), newListing(all))
			}
			return newListing(all).print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one line of JSON")
	return cmd
}

type listing []listedBackup

type listedBackup struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind,omitempty"`
	From    time.Time `json:"from,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Took    float64   `json:"seconds,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"`
	Users   int64     `json:"users,omitempty"`
	WhyFull string    `json:"why_full,omitempty"`
	Fault   string    `json:"fault,omitempty"`
	// Restorable is false of one with a fault, and of one that goes on from such a one.
	Restorable bool   `json:"restorable"`
	Store      string `json:"store,omitempty"`
}

func newListing(all []backup.Listed) listing {
	out := listing{}
	for i := range all {
		m := &all[i]
		if m.Fault != nil {
			out = append(out, listedBackup{Name: m.Name, Fault: m.Fault.Error()})
			continue
		}
		fault := ""
		if m.Broken != nil {
			fault = m.Broken.Error()
		}
		out = append(out, listedBackup{
			Fault: fault, Restorable: m.Restorable(), Store: m.Store,
			Name: m.Name, Kind: m.Kind, From: time.UnixMilli(m.From).UTC(),
			Until: time.UnixMilli(m.Until).UTC(), Took: float64(m.Ended-m.Started) / 1000,
			Bytes: m.Bytes, Users: m.People, WhyFull: m.WhyFull,
		})
	}
	return out
}

func (l listing) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "backup\tfrom\tuntil\tbytes\tseconds\tusers\t")
	for _, b := range l {
		if b.Kind == "" {
			fmt.Fprintf(t, "%s\t\t\t\t\t\tNOT USABLE: %s\n", b.Name, b.Fault)
			continue
		}
		state := ""
		if !b.Restorable {
			state = "NOT RESTORABLE: " + b.Fault
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f\t%s\t%s\n", b.Name, b.From.Format(stampLayout),
			b.Until.Format(stampLayout), grouped(b.Bytes), b.Took, grouped(b.Users), state)
	}
	return t.Flush()
}
