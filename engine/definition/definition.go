// Package definition owns the documents of a definitions folder: it reads YAML
// (or the same documents as JSON) in one strict dialect, gives every value a
// place, and turns the documents into a typed [Set]. It also owns the JSON
// Schema of a document and one canonical form of a set, by which tests compare.
//
// Laws, each with a test:
//  1. Every fault of a set is reported at once, with file, line, column and the
//     path of the field; nothing that is not understood is ignored.
//  2. What is known but not supported yet is refused by name.
//  3. A document that [Load] accepts is accepted by [Schema].
//  4. [Node.AppendJSON] and [NodeFromJSON] are inverse to each other but for places.
//  5. No input panics, and memory is bounded: [MaxBytes] of text, [MaxDepth]
//     levels, [MaxKeys] keys a map, [MaxTokens] tokens.
//
// Path: [LoadDir] reads files; [Load] cuts them into documents, makes [Node]
// trees, decodes each kind, then checks references between documents. Rule
// trees and message bodies stay Nodes: the packages that own them read them.
//
// Cost: Load runs at publish and in tact check, never on a request: linear in
// the text, about 200 bytes of memory for each token. A [Reader] loads a set
// again of which little has changed in a tenth of the time. A set that stays in
// force is lightened ([Set.Lighten]): its trees are packed then.
package definition

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what Load reads.
const (
	MaxBytes  = 8 << 20 // text of all files together
	MaxDepth  = 32      // nested lists and maps in one document, the document itself counted
	MaxKeys   = 512     // keys of one map
	MaxFaults = 1000    // faults given back; one more says how many are left out
	MaxTokens = 1 << 20 // of one file: 8 MiB of real documents hold about a million
	MaxValues = 1 << 18 // values and keys of a tree in a request: a rule has fewer
)

// File is one file of a definitions folder. A name that ends in .json holds one
// document, or a list of documents, as JSON; every other name holds YAML.
type File struct {
	Name    string // as it shall stand in faults: slash-separated, relative to the folder
	Content []byte
}

// Load reads the documents of files into a typed set, and returns every fault
// found: faults of the dialect, of single documents, and, when every file could
// be read, of references between documents. The faults are in the order of
// (file, line, column). The set is complete and consistent in itself only when
// there are no faults; with faults it is still non-nil and may be shown but not
// compiled. Files of more than MaxBytes together are one fault.
func Load(files []File) (*Set, []Fault) { return new(Reader).Load(files) }

func load(files []File, parts *parts) (*Set, []Fault) {
	r := &reading{set: &Set{Workspace: defaultWorkspace()}}
	order := make(map[string]int, len(files))
	total := 0
	for i, f := range files {
		order[f.Name] = i
		total += len(f.Content)
		if total > MaxBytes {
			r.add(Fault{Pos: Pos{File: f.Name}, Message: tooManyBytes()})
			return r.set, r.faults
		}
	}
	whole := true
	for _, f := range files {
		docs, faults, read := readFile(f, parts)
		r.faults = append(r.faults, faults...)
		whole = whole && read
		for _, doc := range docs {
			r.document(doc)
		}
	}
	if whole {
		r.check()
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(order[a.Pos.File], order[b.Pos.File]),
			cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	if more := len(r.faults) - MaxFaults; more > 0 {
		last := Fault{Message: fmt.Sprintf("%d more faults are not shown", more)}
		r.faults = append(slices.Clip(r.faults[:MaxFaults]), last)
	}
	return r.set, r.faults
}

// readFile gives the documents of a file, and whether all of it was read.
func readFile(f File, parts *parts) (docs []document, faults []Fault, whole bool) {
	f.Content = withoutBOM(f.Content)
	if fault, ok := textFault(f); ok {
		return nil, []Fault{fault}, false
	}
	if !strings.HasSuffix(f.Name, ".json") {
		return parts.file(f)
	}
	trees, err := documentsFromJSON(f)
	if err != nil {
		return nil, []Fault{faultOf(err)}, false
	}
	return loose(trees), nil, true
}

// String gives the fault on one line: place, document, field, message, suggestion.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Pos.String())
	for _, part := range []string{f.Doc, f.Field, f.Message} {
		if part == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	if f.Suggest != "" {
		b.WriteString(" (did you mean " + f.Suggest + "?)")
	}
	return b.String()
}

// String gives file:line:column, leaving out what is unknown.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	place := strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
	if p.File == "" {
		return place
	}
	return p.File + ":" + place
}
