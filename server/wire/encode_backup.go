package wire

import "tact/engine"

// AppendBackup appends what the last backup is doing or has done: state is none,
// running, done or failed.
func AppendBackup(dst []byte, v *engine.BackupView) []byte {
	w := append(writer(dst), '{')
	state := "none"
	switch {
	case v.Running:
		state = "running"
	case v.Fault != "":
		state = "failed"
	case v.Ended != 0:
		state = "done"
	}
	w.text("state", state)
	if state == "none" {
		w.close('}')
		return w
	}
	w.text("to", v.To)
	w.time("started_at", int64(v.Started))
	w.int("bytes", v.Done)
	w.int("bytes_expected", v.Of)
	if v.Ended != 0 {
		w.time("ended_at", int64(v.Ended))
	}
	switch state {
	case "failed":
		w.text("fault", v.Fault)
		if v.Damaged {
			w.bool("damaged", true)
		}
	case "done":
		w.text("name", v.Name)
		w.text("kind", v.Kind)
		if v.WhyFull != "" {
			w.text("why_full", v.WhyFull)
		}
		w.time("from", int64(v.From))
		w.time("until", int64(v.Until))
	}
	w.close('}')
	return w
}
