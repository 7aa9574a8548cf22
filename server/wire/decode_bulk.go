package wire

import (
	"encoding/base64"
	"errors"
	"strconv"
	"time"

	"github.com/zeebo/xxh3"

	"tact/engine"
	"tact/engine/definition"
)

// MaxUsers is how many user ids one call names at most.
const MaxUsers = 10_000

// BulkFormat is how the people of a query are answered.
type BulkFormat uint8

// Formats.
const (
	FormatIDs BulkFormat = iota
	FormatCount
	FormatLines // ndjson
	FormatRoaring
	FormatParquet
)

// Population says who a bulk call is about: exactly one of users, cursor, or a
// query of rule, segment, offer and members.
type Population struct {
	HasUsers bool
	Users    [][]byte
	Cursor   []byte
	Query    engine.AudienceQuery
	Members  *engine.OrdinalList // not yet checked
}

// Eligibility is the body of POST /v1/eligibility:query.
type Eligibility struct {
	Population
	Offers     [][]byte // for users: nil = every offer
	Explain    bool
	Format     BulkFormat
	HasFormat  bool
	Attributes [][]byte
	Tags       [][]byte
	Limit      int64 // 0 = no limit
}

// DecideBatch is the body of POST /v1/decide:batch. Request names no user; its
// BodyHash is of what is asked for each person, whoever they are.
type DecideBatch struct {
	Population
	Request engine.DecideRequest
	Prefix  []byte
}

// Eligibility reads the body of POST /v1/eligibility:query. Everything in q
// borrows from src and from d, but the rule.
func (d *Decoder) Eligibility(src []byte, q *Eligibility) *Fault {
	r := &d.r
	r.reset(src)
	*q = Eligibility{}
	var o object
	r.object(&o)
	for r.member(&o) {
		if r.population(o.key, &q.Population) {
			continue
		}
		switch string(o.key) {
		case "offers":
			q.Offers = r.texts()
		case "placement_id":
			q.Query.Placement = r.filled()
		case "channel":
			q.Query.Channel = r.filled()
		case "gates":
			q.Query.Gates = r.gates()
		case "context":
			q.Query.Context = r.named(nil)
		case "explain":
			q.Explain = r.boolean()
		case "format":
			words := []string{"ids", "count", "ndjson", "roaring", "parquet"}
			q.Format, q.HasFormat = BulkFormat(r.oneOf(words...)), true
		case "attributes":
			q.Attributes = r.texts()
		case "tags":
			q.Tags = r.texts()
		case "limit":
			q.Limit = r.integer(1, maxExact)
		default:
			r.unknown()
		}
	}
	r.checkEligibility(q)
	return r.finish()
}

// checkEligibility refuses members that do not go together.
func (r *reader) checkEligibility(q *Eligibility) {
	r.checkPopulation(&q.Population)
	columns := q.Format == FormatLines || q.Format == FormatParquet
	switch {
	case r.fault != nil:
	case q.HasUsers && q.HasFormat:
		r.failIn("format", CodeInvalidValue, "goes with a query of people, not with users")
	case q.HasUsers && q.Limit > 0:
		r.failIn("limit", CodeInvalidValue, "goes with a query of people, not with users")
	case !q.HasUsers && q.Offers != nil:
		r.failIn("offers", CodeInvalidValue, "goes with users; a query of people has one offer")
	case !q.HasUsers && q.Explain:
		r.failIn("explain", CodeInvalidValue, "goes with users")
	case !columns && q.Attributes != nil:
		r.failIn("attributes", CodeInvalidValue, "goes with format ndjson or parquet")
	case !columns && q.Tags != nil:
		r.failIn("tags", CodeInvalidValue, "goes with format ndjson or parquet")
	case q.Limit > 0 && q.Format != FormatIDs && q.Format != FormatLines:
		r.failIn("limit", CodeInvalidValue, "goes with format ids or ndjson")
	case len(q.Cursor) > 0 && q.asks():
		r.failIn("cursor", CodeInvalidValue, "a cursor goes on with its own query: give no other")
	}
}

// asks tells whether the query says anything of its own.
func (q *Eligibility) asks() bool {
	return len(q.Query.Placement) > 0 || len(q.Query.Channel) > 0 || q.Query.Gates != 0 ||
		len(q.Query.Context) > 0
}

// DecideBatch reads the body of POST /v1/decide:batch. Everything in q borrows
// from src and from d, but the rule.
func (d *Decoder) DecideBatch(src []byte, q *DecideBatch) *Fault {
	r := &d.r
	r.reset(src)
	req := &q.Request
	*q = DecideBatch{}
	var o object
	var hash uint64
	r.object(&o)
	for r.member(&o) {
		if r.population(o.key, &q.Population) {
			continue
		}
		r.space()
		start := r.pos
		switch string(o.key) {
		case "request_id":
			q.Prefix = r.filled()
			continue
		case "placements":
			d.placements(req)
		case "context":
			req.Context = r.named(nil)
		case "dedupe":
			req.Dedupe = engine.Dedupe(r.oneOf("offer", "offer_group", "none"))
		case "mode":
			req.Mode = engine.Mode(r.oneOf("live", "dry_run", "preview"))
		case "explain":
			req.Explain = engine.Explain(r.oneOf("none", "winners", "all"))
		case "timeout_us":
			us := r.integer(1, maxTimeout.Microseconds())
			req.Timeout = time.Duration(us) * time.Microsecond
		case "revision":
			req.Revision = uint32(r.integer(1, 1<<32-1))
		default:
			r.unknown()
		}
		if r.fault == nil { // in whatever order the members stand
			hash += xxh3.HashSeed(src[start:r.pos], xxh3.Hash(o.key))
		}
	}
	req.BodyHash = uint32(hash>>32) ^ uint32(hash)
	// The query's context is the request's: a rule is judged in the same one.
	q.Query.Context = req.Context
	r.checkPopulation(&q.Population)
	d.checkDecide(req)
	return r.finish()
}

// population reads a member that says who is asked about; false: it is another.
func (r *reader) population(key []byte, p *Population) bool {
	switch string(key) {
	case "users":
		p.HasUsers = true
		p.Users = r.userIDs()
	case "cursor":
		p.Cursor = r.filled()
	case "rule":
		p.Query.Rule = r.rule()
	case "segment":
		p.Query.Segment = string(r.filled())
	case "offer":
		p.Query.Offer = r.filled()
	case "members":
		p.Members = r.ordinals()
	default:
		return false
	}
	return true
}

// checkPopulation refuses a body that names nobody, or in two ways.
func (r *reader) checkPopulation(p *Population) {
	query := p.Query.Rule != nil || p.Query.Segment != "" || len(p.Query.Offer) > 0 ||
		p.Members != nil
	switch {
	case r.fault != nil:
	case p.HasUsers && query:
		r.failIn("users", CodeInvalidValue, "give users, or a query of people, not both")
	case len(p.Cursor) > 0 && (p.HasUsers || query):
		r.failIn("cursor", CodeInvalidValue, "a cursor goes on with its own query: give no other")
	case !p.HasUsers && !query && len(p.Cursor) == 0:
		r.failIn("users", CodeMissingField, "say who: users, a rule, a segment, an offer, members")
	case p.Query.Rule != nil && p.Query.Segment != "":
		r.failIn("segment", CodeInvalidValue, "give a rule or a segment, not both")
	}
}

// userIDs reads a list of at most MaxUsers ids.
func (r *reader) userIDs() [][]byte {
	ids := [][]byte{}
	r.list()
	for r.element() {
		if len(ids) == MaxUsers {
			r.fail(CodeInvalidValue, "more than "+strconv.Itoa(MaxUsers)+" users in one call")
			return nil
		}
		ids = append(ids, r.filled())
	}
	return ids
}

// gates reads a list of gates.
func (r *reader) gates() (set engine.Gates) {
	gates := [...]engine.Gates{engine.GateCaps, engine.GateContact, engine.GateExperiments}
	r.list()
	for r.element() {
		set |= gates[r.oneOf("caps", "consent", "holdout")]
	}
	return set
}

// rule reads a condition tree.
func (r *reader) rule() *definition.Node {
	raw := r.raw()
	if r.fault != nil {
		return nil
	}
	n, err := definition.NodeFromJSON(raw, "")
	if err != nil {
		var text *definition.TextError
		detail := err.Error()
		if errors.As(err, &text) {
			detail = text.Message
		}
		r.fail(CodeInvalidValue, detail)
		return nil
	}
	if n.Kind != definition.NodeMap {
		r.fail(CodeWrongType, "expected an object")
		return nil
	}
	return n
}

// ordinals reads {"ordinals", "roaring" in base64, "crc32c" in hexadecimal}.
func (r *reader) ordinals() *engine.OrdinalList {
	l := &engine.OrdinalList{}
	var o object
	crc := false
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "ordinals":
			l.Map = r.filled()
		case "roaring":
			text := r.filled()
			data, err := base64.StdEncoding.AppendDecode(nil, text)
			if err != nil {
				r.fail(CodeInvalidValue, "not base64")
			}
			l.Data = data
		case "crc32c":
			text := r.filled()
			n, err := strconv.ParseUint(string(text), 16, 32)
			if err != nil || len(text) != 8 {
				r.fail(CodeInvalidValue, "must be 8 hexadecimal digits")
			}
			l.CRC32, crc = uint32(n), true
		default:
			r.unknown()
		}
	}
	switch {
	case l.Map == nil:
		r.missing("ordinals")
	case l.Data == nil:
		r.missing("roaring")
	case !crc:
		r.missing("crc32c")
	}
	return l
}
