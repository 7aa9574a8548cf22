package wire

import (
	"encoding/hex"
	"strconv"

	"tact/engine"
)

// MaxErased is the largest number of people of one POST /v1/users:erase.
const MaxErased = 1000

// Erase reads {"users": [{"user_id": …} | {"identities": […]}]}. The documents borrow
// from src.
func (d *Decoder) Erase(src []byte) ([]engine.EraseDoc, *Fault) {
	r := &d.r
	r.reset(src)
	var docs []engine.EraseDoc
	var o object
	r.object(&o)
	for r.member(&o) {
		if string(o.key) != "users" {
			r.unknown()
			continue
		}
		docs = make([]engine.EraseDoc, 0, 16)
		r.list()
		for r.element() {
			if len(docs) == MaxErased {
				r.fail(CodeInvalidValue, "at most "+strconv.Itoa(MaxErased)+" a request")
				break
			}
			docs = append(docs, r.eraseDoc())
		}
	}
	if docs == nil {
		r.missing("users")
	}
	return docs, r.finish()
}

func (r *reader) eraseDoc() (doc engine.EraseDoc) {
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "user_id":
			doc.UserID = r.filled()
		case "identities":
			doc.Identities = r.identities(nil)
		default:
			r.unknown()
		}
	}
	if (doc.UserID == nil) == (len(doc.Identities) == 0) {
		r.failIn("user_id", CodeInvalidValue, "one of user_id and identities")
	}
	return doc
}

// Erased is the answer to one person of POST /v1/users:erase: a receipt or an error.
type Erased struct {
	Receipt engine.Receipt
	Err     *LineError
}

// AppendErased appends the reply of POST /v1/users:erase.
func AppendErased(dst []byte, all []Erased) []byte {
	w := append(writer(dst), '{')
	objects(&w, "receipts", all, func(e *Erased) {
		if e.Err != nil {
			w.lineError(*e.Err)
			return
		}
		w.receipt(&e.Receipt)
	})
	w.close('}')
	return w
}

// AppendReceipt appends the receipt of an erasure.
func AppendReceipt(dst []byte, r *engine.Receipt) []byte {
	w := append(writer(dst), '{')
	w.receipt(r)
	w.close('}')
	return w
}

// AppendErasedPerson appends an entry of the ledger of erasures as one line.
func AppendErasedPerson(dst []byte, p *engine.ErasedPerson) []byte {
	w := append(writer(dst), '{')
	w.receipt(&p.Receipt)
	w.int("workspace", int64(p.Workspace))
	w.int("slot", int64(p.Slot))
	w.int("person", int64(p.Person))
	return append(w, '}', '\n')
}

// LedgerEnd is the last line of the ledger of erasures.
type LedgerEnd struct {
	Store    [16]byte
	Erasures int64
	Names    [][]byte // keys of names that went with the last person who had them
}

// AppendLedgerEnd appends the last line.
func AppendLedgerEnd(dst []byte, e *LedgerEnd) []byte {
	w := append(writer(dst), '{')
	w.bool("done", true)
	w.int("erasures", e.Erasures)
	w.text("store", hex.EncodeToString(e.Store[:]))
	names := make([]string, len(e.Names))
	for i, key := range e.Names {
		names[i] = hex.EncodeToString(key)
	}
	w.texts("names", names)
	return append(w, '}', '\n')
}

func (w *writer) receipt(r *engine.Receipt) {
	w.text("receipt", hex.EncodeToString(r.ID[:]))
	w.time("erased_at", int64(r.ErasedAt))
	if r.PurgedAt != 0 {
		w.time("purged_at", int64(r.PurgedAt))
	}
	if r.Before {
		w.bool("before", true)
	}
	w.name("removed")
	w.open('{')
	for i, name := range engine.ErasedKinds() {
		w.int(name, int64(r.Removed[i]))
	}
	if l := &r.Logged; l.Counted {
		w.int("log_events", int64(l.Events))
		w.int("log_decisions", int64(l.Decisions))
		w.int("log_changes", int64(l.Changes))
	}
	w.close('}')
}
