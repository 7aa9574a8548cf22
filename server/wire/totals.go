package wire

import "tact/engine"

// AppendTotals appends the reply of GET /v1/totals.
func AppendTotals(dst []byte, totals []engine.TotalView) []byte {
	w := append(writer(dst), '{')
	w.name("totals")
	w.open('[')
	for i := range totals {
		t := &totals[i]
		w.open('{')
		w.text("cap_id", t.CapID)
		w.text("of", t.Of)
		w.text("currency", t.Currency)
		w.int("spent", t.Spent)
		w.int("held", t.Held)
		if t.Burnt != 0 {
			w.int("burnt", t.Burnt)
		}
		w.int("limit", t.Limit)
		w.int("planned", t.Planned)
		w.close('}')
	}
	w.close(']')
	w.close('}')
	return w
}
