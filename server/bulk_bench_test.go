package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"tact/engine"
	"tact/engine/definition"
	"tact/server/wire"
	"tact/storage"
)

// crowd is a server over n people with some attributes.
func crowd(b *testing.B, n int) (*Server, *engine.Engine) {
	b.Helper()
	e, err := engine.Open(b.TempDir(), engine.Options{
		Storage: storage.Options{MinFree: 1, Ballast: 1 << 20},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	if _, faults, _, err := e.Publish([]definition.File{{
		Name: "bench.yaml", Content: []byte(benchCatalogue()),
	}}, "bench", "", 0); err != nil || len(faults) > 0 {
		b.Fatal(err, faults)
	}
	batch := e.Begin()
	for i := range n {
		doc := engine.UserDoc{UserID: fmt.Appendf(nil, "user-%d", i)}
		for a := range 4 {
			doc.Attributes = append(doc.Attributes, engine.NamedValue{
				Name:  fmt.Appendf(nil, "a%d", a),
				Value: engine.RawValue{Kind: engine.RawNumber, Text: fmt.Append(nil, (i*7+a*13)%100)},
			})
		}
		if r := batch.User(&doc); r.Err != nil {
			b.Fatal(r.Err)
		}
	}
	if err := batch.Commit(time.Minute); err != nil {
		b.Fatal(err)
	}
	s, err := New(e, Options{AdminKey: testKey})
	if err != nil {
		b.Fatal(err)
	}
	return s, e
}

// benchCatalogue has 64 offers on one placement, of which no decision uses a cap.
func benchCatalogue() string {
	var s strings.Builder
	s.WriteString("kind: workspace\nid: default\ntimezone: UTC\n")
	for i := range 4 {
		fmt.Fprintf(&s, "---\nkind: attribute\nid: a%d\ntype: int\n", i)
	}
	for i := range 64 {
		fmt.Fprintf(&s, "---\nkind: offer\nid: o%d\nmessage_class: marketing\nvalue: %d\n"+
			"eligibility: {all: [{attribute: a%d, gte: %d}]}\n"+
			"treatments: [{id: t, channel: web, content: {type: json, body: {title: offer %d}}}]\n",
			i, 1+i%7, i%4, 20+i, i)
	}
	s.WriteString("---\nkind: placement\nsticky: none\nid: home\nchannel: web\npolicy: all\n" +
		"---\nkind: decision_policy\nid: all\nranking: {by: product}\n")
	return s.String()
}

// BenchmarkIDs streams the ids of 500,000 people as the server writes them, in
// process: ids/s is the figure.
func BenchmarkIDs(b *testing.B) {
	const n = 500_000
	s, e := crowd(b, n)
	a, err := e.Audience(context.Background(), &engine.AudienceQuery{Rule: &definition.Node{
		Kind: definition.NodeMap,
	}})
	if err != nil || a.Count() != n {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 2*pieceBytes)
	b.ReportAllocs()
	for b.Loop() {
		p := &peopleLines{server: s, a: a, head: &wire.BulkHead{}, ids: true}
		for done := false; !done; {
			if buf, done, err = p.next(buf[:0]); err != nil {
				b.Fatal(err)
			}
		}
		if p.given != n {
			b.Fatal(p.given)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "ids/s")
}

// BenchmarkBatchLines makes the lines of batches of 10,000 people in random order, as the
// server writes them, in process: a person of a batch without sockets and without reading
// the body.
func BenchmarkBatchLines(b *testing.B) {
	const n = 200_000
	s, e := crowd(b, n)
	all := make([][]byte, n)
	for i := range all {
		all[i] = fmt.Appendf(nil, "user-%d", i)
	}
	buf, batches := make([]byte, 0, 4*pieceBytes), 0
	run := func(b *testing.B, mode engine.Mode, users [][]byte) {
		batches++
		batch, err := e.BeginDecisions(&engine.DecideRequest{
			Mode: mode, BodyHash: 1,
			Placements: []engine.PlacementAsk{{Key: []byte("k"), PlacementID: []byte("home")}},
		}, fmt.Append(nil, batches))
		if err != nil {
			b.Fatal(err)
		}
		lines := &batchLines{server: s, batch: batch, users: users, head: &wire.BulkHead{}}
		for done := false; !done; {
			if buf, done, err = lines.next(buf[:0]); err != nil {
				b.Fatal(err)
			}
		}
		if lines.end.Users != len(users) {
			b.Fatalf("%+v", lines.end)
		}
	}
	run(b, engine.ModeDryRun, all) // everybody's conditions are known then
	rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, mode := range []engine.Mode{engine.ModeDryRun, engine.ModeLive} {
		b.Run([]string{"live", "dry"}[min(mode, 1)], func(b *testing.B) {
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				run(b, mode, all[at:at+wire.MaxUsers])
				at = (at + wire.MaxUsers) % n
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/wire.MaxUsers, "ns/person")
		})
	}
}

// BenchmarkBatchAgainstSingle asks one server, in turns, for decisions one by one
// over kept connections and in batches of 10,000: people/s of both and their
// ratio. The client runs on the same cores.
func BenchmarkBatchAgainstSingle(b *testing.B) {
	const n = 100_000
	s, _ := crowd(b, n)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-served
	})
	base := "http://" + l.Addr().String()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	post := func(path string, body []byte) {
		req, _ := http.NewRequest("POST", base+path, bytes.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+testKey)
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil || res.StatusCode != 200 {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	batch := func(mode string) {
		var body bytes.Buffer
		for from := 0; from < n; from += wire.MaxUsers {
			body.Reset()
			fmt.Fprintf(&body, `{"mode":%q,"request_id":"%d","placements":[{"placement_id":"home"}],"users":[`,
				mode, time.Now().UnixNano())
			for i := range wire.MaxUsers {
				if i > 0 {
					body.WriteByte(',')
				}
				fmt.Fprintf(&body, `"user-%d"`, from+i)
			}
			body.WriteString("]}")
			post("/v1/decide:batch", body.Bytes())
		}
	}
	const singles = 5_000
	single := func(mode string) {
		done := make(chan struct{})
		for w := range 16 {
			go func() {
				defer func() { done <- struct{}{} }()
				for i := w; i < singles; i += 16 {
					post("/v1/decide", fmt.Appendf(nil, `{"mode":%q,"user":{"user_id":"user-%d"},`+
						`"placements":[{"placement_id":"home"}]}`, mode, i*7%n))
				}
			}()
		}
		for range 16 {
			<-done
		}
	}
	batch("dry_run") // everybody's conditions are known then
	for _, mode := range []string{"dry_run", "live"} {
		b.Run(mode, func(b *testing.B) {
			var one, many time.Duration
			for b.Loop() {
				start := time.Now()
				single(mode)
				one += time.Since(start)
				start = time.Now()
				batch(mode)
				many += time.Since(start)
			}
			r1 := singles * float64(b.N) / one.Seconds()
			rn := n * float64(b.N) / many.Seconds()
			b.ReportMetric(r1, "single/s")
			b.ReportMetric(rn, "batch/s")
			b.ReportMetric(rn/r1, "times")
			b.ReportMetric(0, "ns/op")
		})
	}
}
