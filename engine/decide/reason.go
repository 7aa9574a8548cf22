package decide

// Reason says why a candidate was refused, or why a slot stayed empty. The
// number is stored in decision records; it never changes.
type Reason uint8

// The reason codes. ReasonNone: not refused.
const (
	ReasonNone Reason = iota
	Inactive
	NotStarted
	Expired
	ChannelMismatch
	PlacementMismatch
	BlockedByRequest
	Ineligible
	NotApplicable
	NotSuitable
	ValueUnknown
	ConsentMissing
	Blacklisted
	QuietHoursNow
	TimezoneUnknown
	CappedUser
	CappedContact
	CappedTotal
	MinGap
	Suppressed
	HeldOut
	ExperimentExcluded
	LostArbitration
	DuplicateInRequest
	NoTreatment
	RenderError
	Deadline
	UserNotFound
	Failed
	ReasonCount // how many there are
)

// String returns the stable code of a reason, the same word in replies, traces
// and metrics; "" for ReasonNone. Cost: one table look-up, no allocation.
func (r Reason) String() string {
	words := [ReasonCount]string{
		"", "inactive", "not_started", "expired", "channel_mismatch", "placement_mismatch",
		"blocked_by_request", "ineligible", "not_applicable", "not_suitable", "value_unknown",
		"consent_missing", "blacklisted", "quiet_hours", "timezone_unknown", "capped_user",
		"capped_contact", "capped_total", "min_gap", "suppressed", "holdout",
		"experiment_excluded", "lost_arbitration", "duplicate_in_request", "no_treatment",
		"render_error", "deadline", "user_not_found", "error",
	}
	if r >= ReasonCount {
		return "error"
	}
	return words[r]
}

// Stage is the rule list that refused a candidate.
type Stage uint8

// The rule lists, in the order in which they are judged.
const (
	StageNone Stage = iota
	StageEligibility
	StageApplicability
	StageSuitability
)

// String returns the field of the offer: eligibility, applicability,
// suitability, or "".
func (s Stage) String() string {
	return [...]string{"", "eligibility", "applicability", "suitability"}[s&3]
}

// depth is how far a candidate with this reason got: the gates in the order in
// which reasons are given. Of several refused candidates the one with the
// greatest depth gives the slot its reason. No two verdicts share a depth but
// those that share a reason, so the slot's reason does not depend on the order
// of the candidates.
func depth(r Reason, s Stage) int {
	switch r {
	case Ineligible, NotApplicable, NotSuitable, ValueUnknown:
		d := 20 + 2*int(s)
		if r == ValueUnknown {
			d++
		}
		return d
	case HeldOut:
		return 10
	case ExperimentExcluded:
		return 11
	case ConsentMissing, Blacklisted, QuietHoursNow, TimezoneUnknown, Suppressed:
		return 30 + int(r-ConsentMissing)
	case UserNotFound:
		return 60
	case CappedUser, CappedContact, CappedTotal, MinGap:
		return 61 + int(r-CappedUser)
	case DuplicateInRequest:
		return 70
	case LostArbitration:
		return 71
	case NoTreatment:
		return 80
	case Deadline:
		return 81
	case RenderError:
		return 82
	case Failed:
		return 83
	}
	return int(r) // the catalogue gate: 0 … 6
}
