package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"tact/engine"
	"tact/engine/definition"
	"tact/server/client"
)

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// report is what is wrong, or right, with a definitions folder.
type report struct {
	OK       bool           `json:"ok"`
	Revision uint32         `json:"revision,omitempty"` // of apply
	Against  uint32         `json:"against,omitempty"`  // of plan: the revision in force
	Files    int            `json:"files"`
	Faults   []reportFault  `json:"faults"`
	Tests    []reportTest   `json:"tests"`
	Changes  *reportChanges `json:"changes,omitempty"` // of apply and plan
}

type reportFault struct {
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Document string `json:"document,omitempty"` // kind/id
	Field    string `json:"field,omitempty"`
	Detail   string `json:"detail"`
	Suggest  string `json:"suggest,omitempty"`
}

type reportTest struct {
	ID       string   `json:"id"`
	File     string   `json:"file"`
	Line     int      `json:"line,omitempty"`
	Passed   bool     `json:"passed"`
	Expected string   `json:"expected,omitempty"`
	Got      string   `json:"got,omitempty"`
	Trace    []string `json:"trace,omitempty"`
}

// engineReport reports what the engine found in the folder dir.
func engineReport(
	dir string, files int, faults []definition.Fault, tests []engine.TestOutcome,
) *report {
	r := &report{Files: files, Faults: []reportFault{}, Tests: []reportTest{}}
	for _, f := range faults {
		r.Faults = append(r.Faults, reportFault{
			File: place(dir, f.Pos.File), Line: f.Pos.Line, Column: f.Pos.Column,
			Document: f.Doc, Field: f.Field, Detail: f.Message, Suggest: f.Suggest,
		})
	}
	for _, t := range tests {
		r.Tests = append(r.Tests, reportTest{
			ID: t.ID, File: place(dir, t.Pos.File), Line: t.Pos.Line, Passed: t.Passed,
			Expected: t.Expected, Got: t.Got, Trace: t.Trace,
		})
	}
	return r.judged()
}

// serverReport reports what a server answered about the folder dir.
func serverReport(
	dir string, files int, faults []client.Fault, tests []client.TestOutcome,
) *report {
	r := &report{Files: files, Faults: []reportFault{}, Tests: []reportTest{}}
	for _, f := range faults {
		r.Faults = append(r.Faults, reportFault{
			File: place(dir, f.File), Line: f.Line, Column: f.Column,
			Document: f.Document, Field: f.Field, Detail: f.Detail, Suggest: f.Suggest,
		})
	}
	for _, t := range tests {
		r.Tests = append(r.Tests, reportTest{
			ID: t.ID, File: place(dir, t.File), Line: t.Line, Passed: t.Passed,
			Expected: t.Expected, Got: t.Got, Trace: t.Trace,
		})
	}
	return r.judged()
}

// place makes the name of a file one that can be opened from here.
func place(dir, file string) string {
	if file == "" {
		return dir
	}
	return filepath.Join(dir, filepath.FromSlash(file))
}

func (r *report) judged() *report {
	r.OK = len(r.Faults) == 0
	for _, t := range r.Tests {
		r.OK = r.OK && t.Passed
	}
	return r
}

// print writes the report, as JSON or as lines for people, and gives the error
// that a report with faults ends a command with.
func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		if err := writeJSON(w, r); err != nil {
			return err
		}
	} else if _, err := io.WriteString(w, r.lines()); err != nil {
		return err
	}
	if !r.OK {
		return &exitError{code: exitDefinitions}
	}
	return nil
}

func (r *report) lines() string {
	var b strings.Builder
	for _, f := range r.Faults {
		b.WriteString(f.String())
		b.WriteByte('\n')
	}
	passed := 0
	for _, t := range r.Tests {
		if t.Passed {
			passed++
			continue
		}
		fmt.Fprintf(&b, "%s:%d: test/%s failed\n  expected %s\n  got      %s\n",
			t.File, t.Line, t.ID, t.Expected, t.Got)
		for _, line := range t.Trace {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	if r.Changes != nil {
		b.WriteString(r.Changes.lines())
	}
	switch {
	case r.OK:
		fmt.Fprintf(&b, "ok: %s, %s passed\n", count(r.Files, "file"), count(passed, "test"))
	case len(r.Faults) > 0:
		fmt.Fprintf(&b, "%s\n", count(len(r.Faults), "fault"))
	default:
		fmt.Fprintf(&b, "%d of %s failed\n", len(r.Tests)-passed, count(len(r.Tests), "test"))
	}
	return b.String()
}

// String gives the fault as file:line:col: kind/id field: message, with the
// word that was perhaps meant.
func (f reportFault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": ")
	if about := strings.TrimSpace(f.Document + " " + f.Field); about != "" {
		b.WriteString(about + ": ")
	}
	b.WriteString(f.Detail)
	if f.Suggest != "" {
		b.WriteString(" (did you mean " + strconv.Quote(f.Suggest) + "?)")
	}
	return b.String()
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
