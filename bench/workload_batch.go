package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tact/bench/synth"
	"tact/engine"
)

// batchPeople is how many people a batch over HTTP names, half of what it may.
const batchPeople = 5000

// batchOverHTTP compares a person of a batch with a request for one person: the
// server's processor time of each, which end to end is what a caller saves.
type batchOverHTTP struct{ live bool }

func (b batchOverHTTP) ready(w *world) (*trial, error) {
	o := w.options
	if o.Server == nil {
		return missing("µs", "no way to start a server was given"), nil
	}
	if err := w.serve(); err != nil {
		return nil, err
	}
	if _, err := w.warm(w.server); err != nil {
		return nil, err
	}
	t := &trial{clock: clockChild, scale: 1e6, figure: Figure{
		Unit: "µs", Reference: "a request for one person, 16 connections",
		Conditions: map[string]string{
			"people": strconv.Itoa(o.Users), "offers": "1000", "people a batch": strconv.Itoa(batchPeople),
			"asked for": strconv.Itoa(w.cold()), "mode": mode(b.live), "callers of batches": "1",
		},
	}}
	if !b.live {
		t.figure.Target = &Target{"P6: ≥ 12 × single requests is ≤ 0.083", 1.0 / 12}
	}
	t.child.own, t.child.reference = w.server.PID, w.server.PID
	t.own = w.batches(b.live)
	t.reference = w.asker(w.server, 16, mode(b.live))
	return t, nil
}

func mode(live bool) string {
	if live {
		return "live"
	}
	return "dry_run"
}

// batches sends batches of people drawn at random, one behind the other.
func (w *world) batches(live bool) side {
	turn := uint64(0)
	return func(n int) (float64, error) {
		turn++
		client := &fasthttp.HostClient{Addr: w.server.Address}
		defer client.CloseIdleConnections()
		req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(req)
		defer fasthttp.ReleaseResponse(res)
		header(req, w.server)
		req.SetRequestURI("http://" + w.server.Address + "/v1/decide:batch")
		random := rand.New(rand.NewPCG(turn, 77))
		var body []byte
		done := 0
		for ; done < n; done += batchPeople {
			body = w.batchBody(body[:0], random, mode(live))
			req.SetBodyRaw(body)
			if err := client.Do(req, res); err != nil {
				return 0, err
			}
			if err := wholeBatch(res); err != nil {
				return 0, err
			}
		}
		return float64(done), nil
	}
}

func (w *world) batchBody(dst []byte, random *rand.Rand, mode string) []byte {
	dst = append(dst, `{"users":[`...)
	for i := range batchPeople {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(synth.AppendUserID(dst, random.IntN(w.cold())), '"')
	}
	return fmt.Appendf(dst,
		`],"placements":[{"key":"p","placement_id":%q}],"mode":%q,"request_id":"bench-%d"}`,
		placeID(random.IntN(16)), mode, w.serial.Add(1))
}

// wholeBatch tells whether a reply answers for everybody.
func wholeBatch(res *fasthttp.Response) error {
	body := bytes.TrimRight(res.Body(), "\n")
	last := body[bytes.LastIndexByte(body, '\n')+1:]
	if res.StatusCode() != fasthttp.StatusOK || !bytes.HasPrefix(last, []byte(`{"done":true`)) ||
		bytes.Count(body, []byte("\n")) != batchPeople+1 {
		return fmt.Errorf("status %d, a batch that ends with %s",
			res.StatusCode(), last[:min(len(last), 300)])
	}
	return nil
}

// tagsChanged puts a tag on people drawn at random or takes one away, durable
// together, against a bare log that syncs as many records.
func tagsChanged(w *world) (*trial, error) {
	log, err := newAppendLog(w.folder, ingestBatch, eventBytes)
	if err != nil {
		return nil, err
	}
	w.later(log.close)
	random := rand.New(rand.NewPCG(w.options.Seed, 200))
	t := &trial{clock: clockProcess, figure: Figure{
		Unit: "ns", Reference: "append of as many records with one fdatasync",
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "tags": strconv.Itoa(synth.BenchTags),
			"changes a batch": strconv.Itoa(ingestBatch),
		},
	}}
	t.own = func(n int) (float64, error) {
		b := w.engine.Begin()
		var doc engine.UserDoc
		done := 0
		for ; done < n; done += ingestBatch {
			for range ingestBatch {
				doc.UserID = synth.AppendUserID(doc.UserID[:0], random.IntN(w.options.Users))
				name := fmt.Appendf(nil, "tag_%d", random.IntN(synth.BenchTags))
				doc.Tags, doc.TagsRemove = doc.Tags[:0], doc.TagsRemove[:0]
				if random.IntN(2) == 0 {
					doc.Tags = append(doc.Tags, engine.TagDoc{Name: name})
				} else {
					doc.TagsRemove = append(doc.TagsRemove, name)
				}
				if r := b.User(&doc); r.Err != nil {
					return 0, r.Err
				}
			}
			if err := b.Commit(time.Minute); err != nil {
				return 0, err
			}
		}
		return float64(done), nil
	}
	t.reference = log.run
	return t, nil
}
