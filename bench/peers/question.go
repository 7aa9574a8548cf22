package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// person is what the question reads of somebody.
type person struct {
	Country string `json:"country"`
	Orders  int    `json:"orders"`
}

// wins says who gets the coupon: the rule that every server states in its own words.
func (p person) wins() bool { return p.Country == "CN" && p.Orders >= 2 }

// population makes n people, the same ones every time; about three in ten win.
func population(n int) []person {
	random := rand.New(rand.NewPCG(11, 7))
	people := make([]person, n)
	for i := range people {
		people[i] = person{[]string{"CN", "DE"}[random.IntN(2)], random.IntN(5)}
	}
	return people
}

func userID(i int) string { return fmt.Sprintf("u%d", i+1) }

// definitions states the question for tact.
const definitions = `
kind: workspace
id: default
timezone: UTC
undeclared: reject
---
kind: attribute
id: country
type: string
---
kind: attribute
id: orders
type: int
---
kind: offer
id: coupon_a
group: coupon
message_class: marketing
eligibility: {all: [{attribute: country, is: CN}, {attribute: orders, gte: 2}]}
treatments: [{id: web, channel: web, placements: [hero], content: {type: json, body: {version: a}}}]
---
kind: offer
id: coupon_b
group: coupon
message_class: marketing
eligibility: {all: [{attribute: country, is: CN}, {attribute: orders, gte: 2}]}
treatments: [{id: web, channel: web, placements: [hero], content: {type: json, body: {version: b}}}]
---
kind: decision_policy
id: coupon
candidates: {offers: {groups: [coupon]}}
ranking: {by: order, offers: [coupon_a, coupon_b]}
---
kind: placement
id: hero
channel: web
policy: coupon
---
kind: cap
id: coupon_an_hour
scope: person
per: all
applies_to: {offers: {groups: [coupon]}}
count_on: decision
window: {rolling: 1h}
limit: 60
---
kind: layer
id: coupon
---
kind: experiment
id: version
layer: coupon
range: [0%, 100%]
variants:
  - {id: a, weight: 1, set: {offers: {coupon_b: false}}}
  - {id: b, weight: 1, set: {offers: {coupon_a: false}}}
`

// policy states it for Open Policy Agent, without the limit.
const policy = `package offer

default decision := {"offer": null, "reason": "not_eligible"}

decision := {"offer": "coupon", "version": version} if {
	person := data.people[input.user]
	person.country == "CN"
	person.orders >= 2
}

version := "a" if {
	contains("01234567", substring(crypto.sha1(input.user), 0, 1))
} else := "b"
`

// script states it for Redis. KEYS: the profile and the count.
const script = `
local p = redis.call('HMGET', KEYS[1], 'country', 'orders')
if p[1] ~= 'CN' or tonumber(p[2]) < 2 then return 'not_eligible' end
local n = redis.call('INCR', KEYS[2])
if n == 1 then redis.call('EXPIRE', KEYS[2], 3600) end
if n > 60 then redis.call('DECR', KEYS[2]) return 'capped' end
if string.sub(redis.sha1hex(ARGV[1]), 1, 1) < '8' then return 'a' end
return 'b'
`

// asking is how one server hears the question.
type asking struct {
	path string
	body func(user string) string
	wins string // what a reply holds when the person gets the coupon
}

func askTact() asking {
	return asking{"/v1/decide", func(user string) string {
		return `{"user":{"user_id":"` + user + `"},"placements":[{"key":"p","placement_id":"hero"}],` +
			`"timeout_us":1000000}`
	}, `"offer_id":"coupon_`}
}

func askOPA() asking {
	return asking{"/v1/data/offer/decision", func(user string) string {
		return `{"input":{"user":"` + user + `"}}`
	}, `"offer":"coupon"`}
}

func askRedis() asking {
	return asking{"/decide", func(user string) string {
		return `{"user":"` + user + `"}`
	}, `"offer":"coupon"`}
}

// recordedRequests is how many requests of one log the load repeats.
const recordedRequests = 50_000

// record writes the requests of a load as a log that package loadtest repeats.
func (a asking) record(folder, name string, users int) (file string, err error) {
	random := rand.New(rand.NewPCG(5, 5))
	var b bytes.Buffer
	for range min(recordedRequests, 4*users) {
		line, err := json.Marshal(map[string]any{
			"method": "POST", "path": a.path,
			"body": json.RawMessage(a.body(userID(random.IntN(users)))),
		})
		if err != nil {
			return "", err
		}
		b.Write(append(line, '\n'))
	}
	file = filepath.Join(folder, strings.ReplaceAll(name, " ", "-")+".ndjson")
	return file, os.WriteFile(file, b.Bytes(), 0o600)
}
