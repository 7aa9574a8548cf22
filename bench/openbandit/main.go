// Command openbandit replays one week of real impressions of a fashion shop (Open
// Bandit Dataset, small version: 10,000 rows a file) as decisions through caps of
// several shapes, and compares every accept and every refusal with a plain count
// over the log of what was accepted.
//
// Each row is a decision at its time, for its item on its position; what is
// granted is shown at once, and clicked when the row was. The file has no user id:
// the tuple of its four user features stands for the person.
//
// Run it from the module root: TACT_DATA=FOLDER go run ./bench/openbandit, where
// FOLDER holds open-bandit-small/*.csv.gz. Without the files it says so and ends
// with 0; any difference ends with 1. It leaves nothing behind.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	folder := filepath.Join(os.Getenv("TACT_DATA"), "open-bandit-small")
	if _, err := os.Stat(folder); err != nil || os.Getenv("TACT_DATA") == "" {
		fmt.Println("skipped: no data")
		return
	}
	if err := run(folder); err != nil {
		fmt.Fprintln(os.Stderr, "openbandit:", err)
		os.Exit(1)
	}
}

// run replays every campaign of the folder through every shape of cap.
func run(folder string) error {
	fmt.Println("the tuple of the four user features stands for the person")
	wrong := 0
	for _, name := range []string{"random_men", "bts_men", "random_women", "bts_women"} {
		rows, err := readImpressions(filepath.Join(folder, name+".csv.gz"))
		if err != nil {
			return err
		}
		people := map[string]bool{}
		for i := range rows {
			people[rows[i].person] = true
		}
		fmt.Printf("%s: %d impressions, %d people\n", name, len(rows), len(people))
		for _, shape := range shapes() {
			sum, err := replay(rows, shape)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", name, shape.name, err)
			}
			wrong += sum.different
			fmt.Printf("  %-28s %5d granted %5d refused %d different\n", shape.name, sum.granted,
				sum.refused, sum.different)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d answers differ from the count", wrong)
	}
	return nil
}
