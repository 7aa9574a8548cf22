package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// check asks the checker about the history of every counter.
func (l *lin) check() error {
	for counter, history := range l.ops {
		model := linPairModel(linLimit)
		if counter[0] == 'a' {
			model = linModel(linTotal)
		}
		switch porcupine.CheckOperationsTimeout(model, history, time.Minute) {
		case porcupine.Ok:
		case porcupine.Unknown:
			return fmt.Errorf("counter %s: not decided within a minute", counter)
		default:
			return fmt.Errorf("counter %s: no order of its operations explains the answers:\n%s",
				counter, linText(history))
		}
	}
	return nil
}

func linText(history []porcupine.Operation) string {
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var s strings.Builder
	for _, op := range history {
		fmt.Fprintf(&s, "%d–%d %v\n", op.Call, op.Return, linCall(op))
	}
	return s.String()
}

// linCall writes an operation as a person would read it.
func linCall(op porcupine.Operation) string {
	in, out := op.Input.(linInput), op.Output.(linOutput)
	name := []string{
		"decide", "confirm", "held for a moment", "given back", "all runs out", "stop", "kill", "cut",
		"merge", "split", "forget", "a lost one may have come",
	}[in.kind]
	s := strings.TrimSpace(name + " " + in.request + in.id)
	if in.side != 0 {
		s += " of the second"
	}
	if in.sticky {
		s += " sticky"
	}
	mark := func(set bool, what string) {
		if set {
			s += " " + what
		}
	}
	switch {
	case in.kind > linConfirm && !out.unknown:
		return s
	case out.unknown:
		return s + ": nobody saw the answer"
	}
	s += ":"
	mark(in.kind == linDecide && out.id == "", "nothing")
	mark(out.id != "", out.id)
	mark(out.replayed, "again")
	mark(out.strict, "strict")
	mark(out.late, "late")
	mark(out.twice, "twice")
	return s
}
