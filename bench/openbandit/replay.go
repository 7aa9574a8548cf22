package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/engine"
	"tact/engine/definition"
	"tact/storage"
)

// summary is what came out of one replay.
type summary struct{ granted, refused, different int }

// definitions is a catalogue of the rows' items, on three placements, under one cap.
func definitions(rows []impression, cap string) string {
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: Asia/Tokyo\n---\n" +
		"kind: decision_policy\nid: p\n---\nkind: cap\nid: c\n" + cap)
	seen := map[string]bool{}
	for i := range rows {
		r := &rows[i]
		if !seen[r.item] {
			fmt.Fprintf(&b, "---\nkind: offer\nid: %s\nmessage_class: marketing\ntreatments: "+
				"[{id: t, channel: web, content: {type: text, body: x}}]\n", r.item)
		}
		if !seen[r.position] {
			fmt.Fprintf(&b, "---\nkind: placement\nid: %s\nchannel: web\npolicy: p\nsticky: none\n",
				r.position)
		}
		seen[r.item], seen[r.position] = true, true
	}
	return b.String()
}

// replay decides every row, of people who are known, in a store in memory whose clock
// follows the rows, and compares each answer with the count over the uses granted so far.
func replay(rows []impression, s shape) (sum summary, err error) {
	if len(rows) == 0 {
		return sum, errors.New("no impressions")
	}
	start := rows[0].at - 1
	var clock atomic.Int64 // the store's own loops read it too
	clock.Store(start)
	e, err := engine.Open("store", engine.Options{
		Read: func() (wall, mono int64) {
			at := clock.Load()
			return at, at - start + 1
		},
		Storage: storage.Options{FS: vfs.NewMem(), Groups: 1, MinFree: 1},
	})
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	files := []definition.File{{Name: "c.yaml", Content: []byte(definitions(rows, s.cap))}}
	if _, faults, _, err := e.Publish(files, "replay", "", 0); err != nil || len(faults) > 0 {
		return sum, fmt.Errorf("%v %w", faults, errors.Join(err, errors.New("not published")))
	}
	if err := introduce(e, rows); err != nil {
		return sum, err
	}
	uses := map[string][]int64{}
	var out engine.Decision
	for i := range rows {
		r := &rows[i]
		now := r.at
		clock.Store(now)
		want := !s.full(uses[s.key(r)], now)
		got, err := decide(e, r, &out)
		if err != nil {
			return sum, err
		}
		switch {
		case got != want:
			sum.different++
		case got:
			sum.granted++
		default:
			sum.refused++
		}
		if got && (!s.clicks || r.clicked) {
			uses[s.key(r)] = append(uses[s.key(r)], now)
		}
	}
	return sum, nil
}

// introduce makes everybody known: what caps know of somebody who is not is forgotten a
// day after the last call.
func introduce(e *engine.Engine, rows []impression) error {
	batch, known := e.Begin(), map[string]bool{}
	for i := range rows {
		if id := rows[i].person; !known[id] {
			known[id] = true
			if line := batch.User(&engine.UserDoc{UserID: []byte(id)}); line.Err != nil {
				return line.Err
			}
		}
	}
	return batch.Commit(5 * time.Second)
}

// decide asks for one row, and shows and clicks what it was given.
func decide(e *engine.Engine, r *impression, out *engine.Decision) (bool, error) {
	err := e.Decide(&engine.DecideRequest{
		UserID: []byte(r.person), Timeout: time.Second,
		Placements: []engine.PlacementAsk{{
			Key: []byte("k"), PlacementID: []byte(r.position), Allow: [][]byte{[]byte(r.item)},
		}},
	}, out)
	if err != nil || len(out.Items) == 0 {
		return false, err
	}
	token := bytes.Clone(out.Items[0].Token)
	batch := e.Begin()
	for _, outcome := range []string{"impression", "click"} {
		if outcome == "click" && !r.clicked {
			break
		}
		doc := engine.OutcomeDoc{Token: token, Outcome: []byte(outcome)}
		if line := batch.Outcome(&doc); line.Err != nil {
			return false, line.Err
		}
	}
	return true, batch.Commit(5 * time.Second)
}
