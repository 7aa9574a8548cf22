package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tact/storage/backup"
)

// verifyFlags are what `tact backup verify` is told.
type verifyFlags struct {
	rate int64 // bytes a second
	json bool
}

func newBackupVerify() *cobra.Command {
	var o verifyFlags
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Read all backups in a folder and compare every byte with its checksum",
		Long: "verify reads every file of every backup in DIR, compares it with the checksums of its\n" +
			"manifest, and says what cannot be restored. It writes nothing and takes no lock: a\n" +
			"server may take a backup there meanwhile. It does not restore: do that from time to\n" +
			"time, too.\n\n" +
			"Exit codes: 0 all that has ended is whole, 5 something is damaged or missing, 1 it\n" +
			"could not look.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.rate < 0 {
				return wrongUse(cmd, errors.New("--rate is not negative"))
			}
			return o.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "one line of JSON")
	cmd.Flags().Int64Var(&o.rate, "rate", 0, "bytes a second that are read at most; 0: no limit")
	return cmd
}

func (o *verifyFlags) run(ctx context.Context, dir string, stdout, stderr io.Writer) error {
	if err := isBackups(dir); err != nil {
		return err
	}
	var p *progress
	v, err := backup.Verify(ctx, dir, backup.Options{
		Rate: o.rate,
		Progress: func(done, of int64) {
			if p == nil {
				p = newProgress(stderr, "bytes", of)
			}
			p.at(done)
		},
	})
	if p != nil {
		p.end()
	}
	if err != nil {
		return err
	}
	out := newVerification(v)
	if o.json {
		err = writeJSON(stdout, out)
	} else {
		err = out.print(stdout)
	}
	if err == nil && !out.OK {
		return &exitError{code: exitDamaged}
	}
	return err
}

// verification is what verify prints.
type verification struct {
	OK         bool             `json:"ok"`
	Bytes      int64            `json:"bytes"`
	Backups    []verifiedBackup `json:"backups"`
	Restorable []restorableSpan `json:"restorable"`
}

type verifiedBackup struct {
	Name       string   `json:"name"`
	Store      string   `json:"store,omitempty"`
	Files      int      `json:"files"`
	Whole      bool     `json:"whole"`      // what it holds is what was written
	Restorable bool     `json:"restorable"` // and so is all that it goes on from
	Faults     []string `json:"faults"`
}

type restorableSpan struct {
	Store string    `json:"store"`
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

func newVerification(v *backup.Verified) *verification {
	out := &verification{
		OK: !v.Damaged(), Bytes: v.Bytes, Backups: []verifiedBackup{}, Restorable: []restorableSpan{},
	}
	for i := range v.Backups {
		c := &v.Backups[i]
		b := verifiedBackup{
			Name: c.Name, Store: c.Store, Files: c.Files, Faults: []string{},
			Whole: c.Fault == nil && len(c.Damage) == 0,
		}
		b.Restorable = b.Whole && c.Broken == nil
		for _, err := range append([]error{c.Fault, c.Broken}, c.Damage...) {
			if err != nil {
				b.Faults = append(b.Faults, err.Error())
			}
		}
		out.Backups = append(out.Backups, b)
	}
	for _, s := range v.Spans() {
		out.Restorable = append(out.Restorable, restorableSpan{
			s.Store, time.UnixMilli(s.From).UTC(), time.UnixMilli(s.Until).UTC(),
		})
	}
	return out
}

func (v *verification) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range v.Backups {
		b := &v.Backups[i]
		state := "whole"
		switch {
		case b.Whole && !b.Restorable:
			state = "NOT RESTORABLE"
		case !b.Whole && b.Store == "":
			state = "NOT USABLE"
		case !b.Whole:
			state = "DAMAGED"
		}
		fmt.Fprintf(t, "%s\t%d files\t%s\n", b.Name, b.Files, state)
		for _, fault := range b.Faults {
			fmt.Fprintf(t, "\t\t%s\n", fault)
		}
	}
	for _, s := range v.Restorable {
		fmt.Fprintf(t, "restorable\t\t%s to %s\n", s.From.Format(stampLayout),
			s.Until.Format(stampLayout))
	}
	if len(v.Restorable) == 0 {
		fmt.Fprintln(t, "restorable\t\tnothing")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	result := "ok: all that has ended is whole"
	if !v.OK {
		result = "damaged: take a new full backup (tact backup --full) while the store is there"
	}
	_, err := fmt.Fprintf(w, "%s; %s bytes read\n", result, grouped(v.Bytes))
	return err
}
