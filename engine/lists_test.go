package engine

import (
	"fmt"
	"testing"
	"time"

	"tact/storage"
)

// listBed is an engine with an offer of each message class on a page and on
// every channel that reaches out, so that a decision shows who gets what.
func listBed(t *testing.T) *Engine {
	t.Helper()
	channels := []string{"web", "sms", "email", "call", "push", "wechat", "wecom"}
	text := "kind: workspace\nid: default\nconsent_required: []\n---\n" +
		"kind: decision_policy\nid: all\nranking: {by: product}\n"
	for i, class := range []string{"marketing", "transactional", "mandatory"} {
		text += fmt.Sprintf("---\nkind: offer\nid: %s\nmessage_class: %s\nvalue: %d\ntreatments:\n",
			class, class, 9-i)
		for _, ch := range channels {
			text += fmt.Sprintf("  - {id: %s, channel: %s, content: {type: text, body: x}}\n", ch, ch)
		}
	}
	for _, ch := range channels {
		text += fmt.Sprintf("---\nkind: placement\nsticky: none\nid: p_%s\nchannel: %s\npolicy: all\n", ch, ch)
	}
	e, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, faults, _, err := e.Publish(testFiles(text), "t", "", 0); err != nil || len(faults) > 0 {
		t.Fatal(faults, err)
	}
	return e
}

// A list binds what the blacklist binds: marketing and transactional, on the
// channels of the value; mandatory messages pass. It is seen by the decision
// that begins after the call, for people known and unknown, through later
// addresses and removal.
func TestListedPeople(t *testing.T) {
	e := listBed(t)
	var out Decision
	f := func(user, channel, want string) {
		t.Helper()
		err := e.Decide(&DecideRequest{
			UserID:     []byte(user),
			Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte("p_" + channel)}},
		}, &out)
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case out.Slots[0].Count == 0:
			got = out.Slots[0].Reason
		default:
			got = out.Items[0].OfferID
		}
		if got != want {
			t.Errorf("%s on %s: %s, want %s", user, channel, got, want)
		}
	}
	put := func(user string, addresses ...string) {
		t.Helper()
		doc := UserDoc{UserID: []byte(user)}
		for i := 0; i < len(addresses); i += 2 {
			doc.Addresses = append(doc.Addresses, AddressDoc{
				Channel: []byte(addresses[i]), Values: [][]byte{[]byte(addresses[i+1])},
			})
		}
		b := e.Begin()
		if res := b.User(&doc); res.Err != nil {
			t.Fatal(res.Err)
		}
		if err := b.Commit(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(kind ListKind, value string, remove bool) {
		t.Helper()
		_, err := e.EditList([]byte("unsubscribed"), []ListEntry{{
			Kind: kind, Digest: ListDigest(kind, []byte(value)), Remove: remove,
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("ann", "email", "Ann@Example.com", "sms", "+86 138 0000 0000", "call", "008613800000000")
	for _, ch := range []string{"web", "sms", "email", "call"} {
		f("ann", ch, "marketing")
	}
	edit(ListEmail, "ann@example.com ", false)
	f("ann", "email", "mandatory")
	f("ann", "sms", "marketing")
	edit(ListPhone, "+8613800000000", false)
	f("ann", "sms", "mandatory")
	f("ann", "call", "mandatory")
	f("ann", "web", "marketing")
	edit(ListEmail, "ann@example.com", true)
	f("ann", "email", "marketing")
	// A listed address that somebody takes on later, and gives up again.
	put("bob", "sms", "+1 555")
	f("bob", "sms", "marketing")
	put("bob", "sms", "+86-13800000000")
	f("bob", "sms", "mandatory")
	put("bob", "sms", "+1555")
	f("bob", "sms", "marketing")
	// A user: every channel that reaches out, no page; known or not.
	edit(ListUser, "cid", false)
	f("cid", "web", "marketing")
	f("cid", "push", "no_treatment") // nobody knows an address
	put("cid", "push", "t", "wechat", "w", "wecom", "c", "email", "c@example.com")
	for _, ch := range []string{"push", "wechat", "wecom", "email"} {
		f("cid", ch, "mandatory")
	}
	f("cid", "web", "marketing")
	// A value is of its kind: a push token that is somebody's e-mail address.
	put("dan", "push", "x@example.com", "wechat", "x@example.com")
	edit(ListEmail, "x@example.com", false)
	f("dan", "push", "marketing")
	edit(ListWechat, "x@example.com", false)
	f("dan", "wechat", "mandatory")
	f("dan", "push", "marketing")
}

func TestListDigest(t *testing.T) {
	f := func(kind ListKind, a, b string, same bool) {
		t.Helper()
		if got := ListDigest(kind, []byte(a)) == ListDigest(kind, []byte(b)); got != same {
			t.Errorf("%d: %q and %q are the same: %t", kind, a, b, got)
		}
	}
	f(ListEmail, "A.b+c@EXAMPLE.com\t", " a.b+c@example.COM", true)
	f(ListEmail, "é@example.com", "É@example.com", false)
	f(ListPhone, "+86 (138) 0000-0000", "008613800000000", true)
	f(ListPhone, "138 0000 0000", "13800000000", true)
	f(ListPhone, "+138", "138", false)
	f(ListPhone, "1+38", "138", true)
	f(ListPush, "Token", "token", false)
	f(ListUser, " u", "u", false)
}

// A decision about a person whom lists may hold allocates nothing, and after an
// edit looks the person up once.
func TestListedAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := listBed(t)
	b := e.Begin()
	doc := UserDoc{UserID: []byte("ann"), Addresses: []AddressDoc{
		{Channel: []byte("email"), Values: [][]byte{[]byte("ann@example.com")}},
		{Channel: []byte("sms"), Values: [][]byte{[]byte("+86 138 0000 0000")}},
	}}
	if res := b.User(&doc); res.Err != nil {
		t.Fatal(res.Err)
	}
	if err := b.Commit(time.Minute); err != nil {
		t.Fatal(err)
	}
	var entries []ListEntry
	for i := range 5000 {
		value := fmt.Appendf(nil, "%d@example.com", i)
		entries = append(entries, ListEntry{Kind: ListEmail, Digest: ListDigest(ListEmail, value)})
	}
	if _, err := e.EditList([]byte("a"), entries); err != nil {
		t.Fatal(err)
	}
	var out Decision
	w := &out.work
	w.group = e.store.GroupOf(e.store.SlotOf(workspaceID, doc.UserID))
	w.group.Lock()
	defer w.group.Unlock()
	w.id = append(w.id, doc.UserID...)
	w.ord, w.known = w.group.Find(workspaceID, e.store.IndexHash(workspaceID, w.id), w.id)
	w.person.Profile = w.group.Profile(w.ord)
	for _, fresh := range []bool{true, false} {
		n := testing.AllocsPerRun(100, func() {
			if fresh {
				w.group.SetListing(w.ord, storage.Listing{})
			}
			e.listed(w)
		})
		if n != 0 {
			t.Errorf("fresh %t: %v allocations", fresh, n)
		}
	}
}

func BenchmarkListed(b *testing.B) {
	value := []byte("+86 138 0000 0000")
	b.ReportAllocs()
	for b.Loop() {
		ListDigest(ListPhone, value)
	}
}
