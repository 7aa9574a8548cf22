package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"tact/storage"
)

// EraseDoc names one person to be erased: by user id, or by identities that lead to
// them.
type EraseDoc struct {
	UserID     []byte
	Identities []IdentityRef
}

// Receipt says that a person was erased. It names nobody: ID is a keyed hash of the
// canonical id.
type Receipt struct {
	ID       [16]byte
	ErasedAt storage.UnixMsec
	// PurgedAt is since when no file of the store holds what is needed to read what
	// else lies there of the person; 0 = not yet.
	PurgedAt storage.UnixMsec
	// Removed counts what was held, by ErasedKinds.
	Removed storage.Holdings
	// Logged counts what the log held, when PurgedAt is set.
	Logged storage.LogHoldings
	// Before: there was nobody of that id; the receipt is of an erasure before.
	Before bool
}

// ErasedKinds names the counts of a Receipt, in their order.
func ErasedKinds() [storage.HoldingKinds]string {
	return [...]string{
		storage.HeldIdentities: "identities", storage.HeldAttributes: "attributes",
		storage.HeldAddresses: "addresses", storage.HeldTags: "tags",
		storage.HeldSegments: "segments", storage.HeldTracked: "tracked_segments",
		storage.HeldConsents: "consents", storage.HeldEvents: "events",
		storage.HeldSums: "event_sums", storage.HeldReservations: "reservations",
		storage.HeldUses: "cap_counters", storage.HeldRequests: "request_ids",
	}
}

// Erase erases one person: from its return on nobody is told anything of them, and
// their id, if it comes again, is that of a stranger. It is durable after Commit. One
// of an id that is not there gives the receipt of its last erasure, or a ProblemMissing
// when there was none. What cannot be done changes nothing.
//
// Totals of caps and budgets, statistics and the suppression lists stay: see
// docs/storage.md.
func (b *Batch) Erase(doc *EraseDoc) (Receipt, error) {
	if len(doc.Identities) > maxIdentities {
		return Receipt{}, invalid("limit", "identities", "at most 16")
	}
	id, done, err := b.eraseOnce(doc)
	if err != nil {
		return Receipt{}, err
	}
	if done.Person != 0 {
		return receiptOf(&done), nil
	}
	// Who erased them may still wait for it.
	g := b.e.store.GroupOf(b.e.store.SlotOf(workspaceID, id)).GroupID()
	if err := b.e.store.Wait(g, b.frames[g], 0); err != nil {
		return Receipt{}, storeProblem(err)
	}
	r, err := b.e.Receipt(b.e.store.ErasureHash(workspaceID, id))
	if err == nil {
		r.Before = true
		return *r, nil
	}
	if isMissing(err) {
		return Receipt{}, &Problem{
			Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
			Detail: "there is nobody of that id, and nobody was erased",
		}
	}
	return Receipt{}, err
}

// eraseOnce erases whoever is named. done.Person is 0 when nobody is there.
func (b *Batch) eraseOnce(doc *EraseDoc) (id []byte, done storage.Erasure, err error) {
	b.e.erasing.Lock()
	defer b.e.erasing.Unlock()
	if id, err = b.owner(doc.UserID, doc.Identities); err != nil {
		return id, done, err
	}
	b.e.store.Together(func() { done, err = b.eraseNow(id) })
	return id, done, err
}

// eraseNow appends the erasure of a person and takes out the identities that point at
// them.
func (b *Batch) eraseNow(id []byte) (done storage.Erasure, err error) {
	e := b.e
	g := e.store.GroupOf(e.store.SlotOf(workspaceID, id))
	g.Lock()
	ord, ok := g.Find(workspaceID, e.store.IndexHash(workspaceID, id), id)
	if !ok {
		b.frames[g.GroupID()] = max(b.frames[g.GroupID()], g.LastFrame())
		g.Unlock()
		return done, nil
	}
	b.claims = b.claims[:0]
	g.Profile(ord).EachIdentity(func(i storage.Identity) bool {
		hash := e.store.IdentityHash(workspaceID, i.Type, i.Value)
		b.claims = append(b.claims, claim{hash: hash, slot: storage.IdentitySlot(hash)})
		return true
	})
	ref := storage.PersonRef{Group: g.GroupID(), Ord: ord, Person: g.Row(ord).Person}
	visitor := g.Row(ord).Flags&storage.RowVisitor != 0
	e.erasures.Add(1)
	done, frame, err := g.Erase(ord, e.clock.Now(), b.snap.Revision)
	g.Unlock()
	if err != nil {
		return storage.Erasure{}, storeProblem(err)
	}
	b.frames[ref.Group] = frame
	if visitor {
		e.visitors.Add(-1)
	}
	for i := range b.claims {
		if err := b.dropClaim(&b.claims[i], ref); err != nil {
			// It points at nobody, which is never followed.
			e.log.Debug("an identity of nobody stays", "err", err)
		}
	}
	return done, nil
}

// dropClaim takes out an identity that points at a person.
func (b *Batch) dropClaim(c *claim, ref storage.PersonRef) error {
	g := b.e.store.GroupOf(c.slot)
	g.Lock()
	defer g.Unlock()
	if at, ok := g.FindIdentity(c.hash); !ok || at != ref {
		return nil
	}
	b.stamp(storage.EffectClaim, storage.NoOrd)
	b.effect.Claim = storage.ClaimEffect{Workspace: workspaceID, Slot: c.slot, Hash: c.hash}
	return b.append(g)
}

func receiptOf(e *storage.Erasure) Receipt {
	return Receipt{
		ID: e.Hash, ErasedAt: e.At, PurgedAt: e.Purged, Removed: e.Held, Logged: e.Logged,
	}
}

func userNotFound(id []byte) *Problem {
	return &Problem{
		Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
		Detail: fmt.Sprintf("no user %q", id),
	}
}

func isMissing(err error) bool {
	p, ok := err.(*Problem)
	return ok && p.Class == ProblemMissing
}

// Receipt returns the receipt of the last durable erasure of an id, by its keyed hash;
// a ProblemMissing when there was none.
func (e *Engine) Receipt(hash [16]byte) (*Receipt, error) {
	var out *Receipt
	err := e.store.ErasuresOf(hash, func(at storage.Erasure) bool {
		if out == nil || at.At >= out.ErasedAt {
			r := receiptOf(&at)
			out = &r
		}
		return true
	})
	if err != nil {
		return nil, storeProblem(err)
	}
	if out == nil {
		return nil, &Problem{
			Class: ProblemMissing, Code: "unknown_receipt", Field: "receipt",
			Detail: "nobody of that receipt was erased here",
		}
	}
	return out, nil
}

// ErasedPerson is an entry of the ledger of erasures: the receipt, and by numbers whom it
// is of. Numbers mean nothing outside of the store and its copies.
type ErasedPerson struct {
	Receipt
	Workspace storage.WorkspaceID
	Slot      storage.Slot
	Person    storage.PersonID

	entry storage.Erasure
}

// Erasures calls f for every person of the ledger of erasures behind last, nil: from
// its beginning, until f returns false. The order is that of the receipts.
func (e *Engine) Erasures(last *ErasedPerson, f func(*ErasedPerson) bool) error {
	var p ErasedPerson
	each := func(x storage.Erasure) bool {
		p = ErasedPerson{receiptOf(&x), x.Workspace, x.Slot, x.Person, x}
		return f(&p)
	}
	if last == nil {
		return storeProblem(e.store.Erasures(each))
	}
	return storeProblem(e.store.ErasuresBehind(&last.entry, each))
}

// NamesGone returns the keys of names that went with the last person who had them, as
// copies of the store know them: sources and text versions of consents.
func (e *Engine) NamesGone() ([][]byte, error) {
	keys, err := e.store.NamesGone()
	return keys, storeProblem(err)
}

// StoreID returns the id of the store, which its copies and backups share.
func (e *Engine) StoreID() [16]byte { return e.store.StoreID() }

// ReceiptID reads a receipt's id as it is written: 32 hexadecimal digits.
func ReceiptID(text []byte) (id [16]byte, err error) {
	n, err := hex.Decode(id[:], text[:min(len(text), 2*len(id))])
	if err != nil || n != len(id) || len(text) != 2*len(id) {
		return id, invalid("bad_id", "receipt", "want 32 hexadecimal digits")
	}
	return id, nil
}

// Purge waits until no file of the store, and no backup in Options.BackupDir, holds
// what is needed to read what is left of anybody whose erasure is durable, at most so
// long: a ProblemBusy then.
func (e *Engine) Purge(wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	err := e.store.Purge(ctx)
	damaged := Damaged(err)
	if (err == nil || damaged != nil) && e.opts.BackupDir != "" {
		_, fault := e.forgetInBackups(ctx)
		err = errors.Join(err, fault)
	}
	if damaged != nil {
		damaged.Detail = "the keys of erased people are thrown away, and nobody is told anything " +
			"of them, but damage keeps their bytes from being taken off the disk: " +
			storage.DamageText(err) + "; see: tact doctor"
		return damaged
	}
	if ctx.Err() != nil {
		return &Problem{
			Class: ProblemBusy, Code: "purge_under_way", RetryAfter: 1,
			Detail: "the keys of erased people are not off the disk yet; ask again",
		}
	}
	return storeProblem(err)
}
