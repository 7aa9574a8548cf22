package engine

import (
	"sync/atomic"

	"tact/engine/decide"
	"tact/storage"
)

// paces keep what pacing allows, so that a decision pays one atomic read for a
// paced cap: per cap of the plan the limit of one second,
//
//	second mod 2^24 (194 days) | units + 1 as u40
//
// A cap's limit is at most 10^12, which 40 bits hold.
type paces []atomic.Uint64

const paceBits = 40

// planned is how many units of a total cap the plan gives by a time: the cap's
// limit, or less while its pacing holds units back. An outcome is refused at
// totalLimit only.
func (s *Snapshot) planned(name storage.Name, at storage.UnixMsec) int64 {
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
		return int64(kept&(1<<paceBits-1)) - 1
	}
	units := s.Plan.PacedUnits(i, at, s.learned[i].Load())
	s.paces[i].Store(second<<paceBits | uint64(units+1))
	return units
}

// offerRule is TotalRule for a decision that would give one more use: the limit is
// less while pacing holds units back. A use may pass the plan that begins below it.
func (s *Snapshot) offerRule(
	k *storage.HeldKey, at storage.UnixMsec,
) (limit int64, since uint32) {
	limit, since = s.Plan.TotalRule(k.Key.Cap, at)
	if i, ok := s.Plan.CapByCounter(k.Key.Cap); ok && s.Plan.Paced(i) {
		limit = min(limit, s.planned(k.Key.Cap, at)+k.Units())
	}
	return limit, since
}

// freeAt is when a total that has no room for a use has some again, by its limit;
// 0: at the end of its window.
func (s *Snapshot) freeAt(
	totals *storage.Totals, k *storage.HeldKey, now storage.UnixMsec,
) storage.UnixSec {
	if until, blind := s.Plan.TotalBlind(k.Key.Cap, now); blind {
		return until
	}
	limit, since := s.Plan.TotalRule(k.Key.Cap, now)
	if k.Units() > limit {
		return decide.Never
	}
	if frees, ok := totals.Frees(k.Key, limit-k.Units()+1); ok && frees >= since {
		return s.Plan.TotalFree(k.Key.Cap, now, frees)
	}
	return 0
}

// paced notes until when pacing holds back a total that was refused; nothing
// when its limit is reached.
func (s *Snapshot) paced(
	over *decide.Overlay, k *storage.HeldKey, totals *storage.Totals, now storage.UnixMsec,
) {
	i, ok := s.Plan.CapByCounter(k.Key.Cap)
	if _, blind := s.Plan.TotalBlind(k.Key.Cap, now); !ok || !s.Plan.Paced(i) || blind {
		return
	}
	_, since := s.Plan.TotalRule(k.Key.Cap, now)
	used := totals.UsedSince(k.Key, since)
	if used > s.totalLimit(k.Key.Cap)-k.Units() {
		return
	}
	over.Paced = append(over.Paced, decide.PacedTotal{
		Key: k.Key, Until: s.Plan.PacedUntil(i, used, now, s.learned[i].Load()),
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
