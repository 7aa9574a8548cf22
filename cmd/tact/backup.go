package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tact/engine"
	"tact/server/client"
	"tact/storage"
)

// backupFlags are what `tact backup` is told.
type backupFlags struct {
	from    remote
	to      string
	ringDir string
	full    bool
	rate    int64 // bytes a second
	json    bool
}

func newBackup() *cobra.Command {
	var o backupFlags
	cmd := &cobra.Command{
		Use:   "backup [DATA] --to DIR",
		Short: "Back up a running server, or a data folder that none uses",
		Long: "backup has the server write a backup into DIR, a folder of the server's machine in its\n" +
			"--backup-dir, while it serves. With DATA it backs up a data folder that no server uses.\n" +
			"After the first, full one, backups are incremental: they hold what happened since, and a\n" +
			"restore can stop at any moment between. When that is not possible any more the next one\n" +
			"is full, and says why. Keys and users are in files of their own: see docs/storage.md.",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.rate < 0 || len(args) == 1 && o.to == "" {
				return wrongUse(cmd, errors.New("--to names a folder, --rate is not negative"))
			}
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.from.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "folder of backups (default the server's --backup-dir)")
	f.BoolVar(&o.full, "full", false, "a full backup, also where an incremental one would do")
	f.Int64Var(&o.rate, "rate", 0, "bytes a second that are written at most; 0: as fast as it goes")
	f.StringVar(&o.ringDir, "ring-dir", defaultRingDir, "with DATA: as of serve")
	f.BoolVar(&o.json, "json", false, "one line of JSON")
	cmd.AddCommand(newBackupList(), newBackupVerify())
	return cmd
}

func (o *backupFlags) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var b client.Backup
	if len(args) == 1 {
		if there, err := os.ReadDir(storeFolder(args[0])); err != nil || len(there) == 0 {
			return noStore(args[0]) // to open one would make it
		}
		options := engine.Options{Logger: newLogger(stderr, false)}
		options.Storage.RingDir = o.ringDir
		keepAll(&options.Storage)
		v, err := engine.BackupOf(ctx, storeFolder(args[0]), options,
			engine.BackupDoc{To: o.to, Full: o.full, Rate: o.rate})
		if errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrRolledBack) {
			return &exitError{exitDamaged, fmt.Errorf("%w\nno backup was made; see: tact doctor %s",
				err, args[0])}
		}
		if err != nil {
			return err
		}
		b = client.Backup{
			State: "done", To: v.To, Name: v.Name, Kind: v.Kind, WhyFull: v.WhyFull, Bytes: v.Done,
			From: time.UnixMilli(int64(v.From)).UTC(), Until: time.UnixMilli(int64(v.Until)).UTC(),
		}
	} else {
		c, err := o.from.client()
		if err != nil {
			return err
		}
		to := o.to
		if to != "" {
			if to, err = filepath.Abs(to); err != nil {
				return err
			}
		}
		b, err = c.Backup(ctx, client.BackupAsk{To: to, Full: o.full, Rate: o.rate},
			func(b client.Backup) {
				fmt.Fprintf(stderr, "%s of about %s bytes\n", grouped(b.Bytes), grouped(b.Expected))
			})
		if err != nil {
			return remoteError(ctx, err)
		}
	}
	if o.json {
		return writeJSON(stdout, b)
	}
	why := ""
	if b.WhyFull != "" {
		why = " (" + b.WhyFull + ")"
	}
	_, err := fmt.Fprintf(stdout, "ok: %s%s, %s bytes\nrestorable from %s to %s\n", b.Name, why,
		grouped(b.Bytes), b.From.Format(stampLayout), b.Until.Format(stampLayout))
	return err
}

// stampLayout shows times to the millisecond: what restore --at takes.
const stampLayout = "2006-01-02T15:04:05.000Z07:00"
