// Package cdnow reads a real shop's purchases, which tests compare audiences with:
// the CDNOW data set, 69,659 purchases of 23,570 customers over 18 months.
//
// Source: P. S. Fader, B. G. S. Hardie, "Forecasting repeat sales at CDNOW: a case
// study", Interfaces 31 (2001), S94-S107.
package cdnow

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Purchases is how many the file has.
const Purchases = 69_659

// Purchase is one line of the file; the file knows the day, and noon UTC of it is
// taken.
type Purchase struct {
	Customer string
	At       time.Time
	CDs      int
	Amount   float64 // dollars
}

// ErrNoData says that TACT_DATA is not set.
var ErrNoData = errors.New(
	"TACT_DATA is not set: it names the folder that holds cdnow/CDNOW_master.txt")

// Read reads cdnow/CDNOW_master.txt below the folder that TACT_DATA names, in order
// of time, and inside a day in the file's. ErrNoData without the variable.
func Read() ([]Purchase, error) {
	dir := os.Getenv("TACT_DATA")
	if dir == "" {
		return nil, ErrNoData
	}
	text, err := os.ReadFile(filepath.Join(dir, "cdnow", "CDNOW_master.txt"))
	if err != nil {
		return nil, err
	}
	var all []Purchase
	for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "customer_id") {
			continue
		}
		var p Purchase
		var day string
		if _, err := fmt.Sscan(line, &p.Customer, &day, &p.CDs, &p.Amount); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		if p.At, err = time.Parse("20060102 15", day+" 12"); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(all) != Purchases {
		return nil, fmt.Errorf("%d purchases, want %d", len(all), Purchases)
	}
	slices.SortStableFunc(all, func(a, b Purchase) int { return a.At.Compare(b.At) })
	return all, nil
}
