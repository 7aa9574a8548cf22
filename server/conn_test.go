package server

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// counted counts how often a connection's deadlines are set.
type counted struct {
	net.Conn
	reads, writes, closes int
	last                  time.Time
}

func (c *counted) SetReadDeadline(t time.Time) error {
	c.reads, c.last = c.reads+1, t
	return nil
}

func (c *counted) SetWriteDeadline(t time.Time) error {
	c.writes, c.last = c.writes+1, t
	return nil
}

func (c *counted) Read(p []byte) (int, error)  { return len(p), nil }
func (c *counted) Write(p []byte) (int, error) { return len(p), nil }

// A connection is told of a deadline when something waits for it, and when it is
// another one by more than slack.
func TestDeadlinesReachTheConnectionWhenTheyMatter(t *testing.T) {
	const (
		slack = 30 * time.Millisecond
		sec   = time.Second
		read  = time.Duration(-1) // a step that reads
		never = time.Duration(-2) // a step that takes the deadline away
	)
	for name, f := range map[string]struct {
		steps []time.Duration // deadlines that are set, since the connection began
		calls int             // that reach it
		last  time.Duration
	}{
		"none":           {[]time.Duration{read, read}, 0, 0},
		"never read":     {[]time.Duration{sec, 2 * sec}, 0, 0},
		"one":            {[]time.Duration{sec, read, read}, 1, sec},
		"a little later": {[]time.Duration{sec, read, sec + slack, read}, 1, sec},
		"later":          {[]time.Duration{sec, read, sec + 2*slack, read}, 2, sec + 2*slack},
		"little by little": {
			[]time.Duration{sec, read, sec + slack, read, sec + slack + 1, read}, 2, sec + slack + 1,
		},
		"a little earlier":   {[]time.Duration{sec, read, sec - 1, read}, 2, sec - 1},
		"of a whole request": {[]time.Duration{9 * sec, read, sec, 9*sec + slack, read}, 1, 9 * sec},
		"of a part":          {[]time.Duration{9 * sec, read, sec, read, 9 * sec, read}, 3, 9 * sec},
		"taken away":         {[]time.Duration{sec, read, never, read}, 2, never},
		"away, never read":   {[]time.Duration{sec, read, never}, 1, sec},
	} {
		t.Run(name, func(t *testing.T) {
			under := &counted{}
			c := &conn{Conn: under, begun: time.Now(), slack: slack}
			for _, s := range f.steps {
				var err error
				switch s {
				case read:
					_, err = c.Read(make([]byte, 1))
				case never:
					err = c.SetReadDeadline(time.Time{})
				default:
					err = c.SetReadDeadline(c.begun.Add(s))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if under.reads != f.calls || under.writes != 0 {
				t.Errorf("%d read and %d write deadlines reached the connection, want %d and 0",
					under.reads, under.writes, f.calls)
			}
			want := c.begun.Add(f.last)
			if f.last == never {
				want = time.Time{}
			}
			if f.calls > 0 && !under.last.Equal(want) {
				t.Errorf("it has %v, want %v", under.last, want)
			}
		})
	}
}

// A deadline that another goroutine sets ends a read or a write under way.
func TestADeadlineEndsWhatWaits(t *testing.T) {
	for name, f := range map[string]struct {
		wait func(*conn) error
		end  func(*conn, time.Time) error
	}{
		"read": {
			func(c *conn) error { _, err := c.Read(make([]byte, 1)); return err },
			(*conn).SetReadDeadline,
		},
		"write": {
			func(c *conn) error { _, err := c.Write(make([]byte, 1)); return err },
			(*conn).SetWriteDeadline,
		},
		"both": {
			func(c *conn) error { _, err := c.Read(make([]byte, 1)); return err },
			(*conn).SetDeadline,
		},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			c := &conn{Conn: near, begun: time.Now(), slack: time.Millisecond}
			_ = c.SetDeadline(time.Now().Add(time.Hour))
			ended := make(chan error)
			go func() { ended <- f.wait(c) }()
			for !c.reading.waiting.Load() && !c.writing.waiting.Load() {
				time.Sleep(time.Millisecond)
			}
			if err := f.end(c, time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("it ended with %v", err)
			}
		})
	}
}

// Every timeout is far above the slack of its connection.
func TestSlackIsShort(t *testing.T) {
	o := Options{AdminKey: "0123456789abcdef", ReadTimeout: 80 * time.Millisecond}
	if err := o.normalise(); err != nil {
		t.Fatal(err)
	}
	if got := o.slack(); got != 10*time.Millisecond {
		t.Errorf("slack %v of a shortest timeout of 80ms", got)
	}
}
