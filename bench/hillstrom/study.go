package main

import (
	"fmt"
	"math"
	"sync"

	"github.com/valyala/fasthttp"
)

// study holds what was decided for whom, and counts what does not hold.
type study struct {
	caller      *caller
	customers   []customer
	replies     []*reply // by customer
	differences int
}

func (s *study) check(ok bool, format string, args ...any) {
	verdict := "ok      "
	if !ok {
		verdict = "DIFFERS "
		s.differences++
	}
	fmt.Printf(verdict+format+"\n", args...)
}

// decideAll decides once for everybody and checks that each reply holds what
// its arm says: the arm's offer, or none because of the experiment.
func (s *study) decideAll() error {
	err := each(len(s.customers), connections, func(i int) error {
		r, err := s.caller.decide(userID(i), "inbox")
		s.replies[i] = r
		return err
	})
	if err != nil {
		return err
	}
	wrong := 0
	for _, r := range s.replies {
		got := r.Placements["p"]
		offer := "none"
		if len(got.Items) == 1 {
			offer = got.Items[0].OfferID
		}
		excluded := got.NoDecision != nil && got.NoDecision.Reason == "experiment_excluded"
		if offer != r.arm() || excluded != (offer == "none") {
			wrong++
		}
	}
	s.check(wrong == 0, "replies that do not hold what their arm says: %d", wrong)
	return nil
}

// checkShares tests that the three arms are equally likely.
//
// Source: K. Pearson, Philosophical Magazine 50 (1900), 157-175. With two
// degrees of freedom the upper tail of the statistic x is exp(-x/2).
func (s *study) checkShares() {
	const least = 0.001
	counts := map[string]int{}
	for _, r := range s.replies {
		counts[r.arm()]++
	}
	expected := float64(len(s.replies)) / float64(len(arms()))
	x := 0.0
	for _, arm := range arms() {
		d := float64(counts[arm]) - expected
		x += d * d / expected
	}
	p := math.Exp(-x / 2)
	s.check(p > least && len(counts) == len(arms()),
		"arm shares: mens %d, womens %d, none %d; chi-square %.3f, p = %.3f (more than %g wanted)",
		counts["mens"], counts["womens"], counts["none"], x, p, least)
}

func (s *study) checkSameArm(when string) error {
	var mu sync.Mutex
	moved := 0
	err := each(len(s.customers), connections, func(i int) error {
		r, err := s.caller.decide(userID(i), "inbox")
		if err != nil {
			return err
		}
		if r.arm() != s.replies[i].arm() {
			mu.Lock()
			defer mu.Unlock()
			moved++
		}
		return nil
	})
	s.check(err == nil && moved == 0, "%s: %d of %d people in another arm", when, moved,
		len(s.customers))
	return err
}

// postOutcomes tells the server what happened to those whose real arm is the
// assigned one: the mail was there, some visited, some bought. People of the arm
// without mail have no token: their decision_id stands for it.
func (s *study) postOutcomes() error {
	return each(len(s.customers), connections, func(i int) error {
		c, r := s.customers[i], s.replies[i]
		if c.arm != r.arm() {
			return nil
		}
		about := fmt.Sprintf(`"decision_id":%q,"key":"p"`, r.DecisionID)
		if items := r.Placements["p"].Items; len(items) == 1 {
			about = fmt.Sprintf(`"tracking_token":%q`, items[0].Token)
		}
		post := func(outcome, more string) error {
			return s.caller.post("/v1/outcomes", fmt.Appendf(nil,
				`{%s,"outcome":%q,"event_id":"%s-%s"%s}`, about, outcome, userID(i), outcome, more), nil)
		}
		if err := post("impression", ""); err != nil {
			return err
		}
		if c.visit {
			if err := post("click", ""); err != nil {
				return err
			}
		}
		if c.converted {
			return post("convert", fmt.Sprintf(`,"value":%d.%02d`, c.cents/100, c.cents%100))
		}
		return nil
	})
}

// tally is what one arm did.
type tally struct {
	shown, visits, bought int
	cents                 int
}

// checkStats compares GET /v1/stats with a plain count over the file.
func (s *study) checkStats(when string) error {
	var stats struct {
		Rows []struct {
			Variant string  `json:"variant"`
			What    string  `json:"what"`
			N       int     `json:"n"`
			Value   float64 `json:"value"`
		} `json:"rows"`
	}
	if err := s.caller.call(fasthttp.MethodGet, "/v1/stats", nil, &stats); err != nil {
		return err
	}
	got, want := map[string]tally{}, map[string]tally{}
	for _, row := range stats.Rows {
		t := got[row.Variant]
		switch row.What {
		case "impression":
			t.shown += row.N
		case "click":
			t.visits += row.N
		case "convert":
			t.bought += row.N
			t.cents += int(math.Round(row.Value * 100))
		}
		got[row.Variant] = t
	}
	for i, c := range s.customers {
		if c.arm != s.replies[i].arm() {
			continue
		}
		t := want[c.arm]
		t.shown++
		t.cents += c.cents
		if c.visit {
			t.visits++
		}
		if c.converted {
			t.bought++
		}
		want[c.arm] = t
	}
	fmt.Printf("\n%-8s %9s %9s %9s %9s %9s   %s\n",
		"arm", "people", "visits", "rate", "bought", "spend", when)
	for _, arm := range arms() {
		w, g := want[arm], got["email_test/"+arm]
		fmt.Printf("%-8s %9d %9d %8.3f%% %9d %9.2f   counted in the file\n", arm, w.shown, w.visits,
			w.rate(), w.bought, float64(w.cents)/100)
		fmt.Printf("%-8s %9d %9d %8.3f%% %9d %9.2f   GET /v1/stats\n", "", g.shown, g.visits,
			g.rate(), g.bought, float64(g.cents)/100)
		s.check(w == g, "figures of arm %s", arm)
	}
	fmt.Println()
	return nil
}

// rate is visits per hundred people.
func (t tally) rate() float64 { return 100 * float64(t.visits) / float64(max(t.shown, 1)) }

// callersEach is how many ask for one person at the same time.
const callersEach = 4

// checkCap lets four callers ask for each person at once, where one grant a
// person and UTC day is allowed.
func (s *study) checkCap() error {
	type personDay struct {
		person int
		day    string
	}
	var mu sync.Mutex
	grants := map[personDay]int{}
	people := effort(len(s.customers))
	err := each(people*callersEach, connections, func(i int) error {
		r, err := s.caller.decide(userID(i/callersEach), "daily")
		if err != nil {
			return err
		}
		if len(r.Placements["p"].Items) > 0 {
			mu.Lock()
			defer mu.Unlock()
			grants[personDay{i / callersEach, r.DecidedAt.UTC().Format("2006-01-02")}]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	over, served := 0, map[int]bool{}
	for key, n := range grants {
		served[key.person] = true
		if n > 1 {
			over++
		}
	}
	s.check(over == 0, "one a day under %d callers a person: %d of %d people got more",
		callersEach, over, people)
	s.check(len(served) == people, "one a day: %d of %d people got theirs", len(served), people)
	return nil
}
