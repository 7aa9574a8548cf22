package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

// arms of the test, in the order in which tables show them.
func arms() []string { return []string{"mens", "womens", "none"} }

// customer is one line of the file. The file has no ids: a customer is known by
// the number of the line behind the header, from 1.
type customer struct {
	arm       string // what the test of 2008 sent
	visit     bool
	converted bool
	cents     int // spend
}

// readCustomers reads the file and writes it again with an id in front, as
// `tact import` needs one.
func readCustomers(name, withID string) ([]customer, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := os.Create(withID)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriter(out)
	customers, err := copyCustomers(csv.NewReader(bufio.NewReader(in)), csv.NewWriter(buffered))
	return customers, errors.Join(err, buffered.Flush(), out.Close())
}

func copyCustomers(r *csv.Reader, w *csv.Writer) ([]customer, error) {
	header, err := r.Read()
	if err != nil {
		return nil, err
	}
	column := func(name string) int { return slices.Index(header, name) }
	segment, visit := column("segment"), column("visit")
	conversion, spend := column("conversion"), column("spend")
	if min(segment, visit, conversion, spend) < 0 {
		return nil, fmt.Errorf("columns segment, visit, conversion and spend expected, not %q", header)
	}
	if err := w.Write(append([]string{"id"}, header...)); err != nil {
		return nil, err
	}
	var customers []customer
	for {
		row, err := r.Read()
		if err == io.EOF {
			w.Flush()
			return customers, w.Error()
		}
		if err != nil {
			return nil, err
		}
		c := customer{visit: row[visit] == "1", converted: row[conversion] == "1"}
		switch row[segment] {
		case "Mens E-Mail":
			c.arm = "mens"
		case "Womens E-Mail":
			c.arm = "womens"
		case "No E-Mail":
			c.arm = "none"
		default:
			return nil, fmt.Errorf("line %d: unknown segment %q", len(customers)+2, row[segment])
		}
		money, err := strconv.ParseFloat(row[spend], 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: spend: %w", len(customers)+2, err)
		}
		c.cents = int(money*100 + 0.5)
		customers = append(customers, c)
		if err := w.Write(append([]string{userID(len(customers) - 1)}, row...)); err != nil {
			return nil, err
		}
	}
}

func userID(index int) string { return "c" + strconv.Itoa(index+1) }
