package bench

import (
	"fmt"
	"time"
)

// workloads lists everything that can run, in the order in which it runs: what
// works in this process first, then what needs the store closed.
func workloads() []workload {
	list := decideWorkloads()
	for _, one := range []bool{false, true} {
		for _, offers := range []int{10, 100, 1000, 10_000} {
			list = append(list, offersWorkload(offers, one))
		}
	}
	list = append(list, peopleWorkloads()...)
	list = append(list, writeWorkloads()...)
	list = append(list, backupWorkloads()...)
	for _, connections := range []int{16, 64, 256} {
		list = append(list, workload{
			fmt.Sprintf("http/%d", connections),
			fmt.Sprintf("POST /v1/decide over %d connections, processor time of the server", connections),
			overHTTP{connections: connections}.ready,
		})
	}
	for _, spin := range []time.Duration{0, 1300, 3000, 6000} {
		list = append(list, workload{
			fmt.Sprintf("http/floor-spin/%v", spin),
			fmt.Sprintf("a bare server that works %v for each reply, 16 connections", spin),
			spinning{spin}.ready,
		})
	}
	list = append(list,
		workload{
			"http/batch", "POST /v1/decide:batch, a dry run: processor time of the server a person",
			batchOverHTTP{}.ready,
		},
		workload{
			"http/batch-live", "the same, live: what is decided is recorded and durable",
			batchOverHTTP{live: true}.ready,
		})
	return append(list, workload{
		"start-up", "from nothing in memory to the first correct decision, cache dropped", startUp,
	})
}

// offersWorkload is one point of the curve of live offers.
func offersWorkload(offers int, one bool) workload {
	t := decideTrial{
		shown: catalogue{offers: offers, placements: 16}, curve: "live offers, spread over 16 placements",
		x: float64(offers),
	}
	name := fmt.Sprintf("decide/offers-%d", offers)
	if one {
		t.shown.placements, t.curve = 1, "live offers, all in one placement"
		name += "-one"
	}
	return workload{name, fmt.Sprintf("a dry run, cold, %d live offers", offers), t.ready}
}

func decideWorkloads() []workload {
	return []workload{
		{
			"decide/hot", "a dry run for one person, again and again",
			decideTrial{
				hot: true, target: &Target{"P2: ≤ 100 ns hot is a third of a cold probe", 0.35},
			}.ready,
		},
		{
			"decide/cold", "a dry run for people drawn at random",
			decideTrial{target: &Target{"P2: look-up and decision ≤ 1.3 probes", 1.3}}.ready,
		},
		{
			"decide/zipf", "a dry run for people drawn by Zipf's law, s = 1.1",
			decideTrial{zipf: true}.ready,
		},
		{
			"decide/live-hot", "a live decision with its record, one person",
			decideTrial{hot: true, live: true}.ready,
		},
		{
			"decide/live-cold", "a live decision with its record, random people",
			decideTrial{live: true}.ready,
		},
		{
			"decide/tags", "1,000 offers whose rules are four conditions on tags each, cold",
			decideTrial{shown: catalogue{offers: 1000, placements: 16, tagged: true}}.ready,
		},
		{
			"decide/four-placements", "four placements in one request",
			decideTrial{slots: 4}.ready,
		},
		{"decide/unknown-users", "ids nobody has", decideTrial{unknown: true}.ready},
		{
			"decide/nothing-eligible", "10,000 offers in one placement, none of which fits",
			decideTrial{shown: catalogue{offers: 10_000, placements: 1, refused: true}}.ready,
		},
		{
			"decide/ten-caps", "ten caps apply to each offer, against the same without caps",
			tenCaps,
		},
		{"decide/use-open-hot", "a use in an open session, rows in the cache", useOpen{hot: true}.ready},
		{"decide/use-open-cold", "a use in an open session, random people", useOpen{}.ready},
		{"decide/use-first", "the first use of a session, which waits", firstOfSession},
		{"decide/cap-exhausted", "people whose one contact is used up", exhausted},
		{
			"decide/request-to-reply", "bytes of a request to bytes of a reply, without HTTP",
			requestToReply,
		},
	}
}

func peopleWorkloads() []workload {
	return []workload{
		{
			"audience/eight-tags", "count of people with eight conditions on tags and attributes",
			eightAtoms,
		},
		{
			"audience/five-atoms", "count of a rule of five conditions, one of them on events",
			fiveAtoms,
		},
		{"audience/ids", "ids of an audience, one by one", audienceIDs},
	}
}

func writeWorkloads() []workload {
	return []workload{
		{"ingest/batched", "events in batches that become durable together", ingestBatched},
		{"ingest/tags", "tags put on and taken away, in batches", tagsChanged},
		{"ingest/single", "one event, durable before its answer", ingestSingle},
		{"mixed/decide-under-ingest", "decisions while events are taken in", underIngest},
		{"mixed/decide-p99-under-ingest", "their p99 by the wall", latencyUnderIngest},
		{"publish/known-conditions", "a changed lever, until decisions see it", publishKnown},
		{"publish/new-condition", "a rule with a condition nobody has asked before", publishNew},
		{"memory/resident", "resident bytes a person", resident},
		{"memory/gc", "one full collection with the population in memory", fullGC},
	}
}
