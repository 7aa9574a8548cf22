package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// BackupAsk asks a server for a backup of its store into a folder of its machine.
type BackupAsk struct {
	To   string // "" = the server's own folder for backups
	Full bool
	Rate int64         // bytes a second; 0 = as fast as it goes
	Look time.Duration // pause between two looks; default 300 ms
}

// Backup is what a server says of its last backup.
type Backup struct {
	State    string    `json:"state"` // none, running, done, failed
	To       string    `json:"to,omitempty"`
	Started  time.Time `json:"started_at,omitzero"`
	Ended    time.Time `json:"ended_at,omitzero"`
	Bytes    int64     `json:"bytes,omitempty"`
	Expected int64     `json:"bytes_expected,omitempty"`
	Name     string    `json:"name,omitempty"`
	Kind     string    `json:"kind,omitempty"`
	WhyFull  string    `json:"why_full,omitempty"`
	From     time.Time `json:"from,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	Fault    string    `json:"fault,omitempty"`
	Damaged  bool      `json:"damaged,omitempty"` // why: bytes are not what was written
}

// ErrDamaged says that a server met damage: bytes on its disk are not what was written.
var ErrDamaged = errors.New("the store is damaged")

// Backup begins a backup and waits for its end; tell hears how far it is. The server
// goes on when ctx ends. A backup that failed is an error.
func (c *Client) Backup(ctx context.Context, a BackupAsk, tell func(Backup)) (b Backup, err error) {
	if a.Look <= 0 {
		a.Look = 300 * time.Millisecond
	}
	query := url.Values{"full": {strconv.FormatBool(a.Full)}}
	query.Set("bytes_per_second", strconv.FormatInt(a.Rate, 10))
	if a.To != "" {
		query.Set("to", a.To)
	}
	body, _, err := c.once(ctx, call{
		method: http.MethodPost, path: "/v1/backups?" + query.Encode(),
	})
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return b, fmt.Errorf("backup: %w", err)
	}
	tick := time.NewTicker(a.Look)
	defer tick.Stop()
	for b.State == "running" {
		tell(b)
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-tick.C:
		}
		b = Backup{}
		if err := c.getJSON(ctx, "/v1/backups", &b); err != nil {
			return b, err
		}
	}
	if b.Damaged {
		return b, fmt.Errorf("backup: %w: %s", ErrDamaged, b.Fault)
	}
	if b.State != "done" {
		return b, fmt.Errorf("backup: %s: %s", b.State, b.Fault)
	}
	return b, nil
}
