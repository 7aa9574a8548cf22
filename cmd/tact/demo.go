package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tact/bench/synth"
	"tact/engine"
)

// The person and place of the demo's example calls.
const (
	sampleUser      = "u10"
	samplePlacement = "home_hero"
)

// portsToTry is how far the demo looks for a free port.
const portsToTry = 100

// demoFlags are what `tact demo` is told.
type demoFlags struct {
	users  userCount
	seed   uint64
	data   string
	listen string
	json   bool
	kept   bool // data was named, so it stays
}

func newDemo() *cobra.Command {
	o := demoFlags{users: 100_000}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve a made-up shop: people, offers, caps and an experiment",
		Long: "demo makes a shop with its customers, loads it into a store of its own and serves it.\n" +
			"Ctrl-C ends it and leaves nothing behind, unless --data names a folder.",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.Var(&o.users, "users", "how many people, such as 500k or 10M")
	f.Uint64Var(&o.seed, "seed", 1, "another seed makes other people")
	f.StringVar(&o.data, "data", "", "keep the data in this folder (default a temporary one)")
	f.StringVar(&o.listen, "listen", defaultAddress, "address; a busy port gives way to the next")
	f.BoolVar(&o.json, "json", false, "one line of JSON once ready")
	return cmd
}

func (o *demoFlags) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	listen, moved, err := listenOn(o.listen, portsToTry)
	if err != nil {
		return err
	}
	say := stdout // for people; with --json stdout is for the script
	if o.json {
		say = stderr
	}
	if moved {
		fmt.Fprintf(say, "%s is busy: taking %s\n", o.listen, listen.Addr())
	}
	if o.kept = o.data != ""; !o.kept {
		if o.data, err = os.MkdirTemp("", "tact-demo-"); err != nil {
			return errors.Join(err, listen.Close())
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.data)) }()
	}
	s, err := newService(o.data, listen,
		slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer func() { err = interrupted(ctx, errors.Join(err, s.close())) }()
	o.introduce(s, say)
	if err := s.open(engine.Options{}); err != nil {
		return err
	}
	if err := o.load(ctx, s, say, stderr); err != nil {
		return err
	}
	return s.serve(ctx, func() error { return o.ready(s, stdout) })
}

// introduce says where everything is, before anything is loaded: a request made
// now is answered once the people are there.
func (o *demoFlags) introduce(s *service, say io.Writer) {
	fate := "gone at the end; --data DIR keeps it"
	if o.kept {
		fate = "kept"
	}
	fmt.Fprintf(say, "data       %s (%s)\naddress    %s\nadmin key  %s\n\n",
		o.data, fate, s.address(), s.key)
	curl := func(path, body string) {
		fmt.Fprintf(say, "curl -s %s%s -H 'Authorization: Bearer %s'", s.address(), path, s.key)
		if body != "" {
			fmt.Fprintf(say, " -H 'Content-Type: application/json' -d '%s'", body)
		}
		fmt.Fprintln(say)
	}
	curl("/v1/decide", `{"user":{"user_id":"`+sampleUser+`"},"placements":[{"key":"hero",`+
		`"placement_id":"`+samplePlacement+`"}],"context":{"page":"home"}}`)
	curl("/v1/decide", `{"user":{"user_id":"`+sampleUser+`"},"placements":[{"key":"mail",`+
		`"placement_id":"email_weekly"},{"key":"app","placement_id":"app_banner"}],"explain":"all"}`)
	curl("/v1/users/"+sampleUser, "")
	fmt.Fprintln(say)
}

// load publishes the shop and loads its people, unless the folder holds them.
func (o *demoFlags) load(ctx context.Context, s *service, say, stderr io.Writer) error {
	state, err := readDemoState(o.data, demoState{
		Users: int(o.users), Seed: o.seed, End: time.Now().Truncate(time.Hour).UnixMilli(),
	})
	if err != nil {
		return err
	}
	if state.Loaded {
		fmt.Fprintf(say, "%s people are there already\n", grouped(int64(state.Users)))
		return nil
	}
	if s.empty() {
		files, err := synth.Definitions()
		if err != nil {
			return err
		}
		r, err := s.publish("demo", files, "the demo's shop")
		if err != nil {
			return err
		}
		if !r.OK {
			return r.print(stderr, false)
		}
	}
	began := time.Now()
	bar := newProgress(stderr, "people", int64(state.Users))
	events, err := synth.Load(ctx, s.engine, state.population(), func(done int) {
		bar.at(int64(done))
	})
	bar.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(say, "%s people and %s events loaded in %.1f s\n", grouped(int64(state.Users)),
		grouped(int64(events)), time.Since(began).Seconds())
	state.Loaded = true
	return state.write(o.data)
}

// ready says that requests are answered now.
func (o *demoFlags) ready(s *service, stdout io.Writer) error {
	if !o.json {
		_, err := fmt.Fprintf(stdout, "serving at %s; Ctrl-C ends it\n", s.address())
		return err
	}
	type sample struct {
		UserID      string `json:"user_id"`
		PlacementID string `json:"placement_id"`
	}
	return writeJSON(stdout, struct {
		Address  string `json:"address"`
		AdminKey string `json:"admin_key"`
		Data     string `json:"data"`
		Sample   sample `json:"sample"`
	}{s.address(), s.key, o.data, sample{sampleUser, samplePlacement}})
}
