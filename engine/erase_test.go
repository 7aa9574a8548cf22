package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"tact/storage"
)

func (b *bed) erase(doc EraseDoc) (Receipt, error) {
	b.t.Helper()
	batch := b.e.Begin()
	r, err := batch.Erase(&doc)
	if err := batch.Commit(5 * time.Second); err != nil {
		b.t.Fatal(err)
	}
	return r, err
}

func (b *bed) mustErase(id string) Receipt {
	b.t.Helper()
	r, err := b.erase(EraseDoc{UserID: []byte(id)})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// A person who is erased is a stranger: no profile, no caps, no request ids, no
// identities; outcomes of before are statistics; the id makes somebody new.
func TestEraseMakesAStranger(t *testing.T) {
	b := newBed(t, testDefinitions)
	email := []IdentityRef{{[]byte("email"), []byte("Ann@example.com")}}
	b.user(UserDoc{
		UserID: []byte("ann"), Identities: email, Attributes: []NamedValue{{[]byte("first_name"), text("Ann")}},
		Tags: []TagDoc{{Name: []byte("complaint_open")}},
	})
	event := EventDoc{
		UserID: []byte("ann"), EventID: []byte("e1"), Event: []byte("order_completed"), BodyHash: 5,
	}
	b.apply(func(x *Batch) LineResult { return x.Event(&event) })
	req := b.decideReq("ann", "hero")
	req.RequestID, req.BodyHash = []byte("r1"), 1
	b.want(req, "fallback: story")
	b.user(UserDoc{UserID: []byte("ann"), TagsRemove: [][]byte{[]byte("complaint_open")}})
	again := b.decideReq("ann", "hero")
	b.want(again, "coupon")
	token := bytes.Clone(b.out.Items[0].Token)
	if r := b.outcome(token, "impression", "o1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.want(again, "fallback: story") // capped
	before := b.statistics("coupon", "click")
	r := b.mustErase("ann")
	if r.Before || r.ID != b.e.store.ErasureHash(workspaceID, []byte("ann")) ||
		r.Removed[storage.HeldIdentities] != 1 || r.Removed[storage.HeldAttributes] != 1 ||
		r.Removed[storage.HeldEvents] != 2 || r.Removed[storage.HeldRequests] != 1 {
		t.Fatalf("%+v", r)
	}
	if _, err := b.e.User([]byte("ann")); !isMissing(err) {
		t.Fatalf("the person is told of: %v", err)
	}
	if id, _, err := b.e.resolveIdentities(b.e.snap.Load(), email, nil); id != nil || err != nil {
		t.Fatalf("the identity leads to %q, %v", id, err)
	}
	if r := b.outcome(token, "click", "o2"); r.Err != nil {
		t.Fatal(r.Err)
	}
	if got := b.statistics("coupon", "click"); got != before+1 {
		t.Fatalf("%d clicks, want %d", got, before+1)
	}
	if _, err := b.e.User([]byte("ann")); !isMissing(err) {
		t.Fatalf("the outcome has made a person: %v", err)
	}
	req.BodyHash = 2 // what was asked under that id is forgotten
	b.want(req, "coupon")
	if b.out.Replayed {
		t.Fatal("a decision of before was given again")
	}
	if r := b.apply(func(x *Batch) LineResult { return x.Event(&event) }); r.Status != LineApplied {
		t.Fatalf("an event of the stranger: %+v", r)
	}
	again2 := b.mustErase("ann")
	if again2.Before || again2.ID != r.ID || again2.Removed[storage.HeldEvents] != 1 {
		t.Fatalf("%+v", again2)
	}
	if last := b.mustErase("ann"); !last.Before || last.ErasedAt != again2.ErasedAt {
		t.Fatalf("%+v after %+v", last, again2)
	}
	b.afterErasure(again2)
}

// afterErasure purges, opens the store again and looks at the receipt.
func (b *bed) afterErasure(r Receipt) {
	b.t.Helper()
	if err := b.e.Purge(time.Minute); err != nil {
		b.t.Fatal(err)
	}
	if err := b.e.CheckStore(); err != nil {
		b.t.Fatal(err)
	}
	b.reopen()
	got, err := b.e.Receipt(r.ID)
	if err != nil || got.PurgedAt == 0 || got.Removed != r.Removed {
		b.t.Fatalf("%+v, %v", got, err)
	}
	if n := b.e.StoreStats(); n.People != 0 || n.Visitors != 0 {
		b.t.Fatalf("%d people, %d visitors", n.People, n.Visitors)
	}
	if err := b.e.CheckStore(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) statistics(offer, what string) uint64 {
	var n uint64
	for _, r := range b.e.Stats() {
		if r.OfferID == offer && r.What == what && r.Variant == "" {
			n += r.N
		}
	}
	return n
}

// Whoever was never there is said to be so, whatever names them; somebody known by an
// identity alone is erased by it.
func TestEraseNamesPeople(t *testing.T) {
	b := newBed(t, testDefinitions)
	device := []IdentityRef{{[]byte("device"), []byte("d1")}}
	for _, doc := range []EraseDoc{
		{UserID: []byte("nobody")},
		{Identities: device},
		{},
		{UserID: []byte("a\x00b")},
		{Identities: make([]IdentityRef, 17)},
	} {
		var p *Problem
		if _, err := b.erase(doc); !errors.As(err, &p) {
			t.Errorf("%+v: %v", doc, err)
		}
	}
	b.user(UserDoc{Identities: device, Attributes: []NamedValue{{[]byte("first_name"), text("Bo")}}})
	r, err := b.erase(EraseDoc{Identities: device})
	if err != nil || r.Removed[storage.HeldAttributes] != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	again, err := b.erase(EraseDoc{Identities: device})
	if err != nil || !again.Before || again.ID != r.ID {
		t.Fatalf("%+v, %v", again, err)
	}
	b.afterErasure(r)
}

// Erasures amid everything that may be under way for the same people: from the answer
// on nothing of before is told, whoever else writes meanwhile.
func TestEraseAmidWrites(t *testing.T) {
	b := newBed(t, testDefinitions)
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for i := range 4 {
		others.Go(func() { b.hammer(ctx, i) })
	}
	others.Go(func() {
		for ctx.Err() == nil {
			b.publish(testDefinitions)
		}
	})
	var owners sync.WaitGroup
	for i := range 3 {
		owners.Go(func() {
			for round := range 25 {
				if err := b.liveAndLeave(i, round); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	owners.Wait()
	stop()
	others.Wait()
	var last Receipt
	for i := range 3 {
		r, err := b.erase(EraseDoc{UserID: fmt.Appendf(nil, "p%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		last = r
	}
	for i := range 3 { // strangers that came by their identity alone
		_, err := b.erase(EraseDoc{Identities: emailOf(i)})
		if err != nil && !isMissing(err) {
			t.Fatal(err)
		}
	}
	b.afterErasure(last)
}

func emailOf(i int) []IdentityRef {
	return []IdentityRef{{[]byte("email"), fmt.Appendf(nil, "p%d@example.com", i)}}
}

// liveAndLeave writes a person, erases them, and looks whether anything is left.
func (b *bed) liveAndLeave(i, round int) error {
	id := fmt.Appendf(nil, "p%d", i)
	mark := fmt.Sprintf("mark-%d-%d", i, round)
	batch := b.e.Begin()
	doc := UserDoc{
		UserID: id, Identities: emailOf(i),
		Attributes: []NamedValue{{[]byte("first_name"), text(mark)}},
	}
	if r := batch.User(&doc); r.Err != nil {
		var p *Problem
		if !errors.As(r.Err, &p) || p.Code != "identity_conflict" {
			return r.Err
		}
	}
	if err := batch.Commit(5 * time.Second); err != nil {
		return err
	}
	if _, err := batch.Erase(&EraseDoc{UserID: id}); err != nil && !isMissing(err) {
		return err
	}
	if err := batch.Commit(5 * time.Second); err != nil {
		return err
	}
	if v, err := b.e.User(id); err == nil && len(v.Attributes)+len(v.Identities) > 0 {
		return fmt.Errorf("%s is there after the erasure: %+v", mark, v)
	}
	owner, _, err := b.e.resolveIdentities(b.e.snap.Load(), emailOf(i), nil)
	if err != nil || bytes.Equal(owner, id) {
		return fmt.Errorf("%s: the identity leads to %q, %v", mark, owner, err)
	}
	return nil
}

// hammer sends what names the people by id and by identity.
func (b *bed) hammer(ctx context.Context, seed int) {
	var out Decision
	batch := b.e.Begin()
	for n := 0; ctx.Err() == nil; n++ {
		who := n % 3
		id := fmt.Appendf(nil, "p%d", who)
		event := EventDoc{
			EventID: fmt.Appendf(nil, "%d-%d", seed, n), Event: []byte("order_completed"), UserID: id,
		}
		req := b.decideReq(string(id), "hero")
		if n%2 == seed%2 {
			event.UserID, event.Identities = nil, emailOf(who)
			req.UserID, req.Identities = nil, emailOf(who)
		}
		batch.Event(&event)
		if err := b.e.Decide(req, &out); err == nil && len(out.Items) > 0 {
			batch.Outcome(&OutcomeDoc{
				Token: bytes.Clone(out.Items[0].Token), Outcome: []byte("impression"), EventID: event.EventID,
			})
		}
		batch.SegmentMembers([]byte("vip"), [][]byte{id}, nil)
		if err := batch.Commit(5 * time.Second); err != nil {
			b.t.Error(err)
			return
		}
	}
}
