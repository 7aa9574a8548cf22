package main

import (
	"os"
	"strconv"
)

// effort scales a count by TACT_EFFORT, a number in (0, 1]; at least one stays.
func effort(n int) int {
	share, err := strconv.ParseFloat(os.Getenv("TACT_EFFORT"), 64)
	if err != nil || share <= 0 || share > 1 {
		return n
	}
	return max(int(float64(n)*share), 1)
}
