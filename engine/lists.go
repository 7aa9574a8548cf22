package engine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"tact/engine/definition"
	"tact/storage"
)

// ListKind says what a hash of a suppression list stands for. The number is
// part of the hash; it never changes.
type ListKind uint8

// What lists hold: user ids, and the addresses that channels send to.
const (
	ListUser ListKind = iota + 1
	ListEmail
	ListPhone
	ListPush
	ListWechat
	ListWecom
)

// ListKindNames are the kinds as callers write them, ListUser the first.
func ListKindNames() []string {
	return []string{"user", "email", "phone", "push", "wechat", "wecom"}
}

// ListKindByName finds a kind by its name.
func ListKindByName(name []byte) (ListKind, bool) {
	for i, n := range ListKindNames() {
		if string(name) == n {
			return ListKind(i + 1), true
		}
	}
	return 0, false
}

// blocks is the set of channels a listed value of a kind blocks, bit per
// channel: of a user id every channel that reaches out, of an address those
// that send to it.
func (k ListKind) blocks() uint16 {
	switch k {
	case ListUser:
		all := uint16(1<<definition.ChannelCount - 1)
		return all &^ (1<<definition.ChannelWeb | 1<<definition.ChannelInApp)
	case ListEmail:
		return 1 << definition.ChannelEmail
	case ListPhone:
		return 1<<definition.ChannelSMS | 1<<definition.ChannelCall
	case ListPush:
		return 1 << definition.ChannelPush
	case ListWechat:
		return 1 << definition.ChannelWechat
	case ListWecom:
		return 1 << definition.ChannelWecom
	}
	return 0
}

// listKindOf is the kind of an address of a channel; 0 for pages.
func listKindOf(ch definition.Channel) ListKind {
	switch ch {
	case definition.ChannelEmail:
		return ListEmail
	case definition.ChannelSMS, definition.ChannelCall:
		return ListPhone
	case definition.ChannelPush:
		return ListPush
	case definition.ChannelWechat:
		return ListWechat
	case definition.ChannelWecom:
		return ListWecom
	}
	return 0
}

// ListDigest is SHA-256 of a normalised value: what the two sides of a list must
// agree on. An e-mail address is taken without spaces around it and in lower
// case (ASCII); a phone number as its digits, with + before an international
// one, written with + or 00; all else as it stands.
//
// It does not allocate for values of at most 512 bytes.
func ListDigest(kind ListKind, value []byte) [32]byte {
	var room [storage.MaxText]byte
	switch kind {
	case ListEmail:
		out := room[:0]
		for _, c := range bytes.TrimSpace(value) {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			out = append(out, c)
		}
		return sha256.Sum256(out)
	case ListPhone:
		return sha256.Sum256(appendPhone(room[:0], value))
	}
	return sha256.Sum256(value)
}

// appendPhone appends the digits of a phone number, with + before those of an
// international one.
func appendPhone(dst, value []byte) []byte {
	for _, c := range value {
		switch {
		case '0' <= c && c <= '9':
			dst = append(dst, c)
		case c == '+' && len(dst) == 0:
			dst = append(dst, c)
		}
	}
	if len(dst) > 2 && dst[0] == '0' && dst[1] == '0' {
		dst[1] = '+'
		copy(dst, dst[1:])
		dst = dst[:len(dst)-1]
	}
	return dst
}

// ListEntry is one entry to add to a list or to remove from it.
type ListEntry struct {
	Kind   ListKind
	Digest [32]byte // see ListDigest
	Remove bool
}

// ListEdited says what an edit of a list came to.
type ListEdited struct{ Added, Removed int }

// MaxListEntries is the largest number of entries of one EditList.
const MaxListEntries = storage.MaxListEdit

// EditList adds entries to a list and removes others; of one value the last
// entry counts. It returns when that is durable: no decision that begins
// afterwards ignores it. The same call may be made again.
//
// Errors: *Problem for a list name that cannot be one, more than
// storage.MaxLists lists or MaxListEntries entries, a full or late disk.
func (e *Engine) EditList(name []byte, entries []ListEntry) (ListEdited, error) {
	if !definition.IsID(string(name)) {
		return ListEdited{}, invalid("invalid_list", "id",
			"a list is named by a-z, 0-9, _ and -, at most 64, starting with a letter or digit")
	}
	list, err := e.store.Intern(storage.DictList, string(name))
	if err != nil {
		return ListEdited{}, storeProblem(err)
	}
	edit := storage.ListEdit{List: list}
	last := make(map[[16]byte]bool, len(entries))
	for i := range entries {
		last[e.store.ListHash(uint8(entries[i].Kind), &entries[i].Digest)] = entries[i].Remove
	}
	for hash, remove := range last {
		if remove {
			edit.Remove = append(edit.Remove, hash)
		} else {
			edit.Add = append(edit.Add, hash)
		}
	}
	done, err := e.store.EditList(&edit)
	if errors.Is(err, storage.ErrLimit) {
		return ListEdited{}, invalid("limit", "id", strings.TrimPrefix(err.Error(),
			storage.ErrLimit.Error()+": "))
	}
	if err != nil {
		return ListEdited{}, storeProblem(fmt.Errorf("list %s: %w", name, err))
	}
	return ListEdited(done), nil
}

// ListView is one suppression list as it stands.
type ListView struct {
	ID      string
	Entries int
	Bytes   int64 // resident
}

// Lists returns every suppression list, in the order in which they were made.
func (e *Engine) Lists() []ListView {
	var out []ListView
	for _, l := range e.store.ListSizes() {
		out = append(out, ListView{e.store.NameOf(storage.DictList, l.List), l.Entries, l.Bytes})
	}
	return out
}

// listed returns the channels that lists block for the person of w, bit per
// channel. What was looked up is kept with the row until a list or the person's
// profile changes. The group is locked.
//
// Cost: two words of memory; after a change of a list 0.2 to 0.5 µs for the id
// and for each address.
func (e *Engine) listed(w *decideWork) uint16 {
	epoch := e.store.ListEpoch()
	if epoch == 0 || len(w.id) == 0 {
		return 0
	}
	if w.known {
		if kept := w.group.Listing(w.ord); kept.Epoch == epoch {
			return kept.Blocked
		}
	}
	blocked := uint16(0)
	check := func(kind ListKind, value []byte) {
		digest := ListDigest(kind, value)
		if e.store.Listed(e.store.ListHash(uint8(kind), &digest)) {
			blocked |= kind.blocks()
		}
	}
	check(ListUser, w.id)
	if w.known {
		w.person.Profile.EachAddress(func(channel uint8, value []byte) bool {
			kind := listKindOf(definition.Channel(channel))
			if kind != 0 && kind.blocks()&^blocked&(1<<channel) != 0 {
				check(kind, value)
			}
			return true
		})
		w.group.SetListing(w.ord, storage.Listing{Epoch: epoch, Blocked: blocked})
	}
	return blocked
}

// ListedView is one entry of a list that stands for a person.
type ListedView struct {
	List     string
	Kind     string
	Channels []string
}

// viewLists says which lists hold the person's id or an address. The group is
// locked.
func (e *Engine) viewLists(v *UserView, p storage.Profile) {
	if e.store.ListEpoch() == 0 {
		return
	}
	seen := map[listedKey]bool{}
	check := func(kind ListKind, value []byte) {
		digest := ListDigest(kind, value)
		e.store.EachListed(e.store.ListHash(uint8(kind), &digest), func(list storage.Name) {
			if key := (listedKey{list, kind}); !seen[key] {
				seen[key] = true
				v.Listed = append(v.Listed, ListedView{
					e.store.NameOf(storage.DictList, list), ListKindNames()[kind-1],
					channelNames(kind.blocks()),
				})
			}
		})
	}
	check(ListUser, []byte(v.UserID))
	p.EachAddress(func(channel uint8, value []byte) bool {
		if kind := listKindOf(definition.Channel(channel)); kind != 0 {
			check(kind, value)
		}
		return true
	})
}

// listedKey is what makes two entries of a view one.
type listedKey struct {
	list storage.Name
	kind ListKind
}

func channelNames(set uint16) []string {
	var out []string
	for ch := range definition.ChannelCount {
		if set&(1<<ch) != 0 {
			out = append(out, ch.String())
		}
	}
	return out
}
