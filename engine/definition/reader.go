package definition

import (
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// A Reader loads one definitions folder again and again, as an engine does that
// is published to. A YAML document that stood in the last set without faults is
// not read anew: cutting text into values takes nine tenths of the time of a
// Load. What is kept of it is packed. The zero Reader is ready; any number of
// goroutines may use it.
type Reader struct {
	mu struct {
		sync.Mutex
		last map[[sha256.Size]byte]part // by the digest of the text; never changed here
	}
}

// part is a part of a YAML file, from one --- to the next, as it was read, wherever
// it stands: its documents packed, one behind the other, each behind its length, a
// uvarint.
type part struct {
	tokens int
	packed string
}

// A document is one value of a file at the top, before it has a meaning.
type document struct {
	tree   *Node
	packed string // the same; "" where the file was not read part by part
}

// loose are documents that are not packed.
func loose(trees []*Node) []document {
	docs := make([]document, len(trees))
	for i, n := range trees {
		docs[i].tree = n
	}
	return docs
}

// Load gives what [Load] gives of the same files. What it read of a set without
// faults is kept until the next such set: memory in proportion to one set.
func (r *Reader) Load(files []File) (*Set, []Fault) {
	r.mu.Lock()
	p := parts{last: r.mu.last, next: make(map[[sha256.Size]byte]part)}
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
type parts struct{ last, next map[[sha256.Size]byte]part }

// file reads a file part by part. One that has a fault is read as a whole, so that
// its faults are those of the file.
func (p *parts) file(f File) ([]document, []Fault, bool) {
	text := string(f.Content)
	if strings.Contains(text, "\r") { // is a line's end too, but not to parts
		return wholeFile(f)
	}
	var docs []document
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
			c := &cuts[i]
			if c.bad {
				return wholeFile(f)
			}
			if tokens += c.part.tokens; tokens > MaxTokens {
				return wholeFile(f)
			}
			p.next[c.key] = c.part
			docs = append(docs, c.docs...)
		}
	}
	return docs, nil, true
}

func wholeFile(f File) ([]document, []Fault, bool) {
	trees, faults, whole := readYAML(f)
	return loose(trees), faults, whole
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
	part part
	docs []document
	bad  bool // it has a fault
}

// readAhead reads the parts that are not among what was read, and unpacks the
// others, on all processors.
func (p *parts) readAhead(file string, cuts []partCut) {
	var next atomic.Int64
	read := func() {
		for i := next.Add(1) - 1; i < int64(len(cuts)); i = next.Add(1) - 1 {
			c := &cuts[i]
			c.key = sha256.Sum256([]byte(c.text))
			var known bool
			if c.part, known = p.last[c.key]; !known {
				c.part, c.bad = readPart(file, c)
			}
			c.unpack(file)
		}
	}
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(cuts)) - 1 {
		all.Go(read)
	}
	read()
	all.Wait()
}

// readPart reads a part, and tells whether it has a fault. A panic is none of the
// goroutine it runs in: the caller reads what has a fault again, and meets it.
func readPart(file string, cut *partCut) (t part, bad bool) {
	defer func() {
		if recover() != nil {
			t, bad = part{}, true
		}
	}()
	y := yamlReading{file: file, above: cut.line - 1}
	trees, faults, _ := y.read(cut.text)
	if len(faults) > 0 {
		return part{}, true
	}
	var b []byte
	for _, n := range trees {
		packed := pack(n, cut.line)
		b = append(binary.AppendUvarint(b, uint64(len(packed))), packed...)
	}
	return part{y.tokens, string(b)}, false
}

// unpack gives the documents of a part where it stands now.
func (c *partCut) unpack(file string) {
	u := unpacking{in: c.part.packed}
	for u.in != "" {
		packed := u.text()
		c.docs = append(c.docs, document{unpack(packed, file, c.line), packed})
	}
}
