package engine

import (
	"sync/atomic"

	"tact/engine/decide"
	"tact/storage"
)

// paces keep what pacing allows, so that a decision pays one atomic read for a
// paced cap: per cap of the plan the limit of one second,
//
//	second mod 2^24 (194 days) | limit u40
//
// A cap's limit is at most 10^12, which 40 bits hold.
type paces []atomic.Uint64

const paceBits = 40

// offerLimit is how many units of a total cap decisions may have given by a
// time: the cap's limit, or less while its pacing holds units back. An outcome
// is refused at totalLimit only.
func (s *Snapshot) offerLimit(name storage.Name, at storage.UnixMsec) int64 {
	i, ok := s.Plan.CapByCounter(name)
	if !ok {
		return 0
	}
	if !s.Plan.Paced(i) {
		return int64(s.Plan.Caps[i].Def.Limit)
	}
	second := uint64(at/1000) & (1<<(64-paceBits) - 1)
	kept := s.paces[i].Load()
	if kept>>paceBits == second && kept != 0 {
		return int64(kept & (1<<paceBits - 1))
	}
	limit := s.Plan.PacedLimit(i, at)
	s.paces[i].Store(second<<paceBits | uint64(limit))
	return limit
}

// offerRule is TotalRule for a decision: the limit is less while pacing holds units
// back.
func (s *Snapshot) offerRule(
	name storage.Name, at storage.UnixMsec,
) (limit int64, since uint32) {
	limit, since = s.Plan.TotalRule(name, at)
	if i, ok := s.Plan.CapByCounter(name); ok && s.Plan.Paced(i) {
		limit = min(limit, s.offerLimit(name, at))
	}
	return limit, since
}

// paced notes until when pacing holds back a total that was refused; nothing
// when its limit is reached.
func (w *decideWork) paced(k *storage.HeldKey, totals *storage.Totals) {
	i, ok := w.snap.Plan.CapByCounter(k.Key.Cap)
	if !ok || !w.snap.Plan.Paced(i) {
		return
	}
	_, since := w.snap.Plan.TotalRule(k.Key.Cap, w.now)
	used := totals.UsedSince(k.Key, since)
	if used >= w.snap.totalLimit(k.Key.Cap) {
		return
	}
	w.over.Paced = append(w.over.Paced, decide.PacedTotal{
		Key: k.Key, Until: w.snap.Plan.PacedUntil(i, used, w.now),
	})
}

// totalLimit is the limit of a total cap of this snapshot.
func (s *Snapshot) totalLimit(name storage.Name) int64 {
	i, ok := s.Plan.CapByCounter(name)
	if !ok {
		return 0
	}
	return int64(s.Plan.Caps[i].Def.Limit)
}
