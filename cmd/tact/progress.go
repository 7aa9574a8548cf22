package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far long work is: a bar on a terminal, else a line every
// few seconds.
type progress struct {
	w        io.Writer
	noun     string
	total    int64
	bar      *progressbar.ProgressBar
	lastLine time.Time
}

// lineEvery is the pause between two lines of progress.
const lineEvery = 2 * time.Second

func newProgress(w io.Writer, noun string, total int64) *progress {
	p := &progress{w: w, noun: noun, total: total, lastLine: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(noun),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString(noun), progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return p
}

// at says that done of the total are done.
func (p *progress) at(done int64) {
	if p.bar != nil {
		// The bar is decoration: a terminal that takes no more is no reason to stop.
		_ = p.bar.Set64(min(done, p.total))
		return
	}
	if now := time.Now(); now.Sub(p.lastLine) >= lineEvery {
		p.lastLine = now
		fmt.Fprintf(p.w, "%s of %s %s\n", grouped(done), grouped(p.total), p.noun)
	}
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// grouped writes n with a comma between groups of three digits.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
