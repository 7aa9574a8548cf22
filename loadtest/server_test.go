package loadtest

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// serve answers on a port of its own until the test ends.
func serve(t *testing.T, handler fasthttp.RequestHandler) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fasthttp.Server{Handler: handler, NoDefaultServerHeader: true, CloseOnShutdown: true}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.ShutdownWithContext(ctx); err != nil && !errors.Is(err, ctx.Err()) {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func fine(ctx *fasthttp.RequestCtx) { ctx.SetBodyString(`{"placements":{}}`) }

// quick are options of a test that is over soon. The timeout is one that a busy
// machine does not reach.
func quick(address string) Options {
	return Options{
		Address: address, Rate: 1000, Duration: 200 * time.Millisecond, WarmUp: -1,
		Timeout: 20 * time.Second, Connections: 16, Step: 200 * time.Millisecond,
	}
}

func perform(t *testing.T, o Options) *Result {
	t.Helper()
	r, err := Perform(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func measured(t *testing.T, r *Result) *Run {
	t.Helper()
	for _, run := range r.Runs {
		if run.Label == "measured" {
			return run
		}
	}
	t.Fatal("no measured run")
	return nil
}

// A constant rate sends exactly rate × time requests, each counted once.
func TestExactCount(t *testing.T) {
	f := func(change func(o *Options), arrivals, requests int64) {
		t.Helper()
		var seen atomic.Int64
		address := serve(t, func(ctx *fasthttp.RequestCtx) { seen.Add(1); fine(ctx) })
		o := quick(address)
		change(&o)
		run := measured(t, perform(t, o))
		if run.Issued != arrivals || run.Intended != arrivals || run.Dropped != 0 {
			t.Errorf("issued %d, intended %d, dropped %d; want %d, none dropped", run.Issued,
				run.Intended, run.Dropped, arrivals)
		}
		if run.Latency.Count != requests || run.Good != requests || seen.Load() != requests {
			t.Errorf("%d samples, %d good, the server saw %d; want %d", run.Latency.Count, run.Good,
				seen.Load(), requests)
		}
	}
	f(func(*Options) {}, 200, 200)
	f(func(o *Options) { o.Pacers = 3 }, 200, 200)
	f(func(o *Options) { o.Share = Share{2, 3} }, 67, 67)
	f(func(o *Options) { o.Scenario.Name = ReadWrites }, 200, 400)
	f(func(o *Options) { o.Scenario.Name = Batch; o.Scenario.Lines = 300; o.Rate = 100 }, 20, 20)
	f(func(o *Options) { o.Churn = 1 }, 200, 200)
	f(func(o *Options) { o.Churn = 3; o.Connections = 2 }, 200, 200)
	f(func(o *Options) {
		o.Mode, o.Burst = Bursts, Burst{5, 100 * time.Millisecond, 25 * time.Millisecond}
	}, 400, 400)
}

// A server that freezes shows every request that was due meanwhile, although one
// connection alone could not have sent them: of a second, half was frozen.
func TestCoordinatedOmission(t *testing.T) {
	var seen atomic.Int64
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		if seen.Add(1) == 100 {
			time.Sleep(500 * time.Millisecond)
		}
		fine(ctx)
	})
	o := quick(address)
	o.Connections, o.Duration, o.Rate = 1, time.Second, 500
	run := measured(t, perform(t, o))
	if run.Latency.Count != 500 {
		t.Fatalf("%d samples", run.Latency.Count)
	}
	h, err := run.Latency.histogram()
	if err != nil {
		t.Fatal(err)
	}
	// Waits fall evenly from 500 ms to 0 over 250 requests. A closed loop would
	// show one sample above 100 ms, and a p90 of microseconds.
	if p999 := time.Duration(run.Latency.P999); p999 < 450*time.Millisecond {
		t.Errorf("p99.9 is %v", p999)
	}
	if p70 := time.Duration(h.ValueAtQuantile(70)); p70 < 50*time.Millisecond {
		t.Errorf("p70 is %v: the requests that waited are left out", p70)
	}
	if run.Waited < 100 {
		t.Errorf("%d waited for the connection", run.Waited)
	}
}

// A request without a reply counts, at no less than the timeout; one that could
// not even be sent too.
func TestTimeoutsCount(t *testing.T) {
	release := make(chan struct{})
	address := serve(t, func(ctx *fasthttp.RequestCtx) { <-release; fine(ctx) })
	t.Cleanup(func() { close(release) })
	o := quick(address)
	o.Connections, o.Timeout, o.Rate = 4, 100*time.Millisecond, 200
	run := measured(t, perform(t, o))
	if run.Timeouts != 40 || run.Latency.Count != 40 || run.Good != 0 || run.Broken != 0 {
		t.Errorf("%d timeouts, %d samples, %d good, %d broken; want 40 timeouts", run.Timeouts,
			run.Latency.Count, run.Good, run.Broken)
	}
	if run.Unsent == 0 {
		t.Error("four connections sent everything")
	}
	if least := time.Duration(run.Latency.Min); least < 99*time.Millisecond {
		t.Errorf("a timeout counts as %v", least)
	}
}

// Quick refusals do not flatter the distribution.
func TestRefusalsAreApart(t *testing.T) {
	var seen atomic.Int64
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		if seen.Add(1)%4 == 0 {
			ctx.SetStatusCode(429)
			return
		}
		fine(ctx)
	})
	run := measured(t, perform(t, quick(address)))
	if run.Refused.Count != 50 || run.Latency.Count != 150 || run.Status["429"] != 50 ||
		run.Status["200"] != 150 {
		t.Errorf("%d refused, %d samples, status %v", run.Refused.Count, run.Latency.Count, run.Status)
	}
}

// A test in which no reply was good is void, in every mode, and says what came
// instead. One whose server bears some of the load is not, however little.
func TestNoGoodReplyIsVoid(t *testing.T) {
	refuse := serve(t, func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(401) })
	hasty := serve(t, fine)
	bare := func(context.Context, int) (FloorServer, error) {
		return FloorServer{Address: hasty, Stop: func() error { return nil }}, nil
	}
	f := func(mode Mode, change func(o *Options)) {
		t.Helper()
		o := quick(refuse)
		o.Mode = mode
		if change != nil {
			change(&o)
		}
		r := perform(t, o)
		if text := strings.Join(r.Void, "; "); !strings.Contains(text, "no reply was good") ||
			!strings.Contains(text, "with status 401 (the key is missing or wrong)") {
			t.Errorf("%s is void for %q", mode, text)
		}
	}
	f(AtRate, nil)
	f(AtRate, func(o *Options) { o.Load, o.MaxRequests = 0.1, 20_000_000 })
	f(AtRate, func(o *Options) { o.Floor = bare })
	f(Bursts, nil)
	f(Soak, nil)
	f(Saturate, nil)
	f(Step, nil)
	f(Search, nil)
	f(Overload, nil)
	f(Overload, func(o *Options) { o.Capacity, o.Multiple = 100, []float64{1, 2} })
	var seen atomic.Int64
	some := serve(t, func(ctx *fasthttp.RequestCtx) {
		if seen.Add(1)%10 == 0 {
			fine(ctx)
			return
		}
		ctx.SetStatusCode(503)
	})
	for _, why := range perform(t, quick(some)).Void {
		if strings.Contains(why, "good") {
			t.Errorf("some replies were good: %s", why)
		}
	}
	o := quick(hasty)
	o.Scenario.Expect = "an offer"
	if text := strings.Join(perform(t, o).Void, "; "); !strings.Contains(text, "expected text") {
		t.Errorf("without the expected text it is void for %q", text)
	}
}

// Requests that the server's closing of an idle connection lost are sent again.
func TestClosedConnections(t *testing.T) {
	address := serve(t, func(ctx *fasthttp.RequestCtx) { ctx.SetConnectionClose(); fine(ctx) })
	run := measured(t, perform(t, quick(address)))
	if run.Good != 200 || run.Broken != 0 {
		t.Errorf("%d good, %d broken", run.Good, run.Broken)
	}
}

// The closed loop ends by count and by time.
func TestSaturationEnds(t *testing.T) {
	address := serve(t, fine)
	o := quick(address)
	o.Mode, o.MaxRequests = Saturate, 300
	o.Duration = 10 * time.Second
	run := measured(t, perform(t, o))
	if run.Issued != 300 || run.Good != 300 || !run.Closed {
		t.Errorf("issued %d, good %d", run.Issued, run.Good)
	}
	o.MaxRequests, o.Duration = 0, 100*time.Millisecond
	if run = measured(t, perform(t, o)); run.Issued < 16 || run.Good != run.Issued {
		t.Errorf("issued %d, good %d", run.Issued, run.Good)
	}
}

// A run that is cut short says so, and prints what it achieved.
func TestCutShort(t *testing.T) {
	address := serve(t, fine)
	o := quick(address)
	o.Duration = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	r, err := Perform(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	run := measured(t, r)
	if !run.Cut || run.Intended > 4000 || run.Issued == 0 || run.Span > int64(5*time.Second) {
		t.Errorf("cut %v, intended %d, issued %d", run.Cut, run.Intended, run.Issued)
	}
}

func TestExpectedText(t *testing.T) {
	var seen atomic.Int64
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/v1/decide" && seen.Add(1)%2 == 0 {
			ctx.SetBodyString("stale")
			return
		}
		ctx.SetBodyString("fresh")
	})
	o := quick(address)
	o.Scenario = Scenario{Name: ReadWrites, Expect: "fresh"}
	if run := measured(t, perform(t, o)); run.Unexpected != 100 {
		t.Errorf("%d without the text", run.Unexpected)
	}
}

func TestSlowClients(t *testing.T) {
	address := serve(t, fine)
	o := quick(address)
	o.Slow, o.SlowOver = 3, 80*time.Millisecond
	r := perform(t, o)
	if r.Slow == nil || r.Slow.Clients != 3 || r.Slow.Answered == 0 || r.Slow.Closed != 0 {
		t.Errorf("slow clients %+v", r.Slow)
	}
	if run := measured(t, r); run.Issued != 200 {
		t.Errorf("issued %d", run.Issued)
	}
}

// The requests of a log come in its order, again from the start at its end.
func TestRecordedLog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log.ndjson")
	log := `{"method":"GET","path":"/a?x=1"}` + "\n" +
		`{"method":"POST","path":"/b","body":{"k": 1}}` + "\n\n" +
		`{"method":"PUT","path":"/c","body":"text\n","content_type":"text/plain"}` + "\n"
	if err := os.WriteFile(name, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	counts := map[string]*atomic.Int64{}
	for _, want := range []string{
		"GET /a?x=1  ", `POST /b application/json {"k": 1}`, "PUT /c text/plain text\n",
	} {
		counts[want] = &atomic.Int64{}
	}
	var other atomic.Int64
	address := serve(t, func(ctx *fasthttp.RequestCtx) {
		got := string(ctx.Method()) + " " + string(ctx.RequestURI()) + " " +
			string(ctx.Request.Header.ContentType()) + " " + string(ctx.PostBody())
		if n := counts[got]; n != nil {
			n.Add(1)
			return
		}
		t.Logf("%q", got)
		other.Add(1)
	})
	o := quick(address)
	o.Rate = 450
	o.Scenario = Scenario{Name: Recorded, Log: name}
	run := measured(t, perform(t, o))
	for want, n := range counts {
		if n.Load() != 30 {
			t.Errorf("%q: %d times, want 30", want, n.Load())
		}
	}
	if other.Load() != 0 || len(run.Parts) != 3 || run.Parts["GET /a"].Count != 30 {
		t.Errorf("%d other requests, parts %v", other.Load(), len(run.Parts))
	}
}

func TestUnreachableAndRemote(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f := func(address string, want error) {
		t.Helper()
		o := quick(address)
		if _, err := Perform(context.Background(), o); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
	f(address, ErrUnreachable)
	f("http://192.0.2.1:80", ErrRemote)
	f("http://[2001:db8::1]:80", ErrRemote)
}
