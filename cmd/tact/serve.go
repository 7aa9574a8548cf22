package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tact/engine"
	"tact/engine/definition"
	"tact/storage"
)

// defaultRingDir is where Linux keeps shared memory. Where there is none every
// grant waits for the disk, which the log and /readyz say.
const defaultRingDir = "/dev/shm"

// serveFlags are what `tact serve` is told.
type serveFlags struct {
	data, config, listen  string
	ringDir, backupDir    string
	memoryCap             int64 // MiB
	minFree               int64 // MiB
	logDays, decisionDays int   // days
	logBytes              int64 // MiB
	acceptClock           bool
	caps                  string
	policy                storage.CapsPolicy
	serviceTime           time.Duration
	noLoops               bool
	verbose               bool
	json                  bool
}

func newServe() *cobra.Command {
	var o serveFlags
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "Serve decisions from a data folder",
		Long: "serve opens the store in DIR, or makes one, and answers the API until it is told\n" +
			"to end. The first start makes an admin key, prints it once and keeps it in\n" +
			"DIR/" + keyFile + "; $" + keyVariable + " replaces it. On an empty folder the\n" +
			"definitions in --config are published; later ones with `tact apply`.",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.data == "" {
				return wrongUse(cmd, errors.New("--data is required: the folder that holds everything"))
			}
			if o.logDays == 0 || o.decisionDays == 0 || o.logBytes < 0 {
				return wrongUse(cmd, errors.New("--log-days and --decision-days are whole days, or -1 "+
					"for ever; --log-bytes is not negative"))
			}
			var err error
			if o.policy, err = storage.ParseCapsPolicy(o.caps); err != nil {
				return wrongUse(cmd, fmt.Errorf("--caps: %w", err))
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "data folder")
	f.StringVar(&o.config, "config", "",
		"definitions folder, published when the data folder is empty")
	f.StringVar(&o.listen, "listen", defaultAddress, "address to listen on; port 0 takes a free one")
	f.Int64Var(&o.memoryCap, "memory-cap", 0,
		"MiB of resident data from which new users are refused (default three quarters of the memory)")
	f.Int64Var(&o.minFree, "min-free", 0,
		"MiB of free disk below which nothing is taken in, with status 507, until there is more\n"+
			"(default 2 % of the disk, at least 256 and at most 4096)")
	f.IntVar(&o.logDays, "log-days", 90, "days of events, outcomes and changes that are kept; -1: all")
	f.IntVar(&o.decisionDays, "decision-days", 30, "days of decision records that are kept; -1: all")
	f.Int64Var(&o.logBytes, "log-bytes", 0,
		"MiB of the event log from which its oldest files are dropped (default a quarter of the disk)")
	f.StringVar(&o.ringDir, "ring-dir", defaultRingDir,
		"folder in memory for the ring that lets grants be answered before they are on disk;\n"+
			"keep it over restarts; \"\" lets every grant wait")
	f.StringVar(&o.backupDir, "backup-dir", "",
		"folder that tact backup may have this server write backups into, or into folders below it")
	f.BoolVar(&o.acceptClock, "accept-clock", false,
		"adopt a wall clock that is far ahead of the store")
	f.StringVar(&o.caps, "caps", storage.CapsRefuse.String(),
		"what a data folder that is an older copy of itself does to caps: refuse to start;\n"+
			"protect: every window that began before the start is full; trust: the copy is all\n"+
			"there is. lift ends a protection; else nothing happens to any other folder")
	f.DurationVar(&o.serviceTime, "service-time", 0,
		"added to every decision, one behind the other, at most 1s: a known capacity for\n"+
			"tact loadtest --mode overload")
	f.BoolVar(&o.noLoops, "no-loops", false,
		"answer every decision in the goroutine of its connection: more processor time a decision;\n"+
			"without it, on Linux, a few goroutines answer the simple ones of all connections")
	f.BoolVar(&o.verbose, "verbose", false, "log what is put off and tried again, too")
	f.BoolVar(&o.json, "json", false, "one line of JSON once ready")
	return cmd
}

func (o *serveFlags) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	if err := o.configThere(); err != nil {
		return err
	}
	listen, _, err := listenOn(o.listen, 1)
	if err != nil {
		return err
	}
	s, err := newService(o.data, listen, newLogger(stderr, o.verbose))
	if err != nil {
		return err
	}
	defer func() { err = interrupted(ctx, errors.Join(err, s.close())) }()
	options := engine.Options{AcceptClock: o.acceptClock}
	if o.backupDir != "" {
		if options.BackupDir, err = filepath.Abs(o.backupDir); err != nil {
			return err
		}
	}
	options.Storage.Caps = o.policy
	options.Storage.MemoryCap = o.memoryCap << 20
	options.Storage.MinFree = o.minFree << 20
	options.Storage.RingDir = o.ringDir
	options.Storage.KeepEffects = time.Duration(o.logDays) * 24 * time.Hour
	options.Storage.KeepDecisions = time.Duration(o.decisionDays) * 24 * time.Hour
	options.Storage.LogBytes = o.logBytes << 20
	if err := s.open(options); err != nil {
		return err
	}
	if err := o.first(s, stdout); err != nil {
		return err
	}
	s.serviceTime, s.noLoops = o.serviceTime, o.noLoops
	return s.serve(ctx, func() error { return o.ready(s, stdout) })
}

// configThere looks for --config before a store is made that it is for.
func (o *serveFlags) configThere() error {
	if _, err := os.Stat(storeFolder(o.data)); o.config == "" || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(o.config); err != nil {
		return &exitError{exitUsage, fmt.Errorf("--config: %w; nothing was made", err)}
	}
	return nil
}

// first publishes --config on a folder where nothing was ever published.
func (o *serveFlags) first(s *service, stdout io.Writer) error {
	if o.config == "" {
		return nil
	}
	if !s.empty() {
		s.log.Info("definitions are in force already: --config is not read, see tact apply",
			"revision", s.engine.Revision())
		return nil
	}
	files, err := definition.LoadDir(o.config)
	if err != nil {
		return err
	}
	r, err := s.publish(o.config, files, "first start")
	if err != nil {
		return err
	}
	if !r.OK {
		if s.made && !o.json {
			o.sayKey(s, stdout)
		}
		return r.print(stdout, o.json)
	}
	s.log.Info("definitions published", "files", r.Files, "tests", len(r.Tests))
	return nil
}

// sayKey shows a new key, once.
func (o *serveFlags) sayKey(s *service, stdout io.Writer) {
	fmt.Fprintf(stdout, "admin key  %s\n           kept in %s, not shown again\n", s.key, keyFile)
}

// ready says where the server is, and the key when it is new.
func (o *serveFlags) ready(s *service, stdout io.Writer) error {
	if o.json {
		out := map[string]any{"address": s.address(), "data": o.data}
		if s.made {
			out["admin_key"] = s.key
		}
		return writeJSON(stdout, out)
	}
	if s.made {
		o.sayKey(s, stdout)
	}
	_, err := fmt.Fprintf(stdout, "serving at %s\n", s.address())
	return err
}

func newLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	// An error is its message: with %+v, which the handler asks for, some are a stack.
	plain := func(_ []string, a slog.Attr) slog.Attr {
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(err.Error())
		}
		return a
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: plain}))
}
