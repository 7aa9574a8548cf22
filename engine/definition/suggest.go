package definition

import (
	"strings"
	"unicode/utf8"
)

// Suggest returns the word of among that a misspelt word most likely meant, or
// "" when none is near: at most one edit for each three characters of word,
// at least one and at most three, case ignored. Of several equally near words
// it gives the first in byte order. A word of more than 64 characters is never
// near. Edits are insert, remove, replace and swap of two neighbours.
//
// Source: optimal string alignment distance, G. Navarro, ACM Computing Surveys
// 33 (2001), 31-88. Cost: O(len(word) × total length of among).
func Suggest(word string, among []string) string {
	const longest = 64
	if utf8.RuneCountInString(word) > longest {
		return ""
	}
	w := []rune(strings.ToLower(word))
	best, nearest := "", min(max(len(w)/3, 1), 3)+1
	for _, candidate := range among {
		if candidate == word || utf8.RuneCountInString(candidate) > longest {
			continue
		}
		d := edits(w, []rune(strings.ToLower(candidate)))
		if d < nearest || d == nearest && best != "" && candidate < best {
			best, nearest = candidate, d
		}
	}
	return best
}

// edits is the optimal string alignment distance of a and b.
func edits(a, b []rune) int {
	before, last, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		next[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(last[j]+cost, last[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, last, next = last, next, before
	}
	return last[len(b)]
}
