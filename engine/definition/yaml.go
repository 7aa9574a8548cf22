package definition

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// yamlReading turns one YAML file into Nodes.
type yamlReading struct {
	file   string
	above  int // lines of the file above the text
	tokens int // of the text
	faults []Fault
}

// readYAML returns the documents of a file, and whether it was read to the end:
// a document that is not YAML, or that uses a construct outside the dialect,
// gives a fault and no document.
func readYAML(f File) (docs []*Node, faults []Fault, whole bool) {
	y := &yamlReading{file: f.Name}
	return y.read(string(f.Content))
}

// NodeFromYAML reads one value, such as a rule, in the dialect of the documents.
// Without a value it is nil; two documents are a fault. Cost: as Load.
func NodeFromYAML(b []byte, file string) (*Node, []Fault) {
	if len(b) > MaxBytes {
		return nil, []Fault{{
			Pos: Pos{File: file, Line: 1, Column: 1}, Message: "more than 8 MiB of YAML",
		}}
	}
	docs, faults, _ := readYAML(File{Name: file, Content: b})
	switch {
	case len(faults) > 0:
		return nil, faults
	case len(docs) == 0:
		return nil, nil
	case len(docs) > 1:
		return nil, []Fault{{Pos: docs[1].Pos, Message: "one value is expected: this is a second one"}}
	}
	return docs[0], nil
}

func (y *yamlReading) read(text string) (docs []*Node, faults []Fault, whole bool) {
	tokens := y.scan(text)
	if len(y.faults) > 0 {
		return nil, y.faults, false
	}
	whole = true
	for len(tokens) > 0 {
		// The parser is given one document at a time: it takes time with the
		// square of their number, and a fault in one leaves the others readable.
		end := documentEnd(tokens)
		tree, fault := y.parse(tokens[:end])
		tokens = tokens[end:]
		if fault != nil {
			y.faults = append(y.faults, *fault)
			whole = false
			continue
		}
		for _, d := range tree.Docs {
			if d.Body != nil {
				docs = append(docs, y.document(d.Body))
			}
		}
	}
	return docs, y.faults, whole
}

// documentEnd gives the index of the header (---) of the next document.
func documentEnd(tokens token.Tokens) int {
	for i, t := range tokens {
		if i > 0 && t.Type == token.DocumentHeaderType {
			return i
		}
	}
	return len(tokens)
}

// document converts one document and names it in its faults.
func (y *yamlReading) document(body ast.Node) *Node {
	from := len(y.faults)
	n := y.node(body, "", 1)
	for i := from; i < len(y.faults); i++ {
		y.faults[i].Doc = n.name()
	}
	return n
}

// name gives kind/id of a document, as far as it has them.
func (n *Node) name() string {
	kind, id := n.Get("kind"), n.Get("id")
	switch {
	case kind == nil || kind.Kind != NodeString:
		return ""
	case id == nil || id.Kind != NodeString:
		return Shorten(kind.Text)
	}
	return Shorten(kind.Text) + "/" + Shorten(id.Text)
}

// scan cuts the text into tokens and refuses what the dialect leaves out. The
// parser behind it recurses, so depth is bounded here, before it runs.
func (y *yamlReading) scan(text string) token.Tokens {
	var s scanner.Scanner
	s.Init(text)
	var tokens token.Tokens
	for {
		some, err := s.Scan()
		if err == io.EOF {
			break
		}
		tokens.Add(some...)
		if len(tokens) > MaxTokens {
			y.fault(y.pos(tokens[len(tokens)-1]), "", "more than %d tokens in one file", MaxTokens)
			return nil
		}
	}
	y.tokens = len(tokens)
	levels := nesting{}
	for i, t := range tokens {
		if word := outside(t.Type); word != "" {
			y.fault(y.pos(t), "", "%s not part of the dialect", word)
			continue
		}
		// A list in a map of a list can stand at one column: two levels each.
		if levels.follow(tokens, i) > 2*MaxDepth {
			y.fault(y.pos(t), "", "nested deeper than %d levels", MaxDepth)
			return nil
		}
	}
	return tokens
}

func outside(t token.Type) string {
	switch t {
	case token.AnchorType:
		return "anchors (&) are"
	case token.AliasType:
		return "aliases (*) are"
	case token.TagType:
		return "tags (!) are"
	case token.MergeKeyType:
		return "merge keys (<<) are"
	case token.MappingKeyType:
		return "explicit keys (?) are"
	case token.DirectiveType:
		return "directives (%) are"
	}
	return ""
}

// nesting bounds from above how deep the parser will recurse.
type nesting struct {
	flow    int   // open [ and {
	columns []int // rising columns of the open block lists and maps
}

func (n *nesting) follow(tokens token.Tokens, i int) int {
	t := tokens[i]
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		n.flow++
	case token.MappingEndType, token.SequenceEndType:
		n.flow = max(n.flow-1, 0)
	case token.DocumentHeaderType, token.DocumentEndType:
		*n = nesting{columns: n.columns[:0]}
	case token.SequenceEntryType:
		n.block(t.Position.Column)
	case token.MappingValueType:
		if i > 0 {
			n.block(tokens[i-1].Position.Column)
		}
	}
	return n.flow + len(n.columns)
}

func (n *nesting) block(column int) {
	if n.flow > 0 {
		return
	}
	for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= column {
		n.columns = n.columns[:len(n.columns)-1]
	}
	n.columns = append(n.columns, column)
}

// parse runs the library's parser. Its panics on odd input are faults here: the
// text is the caller's, and no text may end the process.
func (y *yamlReading) parse(tokens token.Tokens) (tree *ast.File, fault *Fault) {
	defer func() {
		if p := recover(); p != nil {
			tree, fault = nil, &Fault{
				Pos:     Pos{File: y.file, Line: 1, Column: 1},
				Message: "cannot be read as YAML",
			}
		}
	}()
	tree, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return tree, nil
	}
	f := Fault{Pos: Pos{File: y.file, Line: 1, Column: 1}, Message: "cannot be read as YAML"}
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		f.Message = "not YAML: " + syntax.Message
		if syntax.Token != nil {
			f.Pos = y.pos(syntax.Token)
		}
	}
	return nil, &f
}

func (y *yamlReading) pos(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{File: y.file, Line: 1, Column: 1}
	}
	return Pos{
		File: y.file, Line: y.above + t.Position.Line, Column: max(t.Position.Column, 1),
	}
}

func (y *yamlReading) fault(pos Pos, path, format string, args ...any) {
	y.faults = append(y.faults, Fault{Pos: pos, Field: path, Message: fmt.Sprintf(format, args...)})
}

// node converts one value. depth counts the lists and maps from the document.
func (y *yamlReading) node(a ast.Node, path string, depth int) *Node {
	switch a := a.(type) {
	case *ast.MappingNode:
		return y.mapping(a.GetToken(), a.Values, path, depth)
	case *ast.MappingValueNode:
		return y.mapping(nil, []*ast.MappingValueNode{a}, path, depth)
	case *ast.SequenceNode:
		n := &Node{Kind: NodeList, Pos: y.pos(a.GetToken())}
		if y.deep(n, path, depth) {
			return n
		}
		for i, v := range a.Values {
			n.List = append(n.List, y.node(v, path+"["+strconv.Itoa(i)+"]", depth+1))
		}
		return n
	case *ast.LiteralNode:
		return &Node{Kind: NodeString, Pos: y.pos(a.Start), Text: a.Value.Value}
	}
	return y.scalar(a.GetToken(), path)
}

// deep reports a list or map below MaxDepth, which is then not read.
func (y *yamlReading) deep(n *Node, path string, depth int) bool {
	if n.bad = depth > MaxDepth; n.bad {
		y.fault(n.Pos, path, "nested deeper than %d levels", MaxDepth)
	}
	return n.bad
}

func (y *yamlReading) mapping(
	start *token.Token, values []*ast.MappingValueNode, path string, depth int,
) *Node {
	n := &Node{Kind: NodeMap}
	if len(values) > 0 {
		n.Pos = y.pos(values[0].Key.GetToken())
	}
	if start != nil && (start.Type == token.MappingStartType || len(values) == 0) {
		n.Pos = y.pos(start)
	}
	if y.deep(n, path, depth) {
		return n
	}
	if len(values) > MaxKeys {
		y.fault(n.Pos, path, "a map of more than %d keys", MaxKeys)
		n.bad = true
		return n
	}
	first := make(map[string]Pos, len(values))
	if len(values) > 0 {
		n.Keys = make([]Key, 0, len(values))
	}
	for _, v := range values {
		key := y.scalar(v.Key.GetToken(), path)
		if key.bad {
			continue
		}
		if key.Kind != NodeString {
			y.fault(key.Pos, path, "a key is text: put %s in quotes", v.Key.GetToken().Value)
			continue
		}
		below := JoinPath(path, key.Text)
		value := y.node(v.Value, below, depth+1)
		if at, ok := first[key.Text]; ok {
			y.fault(key.Pos, below, "the key stands twice, first at %d:%d", at.Line, at.Column)
			continue
		}
		first[key.Text] = key.Pos
		n.Keys = append(n.Keys, Key{Name: key.Text, Pos: key.Pos, Value: value})
	}
	return n
}

// scalar reads one plain or quoted scalar.
func (y *yamlReading) scalar(t *token.Token, path string) *Node {
	pos := y.pos(t)
	if t == nil {
		return &Node{Pos: pos}
	}
	switch t.Type {
	case token.SingleQuoteType, token.DoubleQuoteType:
		if !utf8.ValidString(t.Value) {
			y.fault(pos, path, "broken UTF-8")
			return &Node{Pos: pos, bad: true}
		}
		return &Node{Kind: NodeString, Pos: pos, Text: t.Value}
	case token.ImplicitNullType:
		return &Node{Pos: pos}
	}
	n, wrong := plain(t.Value)
	n.Pos = pos
	if wrong != "" {
		y.fault(pos, path, "%s", wrong)
		n.bad = true
	}
	return n
}

// plain resolves an unquoted scalar as the JSON schema of YAML 1.2 does, but
// takes other words as strings, and refuses the words and numbers that other
// YAML readers would take for something else.
func plain(text string) (*Node, string) {
	switch text {
	case "null", "":
		return &Node{}, ""
	case "true", "false":
		return &Node{Kind: NodeBool, Bool: text == "true"}, ""
	case "~", "Null", "NULL", "True", "TRUE", "False", "FALSE":
		return &Node{}, text + " is not part of the dialect: write true, false or null, or quote it"
	}
	if n, wrong, ok := number(text); ok {
		return n, wrong
	}
	if wrong := otherNumber(text); wrong != "" {
		return &Node{}, wrong
	}
	return &Node{Kind: NodeString, Text: text}, ""
}

// number reads a number of JSON. ok is false when text is none.
func number(text string) (n *Node, wrong string, ok bool) {
	whole, ok := jsonNumber(text)
	if !ok {
		return nil, "", false
	}
	if whole {
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return &Node{}, "the number " + Shorten(text) + " does not fit 64 bits", true
		}
		return &Node{Kind: NodeInt, Int: i, Text: text}, "", true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return &Node{}, "the number " + Shorten(text) + " is too large", true
	}
	return &Node{Kind: NodeFloat, Float: f, Text: text}, "", true
}

// jsonNumber tells whether text is a number of JSON, and whether it is whole.
func jsonNumber(text string) (whole, ok bool) {
	s := strings.TrimPrefix(text, "-")
	digits := countDigits(s)
	if digits == 0 || digits > 1 && s[0] == '0' {
		return false, false
	}
	s, whole = s[digits:], true
	if strings.HasPrefix(s, ".") {
		digits = countDigits(s[1:])
		if digits == 0 {
			return false, false
		}
		s, whole = s[1+digits:], false
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s, whole = s[1:], false
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		digits = countDigits(s)
		if digits == 0 {
			return false, false
		}
		s = s[digits:]
	}
	return whole, s == ""
}

func countDigits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}

// otherNumber says why text, which is no JSON number, would be one elsewhere.
func otherNumber(text string) string {
	s := strings.TrimLeft(text, "+-")
	if len(text)-len(s) > 1 || s == "" {
		return ""
	}
	switch low := strings.ToLower(s); {
	case low == ".inf" || low == ".nan":
		return text + " is not part of the dialect"
	case len(low) > 2 && low[0] == '0' && strings.ContainsAny(low[1:2], "xob"):
		if strings.Trim(low[2:], "0123456789abcdef_") == "" {
			return "the number " + Shorten(text) + " is not decimal: write it in digits, or quote it"
		}
		return ""
	case strings.Trim(low, "0123456789_.e+-") != "" || strings.Trim(low[:1], "0123456789.") != "":
		return ""
	case strings.Contains(low, "_"):
		if _, ok := jsonNumber(strings.TrimLeft(strings.ReplaceAll(low, "_", ""), "0")); ok {
			return "the number " + Shorten(text) + " has underscores: write it without, or quote it"
		}
		return ""
	}
	if len(s) > 1 && countDigits(s) == len(s) && s[0] == '0' {
		return "the number " + Shorten(text) +
			" starts with 0 (octal elsewhere): quote it if it is text"
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return "the number " + Shorten(text) + " is not written as in JSON: quote it if it is text"
	}
	return ""
}

// Shorten keeps messages readable when the text they quote is long: 64 characters
// of it.
func Shorten(s string) string {
	const most = 64
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// JoinPath gives the path of a key below path, as faults name fields.
func JoinPath(path, key string) string {
	simple := key != ""
	for _, c := range key {
		simple = simple && c > ' ' && !strings.ContainsRune(`.[]"`, c)
	}
	switch {
	case !simple:
		return path + "[" + strconv.Quote(Shorten(key)) + "]"
	case path == "":
		return Shorten(key)
	}
	return path + "." + Shorten(key)
}
