package loadtest

import (
	"bufio"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// SlowResult is what slow clients met beside the load. Their requests are not
// in its figures.
type SlowResult struct {
	Clients  int   `json:"clients"`
	Begun    int64 `json:"begun"`    // requests
	Answered int64 `json:"answered"` // whole replies of any status
	Closed   int64 `json:"closed"`   // connections that the server ended before a reply
}

// slowClients send their requests in slowPieces with pauses, one after another.
type slowClients struct {
	result SlowResult
	begun  atomic.Int64
	done   atomic.Int64
	closed atomic.Int64
	stop   context.CancelFunc
	over   sync.WaitGroup
}

const slowPieces = 8

func startSlow(ctx context.Context, p *pool, n int, each time.Duration) *slowClients {
	s := &slowClients{result: SlowResult{Clients: n}}
	ctx, s.stop = context.WithCancel(ctx)
	for i := range n {
		s.over.Go(func() {
			for index := int64(i); ctx.Err() == nil; index += int64(n) {
				s.request(ctx, p, index, each)
			}
		})
	}
	return s
}

// request makes one request on a connection of its own.
func (s *slowClients) request(ctx context.Context, p *pool, index int64, each time.Duration) {
	s.begun.Add(1)
	sock, err := p.address.connect(ctx, p.timeout)
	if err != nil {
		pause(ctx, dialPause)
		s.closed.Add(1)
		return
	}
	defer sock.Close()
	defer context.AfterFunc(ctx, func() { _ = sock.Close() })()
	text, _ := p.target.append(nil, index, 0)
	for piece := range slowPieces {
		from, to := piece*len(text)/slowPieces, (piece+1)*len(text)/slowPieces
		if _, err := sock.Write(text[from:to]); err != nil {
			s.ended(ctx)
			return
		}
		if !pause(ctx, each/slowPieces) {
			return
		}
	}
	_ = sock.SetReadDeadline(time.Now().Add(p.timeout))
	var reply fasthttp.Response
	if err := reply.ReadLimitBody(bufio.NewReader(sock), maxReplyBytes); err != nil {
		s.ended(ctx)
		return
	}
	s.done.Add(1)
}

func (s *slowClients) ended(ctx context.Context) {
	if ctx.Err() == nil {
		s.closed.Add(1)
	}
}

// pause waits; false says that the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// end stops the clients; nil where there were none.
func (s *slowClients) end() *SlowResult {
	s.stop()
	s.over.Wait()
	if s.result.Clients == 0 {
		return nil
	}
	s.result.Begun, s.result.Answered, s.result.Closed = s.begun.Load(), s.done.Load(), s.closed.Load()
	return &s.result
}
