package main

import (
	"time"

	"github.com/spf13/cobra"
)

func (l *loadFlags) flags(cmd *cobra.Command) {
	f, o, s := cmd.Flags(), &l.o, &l.o.Scenario
	f.BoolVar(&o.AllowRemote, "allow-remote", false, "load a machine other than this one")
	f.StringVar(&l.mode, "mode", "rate", "rate, burst, soak, saturate, step, search or overload")
	f.StringVar(&l.rate, "rate", "", "arrivals a second, or a share of the saturation such as 70% "+
		"(default 1000; step and search begin at 30%)")
	f.StringVar(&l.arrivals, "arrivals", "constant", "constant or poisson")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "of the measured run")
	f.DurationVar(&o.Step, "step", 5*time.Second, "of each step of a search, multiple of an overload")
	f.DurationVar(&o.WarmUp, "warm-up", 5*time.Second,
		"longest; ends when the median is flat; -1s: none")
	f.StringVar(&l.burst, "burst", "",
		"times,length,period of mode burst (default 10,200ms,2s)")
	f.StringVar(&l.slo, "slo", "", "bound such as p99.9<1ms (the default of step and search)")
	f.Float64Var(&o.Growth, "growth", 1.3, "factor between steps")
	f.Float64Var(&o.Within, "within", 0.03, "precision of the search")
	f.Float64Var(&o.Capacity, "capacity", 0, "of overload, requests a second (default measured)")
	f.Float64SliceVar(&o.Multiple, "multiples", []float64{1, 2, 5, 10}, "of the capacity")
	f.IntVar(&o.Connections, "connections", 0, "most at a time (default 64, overload 512)")
	f.DurationVar(&o.Timeout, "timeout", 2*time.Second, "of a request; what is late counts in full")
	f.IntVar(&o.Churn, "churn", 0, "close a connection after so many requests; 0: keep it alive")
	f.IntVar(&o.Slow, "slow-clients", 0, "clients beside the load that send slowly")
	f.DurationVar(&o.SlowOver, "slow-over", 2*time.Second, "how long a slow client takes to send")
	f.IntVar(&o.Pacers, "pacers", 0, "threads that send (default one for every 30,000/s)")
	f.Uint64Var(&o.Seed, "seed", 1, "another seed asks of other users at other times")
	f.StringVar(&l.share, "share", "", "i/n: this process sends every n-th arrival, from the i-th on")
	f.StringVar(&l.when, "start-at", "", "time (RFC 3339) at which all shares begin to measure")
	f.DurationVar(&o.MaxDuration, "max-duration", 10*time.Minute, "hard bound on the measured time")
	f.Int64Var(&o.MaxRequests, "max-requests", 20_000_000, "hard bound on arrivals")
	f.IntSliceVar(&o.ServerPIDs, "server-pid", nil,
		"processes of the server on this machine, for its CPU a request")
	f.BoolVar(&l.floor, "floor", false, "measure in turns with a bare server of the same reply size")
	f.IntVar(&o.Rounds, "rounds", 5, "turns of --floor")
	f.StringVar(&s.Name, "scenario", "page", "page, multi, events, ryw, batch or mixed")
	f.StringVar(&s.Log, "log", "", "send the requests of this file: lines of {method,path,body}")
	f.Uint64Var(&s.Users, "users", 100_000, "ids u1 to uN")
	f.Float64Var(&s.Zipf, "zipf", 0, "skew of users, such as 0.99; 0: uniform")
	f.StringSliceVar(&s.Placements, "placements", nil, "of decisions (default those of the demo)")
	f.StringVar(&l.context, "context", "", `of decisions (default {"page":"home"})`)
	f.StringVar(&s.DecideMode, "decide-mode", "live", "live or dry_run")
	f.StringVar(&s.Event, "event", "page_viewed", "that events are")
	f.StringVar(&l.properties, "properties", "", `of events (default {"page":"home"})`)
	f.IntVar(&s.Lines, "lines", 100, "events of a batch")
	f.StringVar(&l.mix, "mix", "",
		"weights of mixed (default page=70,multi=15,ryw=10,events=4,batch=1)")
	f.StringVar(&s.Expect, "expect", "", "text that the reply to every decision must hold")
	f.BoolVar(&l.json, "json", false, "print the result as JSON")
	f.StringVar(&l.out, "out", "", "write the result as JSON to this file")
	f.StringVar(&l.html, "html", "", "write a report to this file")
}
