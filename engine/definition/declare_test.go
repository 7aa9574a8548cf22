package definition

import (
	"strings"
	"testing"
)

// What rules name and nobody defines is declared once, with the type that the
// comparisons tell, and reads back without a fault.
func TestDeclare(t *testing.T) {
	const rules = `
kind: attribute
id: known
type: int
---
kind: tag
id: there
formerly: [was]
---
kind: segment
id: s
rule:
  all:
    - {attribute: known, gte: 1}
    - {attribute: age, gte: 18, lt: 65.5}
    - {attribute: 生日, years_since: {gte: 18}}
    - {attribute: joined, after: "2026-01-01T00:00:00Z"}
    - {attribute: "true", is_set: true}
    - {attribute: app, is: false}
    - {not: {tag: there}}
    - {tag: was}
    - {tag: city, in: [north, south]}
    - {tag: city, is_not: west}
    - {tag: vip}
    - {event: "*"}
    - {event: visit, count: {gte: 2}}
    - {event: order, sum: {gte: 9}, of: "items[].price", where: [{property: new, is: true}, {property: n, gt: 2}]}
    - {sequence: [{event: visit}, {event: pay, where: [{property: by, in: [card]}]}], within: 1d}
---
kind: test
id: t
at: "2026-01-01T00:00:00Z"
user: {id: u, attributes: {ignored: 1}}
decide: {placement: p}
expect: {}
`
	set, _ := Load([]File{{Name: "f.yaml", Content: []byte(rules)}})
	got := string(Declare(set))
	want := `kind: attribute
id: "age"
type: float
---
kind: attribute
id: "app"
type: bool
---
kind: attribute
id: "joined"
type: time
---
kind: attribute
id: "true"
type: string
---
kind: attribute
id: "生日"
type: date
---
kind: tag
id: "city"
values: ["north", "south", "west"]
---
kind: tag
id: "vip"
---
kind: event
id: "order"
properties:
  "items[].price": {type: float, indexed: true}
  "n": {type: int, indexed: true}
  "new": {type: bool, indexed: true}
---
kind: event
id: "pay"
properties:
  "by": {type: string, indexed: true}
---
kind: event
id: "visit"
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text := rules[:strings.Index(rules, "---\nkind: test")] + "---\n" + got
	set, faults := Load([]File{{Name: "f.yaml", Content: []byte(text)}})
	if len(faults) > 0 || len(Declare(set)) > 0 {
		t.Errorf("%v, %s", faults, Declare(set))
	}
}
