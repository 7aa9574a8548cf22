package definition

import (
	"crypto/sha256"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// A Reader loads one definitions folder again and again, as an engine does that
// is published to. A YAML document that stood in the last set without faults is
// not read anew: cutting text into values takes nine tenths of the time of a
// Load. The zero Reader is ready; any number of goroutines may use it.
type Reader struct {
	mu struct {
		sync.Mutex
		last map[[sha256.Size]byte]*part // by the digest of the text; never changed once here
	}
}

// part is a part of a YAML file, from one --- to the next, as it was read at a
// place: shared by all who load it.
type part struct {
	file   string
	line   int // of the file, on which the part begins
	tokens int
	docs   []*Node
}

// Load gives what [Load] gives of the same files. What it read of a set without
// faults is kept until the next such set: memory in proportion to one set.
func (r *Reader) Load(files []File) (*Set, []Fault) {
	r.mu.Lock()
	p := parts{last: r.mu.last, next: make(map[[sha256.Size]byte]*part)}
	r.mu.Unlock()
	set, faults := load(files, &p)
	if len(faults) == 0 {
		r.mu.Lock()
		r.mu.last = p.next
		r.mu.Unlock()
	}
	return set, faults
}

// parts are those of one Load: what the last one read, and what this one does.
type parts struct{ last, next map[[sha256.Size]byte]*part }

// file reads a file part by part. One that has a fault is read as a whole, so that
// its faults are those of the file.
func (p *parts) file(f File) ([]*Node, []Fault, bool) {
	text := string(f.Content)
	if strings.Contains(text, "\r") { // is a line's end too, but not to parts
		return readYAML(f)
	}
	var docs []*Node
	line, tokens := 1, 0
	for len(text) > 0 {
		var cuts []partCut
		for len(text) > 0 && len(cuts) < partsAtOnce {
			end := partEnd(text)
			cuts = append(cuts, partCut{text: text[:end], line: line})
			line += strings.Count(text[:end], "\n")
			text = text[end:]
		}
		p.readAhead(f.Name, cuts)
		for i := range cuts {
			t := p.placed(f.Name, &cuts[i])
			if t == nil {
				return readYAML(f)
			}
			if tokens += t.tokens; tokens > MaxTokens {
				return readYAML(f)
			}
			docs = append(docs, t.docs...)
		}
	}
	return docs, nil, true
}

// partEnd is where the next document's line (---) begins. Such a line ends a
// document wherever it stands, in a text of several lines too.
func partEnd(text string) int {
	for at := 0; ; {
		next := strings.Index(text[at:], "\n---")
		if next < 0 {
			return len(text)
		}
		at += next + 1
		if rest := text[at+3:]; rest == "" || strings.ContainsAny(rest[:1], " \t\n") {
			return at
		}
	}
}

// partsAtOnce parts are read beside each other, and no more before their tokens are
// counted.
const partsAtOnce = 256

// A partCut is a part that is to be read, or was read before.
type partCut struct {
	text string
	line int
	key  [sha256.Size]byte
	part *part // nil, once it is read: it has a fault
}

// readAhead reads the parts that are not among what was read, on all processors.
func (p *parts) readAhead(file string, cuts []partCut) {
	fresh := make([]*partCut, 0, len(cuts))
	for i := range cuts {
		c := &cuts[i]
		c.key = sha256.Sum256([]byte(c.text))
		if c.part = p.last[c.key]; c.part == nil {
			fresh = append(fresh, c)
		}
	}
	var next atomic.Int64
	read := func() {
		met := make(words)
		for i := next.Add(1) - 1; i < int64(len(fresh)); i = next.Add(1) - 1 {
			fresh[i].part = readPart(file, fresh[i], met)
		}
	}
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(fresh)) - 1 {
		all.Go(read)
	}
	read()
	all.Wait()
}

// readPart reads a part; nil: it has a fault. A panic is none of the goroutine it runs
// in: the caller reads what has a fault again, and meets it.
func readPart(file string, cut *partCut, met words) (t *part) {
	defer func() {
		if recover() != nil {
			t = nil
		}
	}()
	y := yamlReading{file: file, above: cut.line - 1, words: met}
	t = &part{file: file, line: cut.line}
	var faults []Fault
	if t.docs, faults, _ = y.read(cut.text); len(faults) > 0 {
		return nil
	}
	t.tokens = y.tokens
	return t
}

// placed keeps a part for the next set, as it stands now; nil: it has a fault.
func (p *parts) placed(file string, c *partCut) *part {
	t := c.part
	if t == nil {
		return nil
	}
	if t.file != file || t.line != c.line {
		moved := &part{file: file, line: c.line, tokens: t.tokens}
		for _, n := range t.docs {
			moved.docs = append(moved.docs, n.movedTo(file, c.line-t.line))
		}
		t = moved
	}
	p.next[c.key] = t
	return t
}

// movedTo copies a tree to where its text stands now: in a file, some lines
// further down.
func (n *Node) movedTo(file string, lines int) *Node {
	if n == nil {
		return nil
	}
	moved := *n
	moved.Pos = n.Pos.movedTo(file, lines)
	if n.List != nil {
		moved.List = make([]*Node, len(n.List))
	}
	for i, below := range n.List {
		moved.List[i] = below.movedTo(file, lines)
	}
	if n.Keys != nil {
		moved.Keys = make([]Key, len(n.Keys))
	}
	for i, k := range n.Keys {
		moved.Keys[i] = Key{k.Name, k.Pos.movedTo(file, lines), k.Value.movedTo(file, lines)}
	}
	return &moved
}

func (p Pos) movedTo(file string, lines int) Pos {
	return Pos{File: file, Line: p.Line + lines, Column: p.Column}
}
