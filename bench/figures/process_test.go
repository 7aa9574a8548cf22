package main

import (
	"testing"
	"time"
)

// Stolen CPU spoils times and leaves counts alone.
func TestSection(t *testing.T) {
	var table table
	err := table.section(func() error {
		table.add(figure{Name: "time"})
		table.add(figure{Name: "count", count: true})
		time.Sleep(time.Millisecond)
		return nil
	})
	if err != nil || len(table.figures) != 2 || !table.figures[1].Measured ||
		table.figures[0].Measured != (table.stolen <= mostStolen) {
		t.Errorf("%+v, %v", table, err)
	}
}
