package definition

// pacing reads asap, even or front_loaded, or {by, hours}: how a total cap
// spreads its units over its window, with the weight of each hour of the day in
// its traffic, or `learned` from the traffic of the last days.
func (f field) pacing(c *Cap) {
	words := []string{"asap", "even", "front_loaded"}
	if f.node.Kind != NodeMap {
		c.Pacing = Pacing(max(f.word(words...), 0))
	} else if o, ok := f.object(); ok {
		if by, ok := o.need("by"); ok {
			c.Pacing = Pacing(max(by.word(words...), 0))
		}
		if hours, ok := o.get("hours"); ok {
			if c.Learns = hours.node.Kind == NodeString; c.Learns {
				hours.word("learned")
			} else {
				c.Traffic = hours.traffic()
			}
		}
		o.close()
	}
	if c.Scope != ScopeTotal {
		f.fault("pacing belongs to a cap of scope total")
	}
}

// traffic reads the weights of the 24 hours of a day.
func (f field) traffic() []float64 {
	const most = 1e6
	hours := f.items(24)
	if f.node.Kind == NodeList && len(f.node.List) < 24 {
		f.fault("24 weights are expected, one for each hour of the day")
		return nil
	}
	var out []float64
	total := 0.0
	for _, h := range hours {
		w := h.float(0, most)
		out = append(out, w)
		total += w
	}
	if len(out) == 24 && total == 0 {
		f.fault("the weights are all 0")
	}
	if len(out) != 24 || total == 0 {
		return nil
	}
	return out
}
