package main

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// impression is one row of the log.
type impression struct {
	at       int64 // unix ms
	person   string
	item     string
	position string // 1 to 3
	clicked  bool
}

// readImpressions reads a file of the data set, in the order of time.
func readImpressions(name string) (rows []impression, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	packed, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if rows, err = parseImpressions(packed); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return rows, nil
}

func parseImpressions(in io.Reader) ([]impression, error) {
	lines := csv.NewReader(in)
	header, err := lines.Read()
	if err != nil {
		return nil, err
	}
	columns := []string{
		"timestamp", "item_id", "position", "click",
		"user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3",
	}
	at := make([]int, len(columns))
	for i, name := range columns {
		if at[i] = slices.Index(header, name); at[i] < 0 {
			return nil, fmt.Errorf("no column %s", name)
		}
	}
	var rows []impression
	for {
		cells, err := lines.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		when, err := time.Parse("2006-01-02 15:04:05.999999-07:00", cells[at[0]])
		if err != nil {
			return nil, err
		}
		person := make([]string, 0, 4)
		for _, i := range at[4:] {
			person = append(person, cells[i])
		}
		rows = append(rows, impression{
			at: when.UnixMilli(), item: "i" + cells[at[1]], position: "p" + cells[at[2]],
			clicked: cells[at[3]] == "1", person: shorten(person),
		})
	}
	slices.SortStableFunc(rows, func(a, b impression) int { return int(a.at - b.at) })
	return rows, nil
}

// shorten names the person by the first half of each of the hashed features: a
// user id has at most 128 bytes.
func shorten(features []string) string {
	for i, f := range features {
		features[i] = f[:min(len(f), 16)]
	}
	return strings.Join(features, "-")
}
