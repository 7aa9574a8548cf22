// Package bench owns `tact bench`: named workloads over one made-up population,
// each figure taken in turns with a reference of the same run, and documents of
// figures that can be kept, compared and shown.
//
// Laws, each with a test:
//  1. A figure is a ratio: own time and the time of its reference are taken in
//     turns, at least five times, on one thread where the work allows it; the
//     least and the median of the pairs are both said. Counts stand alone.
//  2. Processor time beside wall time: what another machine takes of this one
//     is seen, and a figure during which more than a tenth was taken says that
//     it was not measured.
//  3. Nothing is claimed that was not run: a document says how many workloads
//     were planned and how many were done.
//  4. A comparison says "no difference" unless the interval of the ratio leaves
//     1 out.
//
// Path: Run loads the population, then each workload of the plan sets the
// definitions it needs, and a trial alternates with its reference; Compare and
// WriteHTML read documents alone.
//
// Cost: `--quick` two minutes, three at most on a busy machine, for which figures have
// three pairs then and the last ones none; the whole half an hour, most of it the loading of
// the population.
package bench
