package wire

import (
	"tact/engine"
	"tact/engine/definition"
)

// Problem is a problem document (RFC 9457). Title is the phrase of the status;
// Code is stable and says more than the status; Field is the path of the member
// that is wrong. Faults and Tests are what a publish or a check found.
type Problem struct {
	Status int
	Title  string
	Code   string
	Field  string
	Detail string
	Faults []definition.Fault
	Tests  []engine.TestOutcome
}

// AppendProblem appends p as application/problem+json. The type is about:blank:
// the code tells problems apart.
func AppendProblem(dst []byte, p *Problem) []byte {
	w := append(writer(dst), '{')
	w.text("type", "about:blank")
	w.text("title", p.Title)
	w.int("status", int64(p.Status))
	w.text("detail", p.Detail)
	w.text("code", p.Code)
	w.text("field", p.Field)
	if len(p.Faults) > 0 {
		w.name("errors")
		w.faults(p.Faults)
	}
	if len(p.Tests) > 0 {
		w.name("tests")
		w.tests(p.Tests)
	}
	w.close('}')
	return w
}

// LineError says why a line was rejected.
type LineError struct{ Code, Field, Detail string }

// AppendLine appends the result of one line of a bulk request, with a line feed.
// line counts from 1. err is read for a rejected line only.
func AppendLine(dst []byte, line int, res engine.LineResult, err LineError) []byte {
	w := append(writer(dst), '{')
	w.int("line", int64(line))
	w.lineResult(res)
	if res.Status == engine.LineRejected {
		w.lineError(err)
	}
	return append(w, '}', '\n')
}

// AppendResult appends the reply of a single line that was not rejected.
func AppendResult(dst []byte, res engine.LineResult) []byte {
	w := append(writer(dst), '{')
	w.lineResult(res)
	w.close('}')
	return w
}

func (w *writer) lineResult(res engine.LineResult) {
	switch res.Status {
	case engine.LineApplied:
		w.text("status", "applied")
	case engine.LineDuplicate:
		w.text("status", "duplicate")
	default:
		w.text("status", "rejected")
	}
	if res.Flags == 0 {
		return
	}
	w.name("flags")
	w.open('[')
	w.flag(res.Flags, engine.FlagClockClamped, `"clock_clamped"`)
	w.flag(res.Flags, engine.FlagLate, `"late"`)
	w.flag(res.Flags, engine.FlagRepeat, `"repeat_impression"`)
	w.close(']')
}

func (w *writer) flag(set, flag engine.LineFlags, quoted string) {
	if set&flag != 0 {
		w.comma()
		*w = append(*w, quoted...)
	}
}

// AppendInDoubt appends the result of a line that may or may not have been
// applied, with a line feed: the caller sends it again with the same ids.
func AppendInDoubt(dst []byte, line int, err LineError) []byte {
	w := append(writer(dst), '{')
	w.int("line", int64(line))
	w.text("status", "in_doubt")
	w.lineError(err)
	return append(w, '}', '\n')
}

func (w *writer) lineError(err LineError) {
	w.name("error")
	w.open('{')
	w.text("code", err.Code)
	w.text("field", err.Field)
	w.text("detail", err.Detail)
	w.close('}')
}
