package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// eventsPath is where the event log is read.
const eventsPath = "/v1/events"

// EventsQuery says which events of the event log to read. The zero value: all.
type EventsQuery struct {
	From, Until time.Time // of receipt, half-open; zero: no bound
	Event       string
	UserID      string
	Limit       int64
	After       string // a cursor, or "start": the end names where to go on; "": it does not
}

// EventsEnd is how a reading of the event log ended.
type EventsEnd struct {
	Events     int64  `json:"events"`
	Unreadable int64  `json:"unreadable,omitempty"` // left out: their people are gone
	Limited    bool   `json:"limited,omitempty"`
	Cursor     string `json:"cursor,omitempty"`
}

// faultOf reads the line that ends a reply of lines which could not go on.
func faultOf(line []byte) error {
	var end struct{ Error Error }
	if err := json.Unmarshal(line, &end); err != nil {
		return fmt.Errorf("%w: %w", errBrokenOff, err)
	}
	end.Error.Status = http.StatusInternalServerError
	return &end.Error
}

// Events streams events and outcomes, one JSON object without line feed a call. A
// reply that breaks off is an error that [BrokenOff] knows; it cannot be taken up, but
// with After read again from there.
func (c *Client) Events(
	ctx context.Context, q EventsQuery, event func(line []byte) error,
) (end EventsEnd, err error) {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	if !q.From.IsZero() {
		set("from", q.From.Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		set("until", q.Until.Format(time.RFC3339Nano))
	}
	set("event", q.Event)
	set("user_id", q.UserID)
	set("after", q.After)
	if q.Limit > 0 {
		set("limit", strconv.FormatInt(q.Limit, 10))
	}
	res, err := c.opened(ctx, func() (*http.Request, error) {
		return http.NewRequestWithContext(
			ctx, http.MethodGet, c.base+eventsPath+"?"+values.Encode(), nil)
	})
	if err != nil {
		return end, err
	}
	defer res.Body.Close()
	err = eachLine(res.Body, func(line []byte) (done bool, err error) {
		if bytes.HasPrefix(line, []byte(`{"error"`)) {
			return true, faultOf(line)
		}
		if !bytes.HasPrefix(line, []byte(`{"done"`)) {
			return false, event(line)
		}
		if err := json.Unmarshal(line, &end); err != nil {
			return true, fmt.Errorf("%w: %w", errBrokenOff, err)
		}
		return true, nil
	})
	return end, err
}
