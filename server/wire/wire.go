// Package wire owns the bytes of the public API: it reads the JSON of requests
// into the types of package engine and writes replies, results and problem
// documents.
//
// Laws, each with a test:
//  1. Strict: unknown and duplicate members, wrong types, broken UTF-8, lone
//     surrogates, trailing bytes, more than [MaxDepth] levels or [MaxKeys] members
//     are refused; the [Fault] names the field by its path and the offset.
//  2. What a decoder accepts, encoding/json accepts with the same meaning.
//  3. Numbers are exact: a number whose type is not known yet keeps its literal;
//     a whole number beyond 2^53 is refused where a number is needed.
//  4. Decoding a decide request and encoding its reply do not allocate once the
//     buffers have grown.
//  5. Everything that an encoder writes is one valid JSON value.
//
// Path: one pass over the bytes, no tree. Text without escapes is a slice of
// the input; unescaped text, lists and compacted values go to buffers of the
// [Decoder]. Both live until the next call on the same Decoder, and no longer
// than the input.
//
// Cost: linear in the bytes (1.6 to 2.5 µs for the 430 bytes of BenchmarkDecide on
// two shared cores), plus a comparison of 4 bytes for each pair of members of one
// object.
package wire

// Bounds of what is read, whatever the body limit.
const (
	MaxDepth      = 32  // nested objects and lists, the outermost counted
	MaxKeys       = 512 // members of one object
	MaxNumber     = 64  // bytes of one number
	MaxPlacements = 64  // placements of one decide request
)

// Codes of a Fault. They are stable: callers may switch on them.
const (
	CodeInvalidJSON   = "invalid_json"
	CodeTruncated     = "truncated" // the input ended inside a value
	CodeInvalidUTF8   = "invalid_utf8"
	CodeTooDeep       = "too_deep"
	CodeTooManyKeys   = "too_many_members"
	CodeDuplicate     = "duplicate_member"
	CodeUnknownField  = "unknown_field"
	CodeWrongType     = "wrong_type"
	CodeMissingField  = "missing_field"
	CodeInvalidValue  = "invalid_value"
	CodeNumber        = "number_out_of_range"
	CodeTrailingBytes = "trailing_bytes"
)

// Fault is what is wrong with an input: the first thing found. Field is the
// path of the member (placements[0].placement_id), empty for the whole input;
// Offset is in bytes from its start.
type Fault struct {
	Code   string
	Field  string
	Offset int
	Detail string
}

// Error implements error.
func (f *Fault) Error() string {
	if f.Field == "" {
		return f.Code + ": " + f.Detail
	}
	return f.Code + " (" + f.Field + "): " + f.Detail
}
