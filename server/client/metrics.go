package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Sample is one reading of a server's /metrics: a value for each series, which
// is named as the text has it: name or name{label="value",…}.
type Sample map[string]float64

// maxSeries bounds what is read of one answer.
const maxSeries = 100_000

// Metrics reads a server's metrics once.
func (c *Client) Metrics(ctx context.Context) (Sample, error) {
	body, _, err := c.once(ctx, call{method: http.MethodGet, path: "/metrics"})
	if err != nil {
		return nil, err
	}
	return ParseMetrics(body)
}

// ParseMetrics reads the Prometheus text format. Comments and time stamps are
// left out; of two values of one series the last counts. A line that is none is
// an error that names it.
//
// Source: the exposition format 0.0.4, prometheus.io/docs/instrumenting/exposition_formats.
func ParseMetrics(text []byte) (Sample, error) {
	s := make(Sample)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, ok := cutSeries(line)
		value, _, _ := strings.Cut(rest, " ")
		v, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("metrics line %d: not a series and its value", n)
		}
		if s[name] = v; len(s) > maxSeries {
			return nil, fmt.Errorf("metrics: more than %d series", maxSeries)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return s, nil
}

// cutSeries parts a line behind the name or its closing brace. Quoted values of
// labels may hold braces.
func cutSeries(line string) (name, rest string, ok bool) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '}':
			return line[:i+1], strings.TrimSpace(line[i+1:]), true
		case c == ' ' || c == '\t':
			if !strings.Contains(line[:i], "{") {
				return line[:i], strings.TrimSpace(line[i+1:]), i > 0
			}
		}
	}
	return "", "", false
}

// label gives the value of a label of a series; "" when it has none.
func label(series, name string) string {
	_, rest, ok := strings.Cut(series, name+`="`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
