// Package tact_test enforces the house: which package may import which, and the
// sizes and habits that every package keeps. It reads the source of the whole
// module and runs none of it.
package tact_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Sizes: what is longer has more than one subject.
const (
	maxFunctionLines = 70
	maxFileLines     = 800
	maxColumns       = 100 // characters; a tab counts as one
	maxParameters    = 5
)

// mayImport says for each package of the module which others of the module its
// code may import. A package without a row may not exist: it gets one when its
// code arrives, at the place the design names.
func mayImport() map[string][]string {
	return map[string][]string{
		".":                 {},
		"storage":           {"storage/eventlog", "storage/invariant", "storage/journal", "storage/suppress"},
		"storage/suppress":  {},
		"storage/backup":    {"storage", "storage/docs", "storage/eventlog"},
		"storage/docs":      {"storage", "storage/invariant"},
		"storage/eventlog":  {},
		"storage/invariant": {},
		"storage/journal":   {},
		"storage/lossy":     {},
		"storage/seeds":     {},
		"engine/definition": {},
		"engine/content":    {"engine/definition"},
		"engine/experiment": {"engine/definition"},
		"engine/rule":       {"engine/definition", "engine/experiment", "storage"},
		"engine/audience":   {"engine/definition", "engine/rule", "storage"},
		"engine/decide":     {"engine/definition", "engine/experiment", "engine/rule", "storage"},
		"engine": {
			"engine/audience", "engine/content", "engine/decide", "engine/definition",
			"engine/experiment",
			"engine/rule", "storage", "storage/backup", "storage/docs", "storage/eventlog",
			"storage/invariant",
		},
		"server/wire":   {"engine", "engine/definition"},
		"server/client": {},
		"server":        {"engine", "engine/definition", "server/wire"},
		"bench": {
			"bench/script", "bench/synth", "engine", "engine/definition", "loadtest/machine",
			"server/wire", "storage",
		},
		"bench/script":     {"bench/synth", "engine", "engine/definition"},
		"bench/synth":      {"engine", "engine/definition", "storage"},
		"bench/hillstrom":  {"server/client"},
		"bench/cdnow":      {},
		"bench/figures":    {"bench/synth", "engine", "loadtest/machine", "server"},
		"bench/gate":       {},
		"bench/peers":      {"loadtest", "server/client"},
		"bench/scale":      {"bench", "engine", "engine/definition", "loadtest/machine", "storage"},
		"loadtest":         {"loadtest/machine"},
		"loadtest/machine": {},
		"bench/openbandit": {"engine", "engine/definition", "storage"},
		"cmd/tact": {
			"bench", "bench/synth", "engine", "engine/definition", "loadtest", "server",
			"server/client", "storage", "storage/backup",
		},
	}
}

// mustNotUse names imports from outside the module that a package may never
// have, because of what it must never do. A name stands for its sub-packages too.
func mustNotUse() map[string][]string {
	pure := []string{"net", "net/http", "os", "github.com/valyala/fasthttp", "github.com/cockroachdb"}
	return map[string][]string{
		"storage":           {"net", "github.com/valyala/fasthttp"},
		"engine":            {"net", "github.com/valyala/fasthttp", "github.com/cockroachdb"},
		"engine/rule":       pure,
		"engine/audience":   append([]string{"sync"}, pure...),
		"engine/decide":     append([]string{"sync"}, pure...),
		"engine/experiment": pure,
		"engine/content":    pure,
		"server":            {"github.com/cockroachdb"},
		"server/wire":       {"github.com/cockroachdb", "os"},
	}
}

// timeless are the parts that are told the time and never ask for it.
func timeless(pkg string) bool {
	return strings.HasPrefix(pkg, "engine/")
}

// source is one Go file of the module.
type source struct {
	pkg  string // folder, slash-separated, relative to the module
	name string // path, for messages
	test bool
	text []byte
	ast  *ast.File
}

// house is the parsed module and where its lines are.
type house struct {
	fset  *token.FileSet
	files []source
}

func readHouse(t *testing.T) house {
	t.Helper()
	h := house{fset: token.NewFileSet()}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(h.fset, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		h.files = append(h.files, source{
			pkg: path.Dir(name), name: name, text: text, ast: file,
			test: strings.HasSuffix(name, "_test.go"),
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(h.files) == 0 {
		t.Fatal("no Go file found: the test must run at the module root")
	}
	return h
}

func (h house) line(p token.Pos) int { return h.fset.Position(p).Line }

// product calls f for every file that is not a test.
func (h house) product(f func(s source)) {
	for _, s := range h.files {
		if !s.test {
			f(s)
		}
	}
}

func (s source) imports(f func(name string, spec *ast.ImportSpec)) {
	for _, spec := range s.ast.Imports {
		f(strings.Trim(spec.Path.Value, `"`), spec)
	}
}

func TestImports(t *testing.T) {
	h, table, bans := readHouse(t), mayImport(), mustNotUse()
	h.product(func(s source) {
		allowed, known := table[s.pkg]
		if !known {
			t.Errorf("%s: package %s has no row in the table of the house", s.name, s.pkg)
			return
		}
		s.imports(func(name string, spec *ast.ImportSpec) {
			if own, ok := strings.CutPrefix(name, "tact/"); ok && !slices.Contains(allowed, own) {
				t.Errorf("%s:%d: %s may not import %s", s.name, h.line(spec.Pos()), s.pkg, own)
			}
			for _, ban := range bans[s.pkg] {
				if name == ban || strings.HasPrefix(name, ban+"/") {
					t.Errorf("%s:%d: %s must never use %s", s.name, h.line(spec.Pos()), s.pkg, name)
				}
			}
		})
	})
}

// Tests may reach sideways and down, and to bench for populations, but not to a
// floor above their own.
func TestTestsDoNotPointUp(t *testing.T) {
	floors := []string{"storage", "engine", "server", "cmd"}
	floor := func(pkg string) int {
		top, _, _ := strings.Cut(pkg, "/")
		return slices.Index(floors, top)
	}
	h := readHouse(t)
	for _, s := range h.files {
		if !s.test || floor(s.pkg) < 0 {
			continue
		}
		s.imports(func(name string, spec *ast.ImportSpec) {
			own, ok := strings.CutPrefix(name, "tact/")
			if ok && floor(own) > floor(s.pkg) {
				t.Errorf("%s:%d: a test of %s points up to %s",
					s.name, h.line(spec.Pos()), s.pkg, own)
			}
		})
	}
}

func TestNoInitAndNoPackageVariables(t *testing.T) {
	h := readHouse(t)
	h.product(func(s source) {
		for _, decl := range s.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s:%d: init", s.name, h.line(d.Pos()))
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, spec := range d.Specs {
					v := spec.(*ast.ValueSpec)
					if !constantVar(d, v) {
						t.Errorf("%s:%d: package variable %s", s.name, h.line(v.Pos()), v.Names[0])
					}
				}
			}
		}
	})
}

// constantVar says whether a package variable is one of the three that nobody
// changes: an error sentinel, an interface assertion, an embedded file.
func constantVar(d *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{d.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	for i, name := range v.Names {
		if name.Name == "_" {
			continue
		}
		if i >= len(v.Values) || !errorSentinel(name.Name, v.Values[i]) {
			return false
		}
	}
	return true
}

func errorSentinel(name string, value ast.Expr) bool {
	if !strings.HasPrefix(name, "Err") && !strings.HasPrefix(name, "err") {
		return false
	}
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := f.X.(*ast.Ident)
	return ok && (from.Name == "errors" && f.Sel.Name == "New" ||
		from.Name == "fmt" && f.Sel.Name == "Errorf")
}

func TestEveryPackageHasAComment(t *testing.T) {
	documented := map[string]bool{}
	readHouse(t).product(func(s source) {
		documented[s.pkg] = documented[s.pkg] || s.ast.Doc != nil
	})
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

func TestEnginePartsReadNoClock(t *testing.T) {
	h := readHouse(t)
	h.product(func(s source) {
		if !timeless(s.pkg) {
			return
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			from, ok := sel.X.(*ast.Ident)
			if ok && from.Name == "time" && slices.Contains(
				[]string{"Now", "Since", "Until", "Sleep", "After", "Tick"}, sel.Sel.Name) {
				t.Errorf("%s:%d: time.%s", s.name, h.line(sel.Pos()), sel.Sel.Name)
			}
			return true
		})
	})
}

func TestSizes(t *testing.T) {
	h := readHouse(t)
	h.product(func(s source) {
		if ast.IsGenerated(s.ast) {
			return
		}
		lines := bytes.Split(bytes.TrimSuffix(s.text, []byte("\n")), []byte("\n"))
		if len(lines) > maxFileLines {
			t.Errorf("%s: %d lines, more than %d", s.name, len(lines), maxFileLines)
		}
		for i, line := range lines {
			if n := utf8.RuneCount(line); n > maxColumns {
				t.Errorf("%s:%d: %d columns, more than %d", s.name, i+1, n, maxColumns)
			}
		}
		for _, decl := range s.ast.Decls {
			if d, ok := decl.(*ast.FuncDecl); ok {
				for _, fault := range h.functionFaults(d) {
					t.Errorf("%s:%d: %s", s.name, h.line(d.Pos()), fault)
				}
			}
		}
	})
}

func (h house) functionFaults(d *ast.FuncDecl) []string {
	var faults []string
	if n := h.line(d.End()) - h.line(d.Type.Func) + 1; n > maxFunctionLines {
		faults = append(faults, fmt.Sprintf("%s has %d lines, more than %d",
			d.Name, n, maxFunctionLines))
	}
	if n := d.Type.Params.NumFields(); n > maxParameters {
		faults = append(faults, fmt.Sprintf("%s has %d parameters, more than %d",
			d.Name, n, maxParameters))
	}
	return faults
}

// Names that say nothing gather what has no home.
func TestNoPackageWithoutASubject(t *testing.T) {
	readHouse(t).product(func(s source) {
		switch name := s.ast.Name.Name; name {
		case "util", "utils", "common", "types", "models", "helpers", "helper", "manager", "misc":
			t.Errorf("%s: package %s is named after no subject", s.name, name)
		}
	})
}

// Each dependency has its reason in docs/dependencies.md, and nothing is named
// there that no code imports.
func TestDependenciesAreNamed(t *testing.T) {
	text, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{} // module -> imported
	for line := range strings.Lines(string(text)) {
		if module, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |"); ok {
			named[module] = false
		}
	}
	for _, s := range readHouse(t).files {
		s.imports(func(name string, _ *ast.ImportSpec) {
			first, _, _ := strings.Cut(name, "/")
			if !strings.Contains(first, ".") {
				return // the standard library, or the module itself
			}
			for module := range named {
				if name == module || strings.HasPrefix(name, module+"/") {
					named[module] = true
					return
				}
			}
			t.Errorf("%s: %s has no row in docs/dependencies.md", s.name, name)
		})
	}
	for module, imported := range named {
		if !imported {
			t.Errorf("docs/dependencies.md names %s, which nothing imports", module)
		}
	}
}
