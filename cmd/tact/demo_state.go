package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tact/bench/synth"
	"tact/storage"
)

// demoState is what a kept demo folder knows of its people: a load that was
// interrupted goes on with the same ones, so that nothing is there twice.
type demoState struct {
	Users  int    `json:"users"`
	Seed   uint64 `json:"seed"`
	End    int64  `json:"end"` // unix ms: the time of the youngest event
	Loaded bool   `json:"loaded"`
}

func (d demoState) population() *synth.Population {
	return synth.New(synth.Options{
		Seed: d.Seed, Users: d.Users, End: storage.UnixMsec(d.End),
	})
}

// readDemoState reads the state in dir; a folder without one gets the state
// that is wanted.
func readDemoState(dir string, wanted demoState) (demoState, error) {
	text, err := os.ReadFile(demoStateFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return wanted, wanted.write(dir)
	}
	if err != nil {
		return wanted, err
	}
	var held demoState
	if err := json.Unmarshal(text, &held); err != nil {
		return wanted, fmt.Errorf("%s: %w", demoStateFile(dir), err)
	}
	if held.Users != wanted.Users || held.Seed != wanted.Seed {
		return wanted, fmt.Errorf("%s holds a demo of %d people with seed %d: name the same, "+
			"or another folder", dir, held.Users, held.Seed)
	}
	return held, nil
}

func (d demoState) write(dir string) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(demoStateFile(dir), append(text, '\n'), 0o600)
}

func demoStateFile(dir string) string { return filepath.Join(dir, "demo.json") }

// userCount is a flag: 1000, 500k, 10M.
type userCount int

const mostUsers = 1_000_000_000

func (c *userCount) String() string { return strconv.Itoa(int(*c)) }
func (c *userCount) Type() string   { return "count" }

func (c *userCount) Set(text string) error {
	unit := 1
	switch {
	case strings.HasSuffix(text, "k"):
		unit = 1000
	case strings.HasSuffix(text, "M"):
		unit = 1_000_000
	}
	n, err := strconv.Atoi(strings.TrimRight(text, "kM"))
	if err != nil || n < 1 || n > mostUsers/unit {
		return errors.New("a number from 1 to 1000M is expected, such as 500k or 10M")
	}
	*c = userCount(n * unit)
	return nil
}
