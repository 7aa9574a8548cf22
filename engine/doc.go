// Package engine conducts: it composes the parts (definition, rule, decide,
// content, experiment) with the store, commits effects and runs loops. It knows
// nothing of HTTP.
//
// It owns the Snapshot (everything published, compiled, swapped as one
// pointer), server time, tracking tokens, decision records, idempotency of
// requests and lines, visitors, and the further tries a decision may need: a
// total that is full, a message that does not render, a disk that is late.
//
// Laws, each with a test:
//  1. Read your writes: a line answered as durable is seen by the person's very
//     next decision.
//  2. A decision that uses a cap is answered when its record is durable, or
//     without that use: a grant that is not safe in time is not given.
//  3. Under any interleaving of callers, retries and restarts no cap is
//     exceeded, but by facts reported after their reservation had gone; those
//     are counted as ungranted.
//  4. One decision reads one Snapshot; a publish is seen whole or not at all, and
//     with a fault changes nothing.
//  5. A line is applied whole or not at all; a key seen before applies nothing.
//  6. A dry run leaves nothing behind.
//  7. Server time never runs backwards; forward steps of the wall clock are
//     adopted within bounds, and never shorten a reservation.
//
// Path of a decision: snapshot, names to indices, the person's group locked,
// predicate bits, decide.Pick, totals, effects into the open frame, unlock,
// render, wait when a cap was used, reply. ARCHITECTURE.md has the others.
//
// Costs: Decide allocates nothing once its Decision's buffers have grown, and
// waits for the disk only when a cap was used (one group commit). A replayed
// request_id and an outcome that comes by decision_id read the decision's frame. A line
// of a batch costs one or two lock sections; a batch waits once. A publish
// compiles everything; people's bits follow at their next decision.
package engine
