package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// connections is how many callers ask at a time.
const connections = 16

// reply is what the script reads of a decision.
type reply struct {
	DecisionID  string    `json:"decision_id"`
	DecidedAt   time.Time `json:"decided_at"`
	Assignments []struct {
		Experiment string `json:"experiment_id"`
		Variant    string `json:"variant_id"`
	} `json:"assignments"`
	Placements map[string]struct {
		Items []struct {
			OfferID string `json:"offer_id"`
			Token   string `json:"tracking_token"`
		} `json:"items"`
		NoDecision *struct {
			Reason string `json:"reason"`
		} `json:"no_decision"`
	} `json:"placements"`
}

// arm is the variant of the e-mail test, "" when the person is in none.
func (r *reply) arm() string {
	for _, a := range r.Assignments {
		if a.Experiment == "email_test" {
			return a.Variant
		}
	}
	return ""
}

// caller talks to one server over at most connections connections.
type caller struct {
	client *fasthttp.HostClient
	base   string
	key    string
}

func (p *process) caller() *caller {
	return &caller{
		client: &fasthttp.HostClient{
			Addr: p.address, MaxConns: connections, MaxConnWaitTimeout: time.Minute,
			ReadTimeout: time.Minute,
		},
		base: p.url(""), key: p.key,
	}
}

// post sends body and reads the reply of status 200 into out.
func (c *caller) post(path string, body []byte, out any) error {
	return c.call(fasthttp.MethodPost, path, body, out)
}

func (c *caller) call(method, path string, body []byte, out any) error {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI(c.base + path)
	req.Header.SetMethod(method)
	req.Header.Set("Authorization", "Bearer "+c.key)
	if body != nil {
		req.Header.SetContentType("application/json")
		req.SetBody(body)
	}
	if err := c.client.Do(req, res); err != nil {
		return err
	}
	if res.StatusCode() != fasthttp.StatusOK {
		return fmt.Errorf("%s %s: status %d: %s", method, path, res.StatusCode(), res.Body())
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(res.Body(), out)
}

// decide asks for one placement of one person. It lets a grant wait a second for
// the disk: with the default of 20 ms a busy machine would give some to nobody.
func (c *caller) decide(user, placement string) (*reply, error) {
	body := fmt.Appendf(nil, `{"user":{"user_id":%q},"placements":[{"key":"p","placement_id":%q}],`+
		`"timeout_us":1000000}`, user, placement)
	r := new(reply)
	if err := c.post("/v1/decide", body, r); err != nil {
		return nil, err
	}
	if r.DecisionID == "" || len(r.Placements) != 1 {
		return nil, fmt.Errorf("decide %s: no whole decision in the reply", user)
	}
	return r, nil
}

// each calls f for 0 … n-1 from `workers` goroutines, and stops at the first error.
func each(n, workers int, f func(i int) error) error {
	var next, failed atomic.Int64
	var once sync.Once
	var first error
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for failed.Load() == 0 {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					once.Do(func() { first = err })
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	return first
}
