// Package decide is the choke point: may we contact this person now, and with
// which offer, channel and message.
//
// Compile turns checked definitions into a Plan; Plan.Pick fills the placements
// of a request for one person at one time. It gives picks and the counters each
// pick holds or uses; it changes nothing. The conductor (engine) reserves,
// renders and records, and asks again with an Overlay when a total was full or
// a message could not be rendered.
//
// Laws, each with a test of the same name:
//  1. Pure: equal plan, request, person, moment and overlay give an equal result.
//  2. Refusal is an answer: a slot without an item carries a Reason.
//  3. Caps hold: Pick never gives an offer whose cap is full in (person,
//     overlay, earlier picks of the request), so that over any run of picks,
//     confirms and releases no window holds more uses than the limit.
//  4. Unrelated offers do not matter: adding offers that a policy does not
//     select never changes its picks.
//  5. Order does not matter: the order of the documents changes nothing.
//  6. Equal to model: the scan over slabs gives what a plain reading of the
//     definitions gives.
//  7. No allocation: Pick allocates nothing once the result has grown.
//  8. Judge agrees with Pick: an offer is eligible by all gates exactly where
//     Pick, with no other offer allowed, gives it.
//
// Choices where the product's words leave room:
//   - A channel outside the workspace's consent_required (page channels, as a
//     rule) refuses marketing only when the offer's purpose, or the purpose
//     "personalisation", was explicitly withdrawn for that channel.
//   - A missing or out-of-range attribute operand counts as 0, so such an offer
//     ranks behind every offer whose operands are known; it may still win alone.
//   - Quiet hours bind marketing always, transactional when classes names it.
//   - A holdout covers a transactional offer only if the offer says so.
//   - Of several experiments that change one thing the first by id counts; an
//     exclusion by any of them counts, for the fallback too (not a universal one).
//   - A cap refuses wherever it applies, also where its contacts cannot happen
//     (a send cap on a page); it holds uses only where they can.
//   - Without a zone, calendar caps of the user's zone count the longest window
//     of the zones that may be the person's.
//   - In a selector `ids` and `groups` name offers (either is enough), `labels`
//     narrow, `not` takes away.
//
// Path: definition.Set → Compile → Plan (one slab for each placement × policy)
// → Pick → Result.
//
// Cost: Pick looks at candidates in falling order of what the person's numbers make of
// their upper bounds, with one comparison of words each, until the best score reaches
// the next bound; beyond the first 16 an index names the few that may hold for the
// person. With more than eight attributes that scores of one placement read it looks
// at them one after the other. Caps are looked up only for candidates that would win.
// The reasons of refused candidates are found in a second pass, only for slots that
// stay empty or with Explain; without Explain it judges those alone that can change
// the slot's reason.
//
// A Plan is immutable and may be read by any number of goroutines; a Result
// belongs to one at a time.
package decide
