package backup

import (
	"context"
	"time"
)

// pace spreads bytes over time and ends with its context. A nil pace does neither.
type pace struct {
	ctx   context.Context
	rate  int64 // bytes a second; 0 = as fast as it goes
	begun time.Time
	spent int64
	tell  func(bytes int64) // hears of all bytes, may be nil
}

func newPace(ctx context.Context, rate int64, tell func(int64)) *pace {
	return &pace{ctx: ctx, rate: rate, begun: time.Now(), tell: tell}
}

// spend waits until n more bytes are due.
func (p *pace) spend(n int64) error {
	if p == nil {
		return nil
	}
	if err := p.ctx.Err(); err != nil {
		return context.Cause(p.ctx)
	}
	p.spent += n
	if p.tell != nil {
		p.tell(p.spent)
	}
	if p.rate <= 0 {
		return nil
	}
	due := p.begun.Add(time.Duration(float64(p.spent) / float64(p.rate) * float64(time.Second)))
	wait := time.Until(due)
	if wait <= 0 {
		if wait < -time.Second { // a pause of the caller's is not made up for
			p.begun = p.begun.Add(-wait - time.Second)
		}
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// due ends what has been cancelled.
func (p *pace) due() error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	return nil
}
