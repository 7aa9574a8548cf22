package wire

import (
	"math"
	"strconv"

	"github.com/zeebo/xxh3"

	"tact/engine"
)

// Bounds of what BatchLines remembers.
const (
	batchItems  = 256       // items of which the fixed text is at hand
	batchFloats = 256       // numbers of which the text is
	batchText   = 256 << 10 // bytes of text; beyond it all is forgotten
)

// BatchLines writes the decisions of one batch as lines, as AppendBatchDecision does,
// byte for byte. What many lines have in common is put into text once: the time and the
// revision, offers with their treatment and channel, numbers. The zero value is ready.
// It belongs to one goroutine. 32 KiB, and the text.
type BatchLines struct {
	head     []byte // from decided_at to the brace of placements
	at       int64
	revision uint32
	key      []byte // of a placement, as a member's name
	keyText  []byte
	items    [batchItems]itemText
	text     []byte
	floats   [batchFloats]floatText
}

// itemText says where the members of an item up to its rank lie in the text, and then
// those from its channel to its content.
type itemText struct {
	offer, treatment, channel string
	from, rank, end           int32
}

// floatText is a number as JSON; n 0: none.
type floatText struct {
	bits uint64
	n    uint8
	text [31]byte
}

// Append appends one decision as a line. id is the canonical id of the person.
//
// Cost: no allocation when dst has room, but for text that is new.
func (b *BatchLines) Append(dst, id []byte, d *engine.Decision) []byte {
	if len(d.UserID) == 0 || d.Replayed || len(d.Assignments) > 0 || len(d.Capped) > 0 ||
		len(d.Degraded) > 0 || len(d.Trace) > 0 {
		return AppendBatchDecision(dst, id, d)
	}
	if len(b.head) == 0 || b.at != int64(d.DecidedAt) || b.revision != d.Revision {
		b.begin(d)
	}
	dst = append(dst, '{')
	if d.HasID {
		dst = append(dst, `"decision_id":"`...)
		dst = appendHex(dst, d.ID[:])
		dst = append(dst, '"', ',')
	}
	dst = append(dst, `"user_id":`...)
	dst = appendString(dst, d.UserID)
	dst = append(dst, b.head...)
	for i := range d.Slots {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = b.slot(dst, d, &d.Slots[i])
	}
	return append(dst, '}', '}', '\n')
}

// begin makes the head of the lines of one moment.
func (b *BatchLines) begin(d *engine.Decision) {
	b.at, b.revision = int64(d.DecidedAt), d.Revision
	w := append(writer(b.head[:0]), ',')
	w.time("decided_at", b.at)
	w.int("config_version", int64(b.revision))
	w.name("placements")
	b.head = append(w, '{')
}

// slot appends what writer.slot does, behind a comma where one is due.
func (b *BatchLines) slot(dst []byte, d *engine.Decision, s *engine.SlotReply) []byte {
	if len(b.keyText) == 0 || string(b.key) != string(s.Key) {
		b.key = append(b.key[:0], s.Key...)
		b.keyText = append(appendString(b.keyText[:0], s.Key), ':', '{')
	}
	if s.Count == 0 || s.Fallback {
		w := writer(dst)
		w.slot(d, s)
		return w
	}
	dst = append(dst, b.keyText...)
	dst = append(dst, `"items":[`...)
	for i := range d.Items[s.First : s.First+s.Count] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = b.item(dst, &d.Items[s.First+i])
	}
	return append(dst, ']', '}')
}

// item appends what writer.item does without reasons.
func (b *BatchLines) item(dst []byte, item *engine.ItemReply) []byte {
	t := b.itemText(item)
	dst = append(dst, b.text[t.from:t.rank]...)
	dst = strconv.AppendInt(dst, int64(item.Rank), 10)
	dst = append(dst, `,"score":`...)
	dst = b.float(dst, item.Score)
	dst = append(dst, `,"propensity":`...)
	dst = b.float(dst, item.Propensity)
	dst = append(dst, `,"probability":`...)
	dst = b.float(dst, item.Probability)
	dst = append(dst, b.text[t.rank:t.end]...)
	switch {
	case item.ContentType != "json":
		dst = appendString(dst, item.Content)
	case len(item.Content) == 0:
		dst = append(dst, "null"...)
	default:
		dst = append(dst, item.Content...)
	}
	if len(item.Token) > 0 || item.Reserved {
		w := append(writer(dst), ',')
		w.claim(item)
		dst = w
	}
	return append(dst, '}')
}

// itemText finds the fixed text of an item, or makes it.
func (b *BatchLines) itemText(item *engine.ItemReply) *itemText {
	hash := xxh3.HashString(item.OfferID)
	t := &b.items[hash%batchItems]
	if t.end > 0 && t.offer == item.OfferID && t.treatment == item.TreatmentID &&
		t.channel == item.Channel {
		return t
	}
	if len(b.text) > batchText {
		b.text, b.items = b.text[:0], [batchItems]itemText{}
	}
	*t = itemText{offer: item.OfferID, treatment: item.TreatmentID, channel: item.Channel}
	t.from = int32(len(b.text))
	w := append(writer(b.text), '{')
	w.text("offer_id", item.OfferID)
	w.text("treatment_id", item.TreatmentID)
	w.name("rank")
	t.rank = int32(len(w))
	w = append(w, ',')
	w.text("channel", item.Channel)
	w.name("content")
	t.end = int32(len(w))
	b.text = w
	return t
}

// float appends what appendFloat does.
func (b *BatchLines) float(dst []byte, f float64) []byte {
	bits := math.Float64bits(f)
	t := &b.floats[bits*0x9E3779B97F4A7C15>>56]
	if t.n == 0 || t.bits != bits {
		text := appendFloat(t.text[:0], f)
		if len(text) > len(t.text) {
			t.n = 0
			return append(dst, text...)
		}
		t.bits, t.n = bits, uint8(len(text))
	}
	return append(dst, t.text[:t.n]...)
}
