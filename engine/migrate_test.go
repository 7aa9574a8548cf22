package engine

import (
	"fmt"
	"strings"
	"testing"
)

const migrateDefinitions = `
kind: attribute
id: age
type: string
---
kind: offer
message_class: marketing
id: adult
eligibility: {attribute: age, is: "18"}
treatments: [{id: w, channel: web, content: {type: json, body: {title: x}}}]
---
kind: placement
sticky: none
id: hero
channel: web
policy: p
---
kind: decision_policy
id: p
candidates: {offers: all}
ranking: {by: order, offers: [adult]}
`

// A changed type is refused, unless the document says what becomes of the values;
// the reply says how many are lost, and a sweep, across a restart, casts the others.
func TestMigrate(t *testing.T) {
	b := newBed(t, migrateDefinitions)
	for i := range 200 {
		value := fmt.Sprint(18 + i%3)
		if i%10 == 0 {
			value = "old"
		}
		b.user(UserDoc{
			UserID:     fmt.Appendf(nil, "u%d", i),
			Attributes: []NamedValue{{[]byte("age"), text(value)}},
		})
	}
	to := func(migrate string) string {
		return strings.NewReplacer("type: string", "type: int"+migrate, `is: "18"`, "gte: 18").
			Replace(migrateDefinitions)
	}
	_, faults, _, _ := b.e.Publish(testFiles(to("")), "test", "", 0)
	if len(faults) != 1 || faults[0].Message !=
		"the type changes from string to int: say migrate: cast or migrate: drop" {
		t.Fatalf("%v", faults)
	}
	b.want(b.decideReq("u3", "hero"), "adult")
	view := b.publish(to("\nmigrate: cast"))
	if fmt.Sprint(view.Migrations) != "[{age string int 180 20}]" {
		t.Fatalf("%+v", view.Migrations)
	}
	b.e.sweepTypes()
	b.want(b.decideReq("u3", "hero"), "adult")
	b.want(b.decideReq("u10", "hero"), "none: ineligible")
	b.reopen()
	b.e.sweepTypes()
	b.want(b.decideReq("u199", "hero"), "adult")
	v, err := b.e.User([]byte("u10"))
	if err != nil || len(v.Attributes) != 0 {
		t.Errorf("%+v, %v", v.Attributes, err)
	}
	view = b.publish(strings.Replace(to("\nmigrate: drop"), "type: int", "type: bool", 1)[:0] +
		strings.NewReplacer("type: string", "type: date\nmigrate: drop", `is: "18"`, "is_set: true").
			Replace(migrateDefinitions))
	if fmt.Sprint(view.Migrations) != "[{age int date 0 180}]" {
		t.Fatalf("%+v", view.Migrations)
	}
	b.e.sweepTypes()
	if v, err := b.e.User([]byte("u3")); err != nil || len(v.Attributes) != 0 {
		t.Errorf("%+v, %v", v.Attributes, err)
	}
	if err := b.e.store.Check(); err != nil {
		t.Error(err)
	}
}
