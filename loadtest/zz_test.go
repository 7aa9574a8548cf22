package loadtest
import ("testing";"time")
func TestZZ(t *testing.T) {
	address := serve(t, fine)
	for i := range 6 {
	o := quick(address)
	o.Duration = time.Second
	run := measured(t, perform(t, o))
	t.Logf("%d took %v max %s late max %s good %d timeouts %d unsent %d waited %d reconn %d", i, time.Duration(run.Took), short(run.Latency.Max), short(run.Health.Lateness.Max), run.Good, run.Timeouts, run.Unsent, run.Waited, run.Reconnected)
	}
}
