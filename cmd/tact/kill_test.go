package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// killShop has one offer under each kind of cap that the load uses.
const killShop = `kind: workspace
id: default
---
kind: attribute
id: step
type: int
---
kind: event
id: stepped
properties: {n: {type: int, indexed: true}}
---
kind: offer
id: decided
group: decided
message_class: marketing
treatments: [{id: web, channel: web, placements: [decided], content: {type: text, body: "d"}}]
---
kind: offer
id: shown
group: shown
message_class: marketing
treatments: [{id: web, channel: web, placements: [shown], content: {type: text, body: "s"}}]
---
kind: offer
id: stock
group: stock
message_class: marketing
treatments: [{id: web, channel: web, placements: [stock], content: {type: text, body: "t"}}]
---
kind: decision_policy
id: all
ranking: {by: product}
---
kind: placement
sticky: none
id: decided
channel: web
policy: all
---
kind: placement
sticky: none
id: shown
channel: web
policy: all
---
kind: placement
sticky: none
id: stock
channel: web
policy: all
---
kind: cap
id: forty_in_stock
scope: total
per: offer
applies_to: {offers: {groups: [stock]}}
count_on: accept
window: lifetime
limit: 40
---
kind: cap
id: decided_three_times
scope: person
per: offer
applies_to: {offers: {groups: [decided]}}
count_on: decision
window: {rolling: 24h}
limit: 3
---
kind: cap
id: shown_three_times
scope: person
per: offer
applies_to: {offers: {groups: [shown]}}
count_on: impression
window: {rolling: 24h}
limit: 3
hold: 24h
`

// The limit of both caps, and how much each worker does to one person before it
// takes another: fewer events than a tail holds.
const (
	killLimit   = 3
	killStock   = 40 // accepts of one offer, by everybody together
	killSteps   = 12
	killWorkers = 16
	killShared  = 40 // people whom all workers decide for
)

// kills says how often the server is killed: 5, or TACT_KILLS.
func kills(t *testing.T) int {
	text := os.Getenv("TACT_KILLS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TACT_KILLS=%s: a number above 0 is expected", text)
	}
	return n
}

// killPause is how long the server lives: a second when many kills are asked for,
// and else less.
func killPause(random *rand.Rand) time.Duration {
	if os.Getenv("TACT_KILLS") != "" {
		return time.Duration(900+random.IntN(200)) * time.Millisecond
	}
	return time.Duration(80+random.IntN(500)) * time.Millisecond
}

// reportRun says in $TACT_REPORT, a file, how far a long run has come.
func reportRun(t *testing.T, name string, done, goal int) {
	path := os.Getenv("TACT_REPORT")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s: %d of %d done\n", name, done, goal)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// Whatever was answered with 2xx is there after kill -9 at any instant, once,
// and no cap is exceeded.
func TestKillUnderLoad(t *testing.T) {
	data, config := t.TempDir(), folder(t, map[string]string{"shop.yaml": killShop})
	address := freeAddress(t)
	l := &load{t: t, base: "http://" + address, key: "kill-test-admin-key"}
	for i := range killWorkers {
		l.workers = append(l.workers, &killWorker{load: l, number: i})
	}
	serve := func() *running {
		r := start(t, []string{keyVariable + "=" + l.key}, "serve", "--data", data,
			"--config", config, "--listen", address)
		r.wait(r.stdout, "serving at")
		return r
	}
	random := rand.New(rand.NewPCG(1, 2))
	rounds := kills(t)
	var ready []time.Duration // of starts on what a kill has left
	longest := ""             // what the longest of them says of itself
	started := func(r *running, begun time.Time) {
		took := time.Since(begun)
		line, ok := r.stderr.line("the store is open")
		if ok && (len(ready) == 0 || took > slices.Max(ready)) {
			longest = line
		}
		ready = append(ready, took)
	}
	for round := range rounds {
		begun := time.Now()
		r := serve()
		if round > 0 {
			started(r, begun)
		}
		l.checkEnd(r, round)
		l.run(func() { time.Sleep(killPause(random)); l.await() },
			func() { _ = r.cmd.Process.Kill(); <-r.ended })
		if t.Failed() {
			t.Fatalf("round %d\nstderr: %s", round+1, r.stderr)
		}
		reportRun(t, "kill -9 under load", round+1, rounds)
	}
	begun := time.Now()
	r := serve()
	started(r, begun)
	l.checkEnd(r, rounds)
	for _, w := range l.workers {
		w.finish()
	}
	l.check()
	r.end(syscall.SIGTERM)
	if out, logs, code := tact(t, "doctor", data); code != exitOK {
		t.Errorf("what %d kills have left: exit code %d: %s%s", rounds, code, out, logs)
	}
	if t.Failed() {
		t.Logf("stderr: %s", r.stderr)
	}
	t.Logf("%d kills; acknowledged: %d users, %d events, %d grants, %d outcomes; in doubt and "+
		"sent again: %d; answered again as before the kill: %d", rounds, l.users.Load(),
		l.events.Load(), l.grants.Load(),
		l.impressions.Load()+l.clicks.Load()+l.accepts.Load(), l.doubts.Load(), l.repeats.Load())
	slices.Sort(ready)
	t.Logf("ready again, from the start of the process to the first answer: median %v, longest %v "+
		"of %d; the longest: %s", ready[len(ready)/2], ready[len(ready)-1], len(ready), longest)
	if l.users.Load() == 0 || l.grants.Load() == 0 || l.clicks.Load() == 0 ||
		l.accepts.Load() == 0 || l.repeats.Load() == 0 {
		t.Error("the load did nothing")
	}
}

// load is what all workers share.
type load struct {
	t       *testing.T
	base    string
	key     string
	workers []*killWorker
	stop    atomic.Bool
	shared  [killShared]struct{ decided, shown atomic.Int32 }

	users, events, grants, impressions, clicks, accepts, doubts, repeats atomic.Int64
}

// run lets the workers work until pause is over, ends the server while they do,
// and waits for them.
func (l *load) run(pause, end func()) {
	l.stop.Store(false)
	var all sync.WaitGroup
	for _, w := range l.workers {
		all.Go(w.work)
	}
	pause()
	end()
	l.stop.Store(true)
	all.Wait()
}

// await waits until some worker has a decision that is to be answered again after
// the kill. A worker comes to one with every new person.
func (l *load) await() {
	knows := func(w *killWorker) bool { return w.knows.Load() }
	for i := 0; !slices.ContainsFunc(l.workers, knows); i++ {
		if i == 60_000 {
			l.t.Error("nobody was given anything within a minute")
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// killWorker sends one request after another. A request without an answer is in
// doubt: it is sent again after the restart, with the same ids.
type killWorker struct {
	load   *load
	number int
	person int
	step   int
	next   int  // request of the step
	doubt  bool // it was sent without an answer
	token  string
	seen   []killPerson
	asked  int         // request_ids given
	last   string      // the last decision that gave an item which a cap holds
	of     string      // its person
	answer string      // its decision_id
	later  int         // requests about that person since
	knows  atomic.Bool // last is there
}

// killPerson is what the server acknowledged for one person.
type killPerson struct {
	id             string
	step           int
	events         map[int]bool
	decided, shown int // grants acknowledged
}

var (
	errNoAnswer = errors.New("no answer")
	errNoStock  = errors.New("the stock is used up")
)

func (l *load) send(path, body string) (string, error) {
	req, err := http.NewRequest("POST", l.base+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+l.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", errNoAnswer
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", errNoAnswer
	}
	if res.StatusCode/100 == 5 {
		return "", errNoAnswer // in doubt, as the body says
	}
	if res.StatusCode == http.StatusConflict && strings.Contains(string(text), "capped_total") {
		return "", errNoStock
	}
	if res.StatusCode/100 != 2 {
		l.t.Errorf("%s %s: status %d: %s", path, body, res.StatusCode, text)
		return "", errNoAnswer
	}
	return string(text), nil
}

func (w *killWorker) current() *killPerson {
	if len(w.seen) == 0 || w.step == killSteps {
		w.step = 0
		w.person++
		w.seen = append(w.seen, killPerson{
			id: fmt.Sprintf("w%d-%d", w.number, w.person), events: map[int]bool{},
		})
	}
	return &w.seen[len(w.seen)-1]
}

func (w *killWorker) work() {
	w.again()
	for !w.load.stop.Load() {
		if !w.one() {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// again sends the last decision that was answered before the kill: its answer must
// be the same.
func (w *killWorker) again() {
	if w.last == "" {
		return
	}
	text, ok := w.sent("/v1/decide", w.last, nil)
	if !ok {
		return // killed again: the next life is asked
	}
	if id := decisionOf(w.load.t, text); id != w.answer {
		w.load.t.Errorf("%s was answered as %s, and after a kill as %s", w.last, w.answer, id)
	}
	w.load.repeats.Add(1)
}

func decisionOf(t *testing.T, text string) string {
	var reply struct {
		ID string `json:"decision_id"`
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil || reply.ID == "" {
		t.Errorf("%v: no decision_id in %s", err, text)
	}
	return reply.ID
}

// finish sends what is in doubt once more, and goes on to the end of a step, so
// that everything is acknowledged.
func (w *killWorker) finish() {
	w.again()
	for range 100 {
		if w.next == 0 && !w.doubt {
			return
		}
		w.one()
	}
	w.load.t.Errorf("worker %d: no answer after the last restart", w.number)
}

// one sends the next request. A step is: user, event, two decisions, an
// impression and a click for what was shown, a decision and an accept of what is
// in stock, and a decision for a shared person.
func (w *killWorker) one() bool {
	p := w.current()
	var ok bool
	switch w.next {
	case 0:
		_, ok = w.sent("/v1/users", fmt.Sprintf(
			`{"user_id":%q,"attributes":{"step":%d}}`, p.id, w.step+1), &w.load.users)
		if ok {
			p.step = w.step + 1
		}
	case 1:
		_, ok = w.sent("/v1/events", fmt.Sprintf(
			`{"event_id":"%s-%d","user_id":%q,"event":"stepped","properties":{"n":%d}}`,
			p.id, w.step, p.id, w.step), &w.load.events)
		if ok {
			p.events[w.step] = true
		}
	case 2:
		_, ok = w.decide(p.id, "decided", &p.decided)
	case 3:
		w.token, ok = w.decide(p.id, "shown", &p.shown)
	case 4:
		ok = w.outcome(p, "impression", &w.load.impressions)
	case 5:
		ok = w.outcome(p, "click", &w.load.clicks)
	case 6:
		w.token, ok = w.decide(p.id, "stock", new(int))
	case 7:
		ok = w.outcome(p, "accept", &w.load.accepts)
	default:
		ok = w.decideShared()
	}
	if w.doubt = !ok; w.doubt {
		w.load.doubts.Add(1)
		return false
	}
	if w.next++; w.next > 8 {
		w.next = 0
		w.step++
	}
	return true
}

func (w *killWorker) sent(path, body string, acknowledged *atomic.Int64) (string, bool) {
	text, err := w.load.send(path, body)
	if err != nil {
		return "", errors.Is(err, errNoStock) // an answer, but no unit
	}
	if acknowledged != nil {
		acknowledged.Add(1)
	}
	return text, true
}

// decide asks live, counts a grant, and gives its token. A grant that was not
// answered may have used the cap: that is for the cap to know.
func (w *killWorker) decide(person, placement string, grants *int) (string, bool) {
	body := fmt.Sprintf(`{"request_id":"w%d-%d","user":{"user_id":%q},`+
		`"placements":[{"key":"p","placement_id":%q}],"timeout_us":500000}`,
		w.number, w.asked, person, placement)
	if person == w.of {
		if w.later++; w.later > 3 {
			w.last = "" // a person's last four are remembered
			w.knows.Store(false)
		}
	}
	text, ok := w.sent("/v1/decide", body, nil)
	if !ok {
		return "", false // and is sent again as it is
	}
	w.asked++
	var reply struct {
		Placements map[string]struct {
			Items []struct {
				Token string `json:"tracking_token"`
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		w.load.t.Errorf("%v in %s", err, text)
		return "", false
	}
	items := reply.Placements["p"].Items
	if placement != "stock" && !strings.HasPrefix(person, "shared") && len(items) > 0 {
		w.last, w.of, w.answer, w.later = body, person, decisionOf(w.load.t, text), 0
		w.knows.Store(true)
	}
	if len(items) == 0 {
		return "", true
	}
	w.load.grants.Add(1)
	if *grants++; *grants > killLimit {
		w.load.t.Errorf("%s got %d grants at %s, the limit is %d", person, *grants, placement,
			killLimit)
	}
	return items[0].Token, true
}

// outcome reports on the item of this step, if there was one.
func (w *killWorker) outcome(p *killPerson, outcome string, acknowledged *atomic.Int64) bool {
	if w.token == "" {
		return true
	}
	_, ok := w.sent("/v1/outcomes", fmt.Sprintf(
		`{"event_id":"%s-%d-%s","tracking_token":%q,"outcome":%q}`, p.id, w.step, outcome, w.token,
		outcome), acknowledged)
	return ok
}

// decideShared decides for a person whom the other workers decide for too.
func (w *killWorker) decideShared() bool {
	i := rand.IntN(killShared)
	shared := &w.load.shared[i]
	placement, count := "decided", &shared.decided
	if rand.IntN(2) == 0 {
		placement, count = "shown", &shared.shown
	}
	granted := 0
	_, ok := w.decide(fmt.Sprintf("shared-%d", i), placement, &granted)
	if n := count.Add(int32(granted)); n > killLimit {
		w.load.t.Errorf("shared-%d got %d grants at %s, the limit is %d", i, n, placement, killLimit)
	}
	return ok
}

// check compares everything that was acknowledged with what the server holds.
func (l *load) check() {
	for _, w := range l.workers {
		for i := range w.seen {
			l.checkPerson(&w.seen[i])
		}
	}
	var stats struct {
		Rows []struct {
			What    string
			Variant string
			N       int64
		}
	}
	l.read("/v1/stats", &stats)
	got := map[string]int64{}
	for _, row := range stats.Rows {
		if row.Variant == "" {
			got[row.What] += row.N
		}
	}
	f := func(what string, acknowledged int64) {
		if got[what] != acknowledged {
			l.t.Errorf("stats: %s %d times, acknowledged were %d", what, got[what], acknowledged)
		}
	}
	f("impression", l.impressions.Load())
	f("click", l.clicks.Load())
	f("accept", l.accepts.Load())
	if n := l.accepts.Load(); n > killStock {
		l.t.Errorf("%d accepts of a stock of %d", n, killStock)
	}
}

// checkPerson looks at the attribute, the events, and that full caps are full.
// checkEnd looks for what a start says of the end before it: that of a kill is not in
// order, and said in the log too.
func (l *load) checkEnd(r *running, kills int) {
	var nodes struct {
		Nodes []struct {
			LastEnd struct {
				Clean bool
				Epoch int
				Until time.Time
			} `json:"last_end"`
		}
	}
	l.read("/v1/nodes", &nodes)
	if len(nodes.Nodes) != 1 {
		l.t.Errorf("after %d kills: %d nodes", kills, len(nodes.Nodes))
		return
	}
	end := nodes.Nodes[0].LastEnd
	if end.Clean != (kills == 0) || end.Epoch != kills ||
		kills > 0 && time.Since(end.Until).Abs() > time.Hour {
		l.t.Errorf("after %d kills: last_end %+v", kills, end)
	}
	const warning = "the last end was not clean"
	if said := strings.Contains(r.stderr.String(), warning); said != (kills > 0) {
		l.t.Errorf("after %d kills: the log says that the end was not clean: %v", kills, said)
	}
}

func (l *load) checkPerson(p *killPerson) {
	if p.step == 0 {
		return
	}
	var user struct {
		Attributes struct{ Step int }
		Events     []struct {
			Event      string
			Properties struct{ N int }
		}
	}
	l.read("/v1/users/"+p.id, &user)
	if user.Attributes.Step != p.step {
		l.t.Errorf("%s: step %d, acknowledged was %d", p.id, user.Attributes.Step, p.step)
	}
	times := map[int]int{}
	for _, e := range user.Events {
		if e.Event == "stepped" {
			times[e.Properties.N]++
		}
	}
	for n := range p.events {
		if times[n] != 1 {
			l.t.Errorf("%s: event %d is there %d times", p.id, n, times[n])
		}
	}
	w := killWorker{load: l}
	for placement, grants := range map[string]*int{"decided": &p.decided, "shown": &p.shown} {
		for range killLimit + 1 { // an error is raised by decide itself
			if _, ok := w.decide(p.id, placement, grants); !ok {
				l.t.Errorf("%s: no decision at %s", p.id, placement)
			}
		}
	}
}

func (l *load) read(path string, into any) {
	status, body := request(l.t, "GET", l.base+path, l.key, "")
	if status != 200 {
		l.t.Errorf("%s: status %d: %s", path, status, body)
		return
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(body)))
	if err := dec.Decode(into); err != nil {
		l.t.Errorf("%s: %v in %s", path, err, body)
	}
}
