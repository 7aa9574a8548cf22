package engine

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/anishathalye/porcupine"

	"tact/storage"
)

// Merges and splits in the histories of TestLinearizable. Nothing above the store
// knows of them yet: the clients here are the layer that sends what comes for a person
// who was taken in to the survivor.

// linCouple is two people whom merges may unite: users 2n and 2n+1.
type linCouple struct {
	sync.Mutex           // one merge or split at a time
	inDoubt    *linInput // nobody was answered: made again after the start
	move       *linInput // the last one that was answered
}

// linRoute says to whom what comes for a person is sent.
type linRoute struct {
	sync.RWMutex // held while something is under way for the person
	into         int
	unsure       bool // nobody knows: nothing is sent before the start
}

// at returns who is asked for user i, and holds the route until done is called; false
// when nobody knows whether the user was taken in.
func (l *lin) at(i int) (target int, done func(), ok bool) {
	r := &l.routes[i]
	r.RLock()
	return r.into, r.RUnlock, !r.unsure
}

// side is which one of its couple a user is.
func side(user int) uint8 { return uint8(user & 1) }

// move merges a couple, or splits one that is united, while others go on asking.
func (l *lin) move(couple int, rng *rand.Rand) {
	c := &l.couples[couple]
	c.Lock()
	defer c.Unlock()
	if l.apart || !l.seen() || c.inDoubt != nil {
		return
	}
	in := linInput{kind: linMerge, side: uint8(rng.IntN(2))}
	if c.move != nil && c.move.kind == linMerge {
		in = *c.move // once more
		if rng.IntN(3) > 0 {
			in.kind = linSplit
		}
	}
	l.moveAs(couple, in)
}

// moveAs makes a merge or split. Nothing is asked of the one that is taken in or given
// back meanwhile; the couple is locked.
func (l *lin) moveAs(couple int, in linInput) {
	c := &l.couples[couple]
	survivor := 2*couple + int(in.side)
	other := survivor ^ 1
	r := &l.routes[other]
	r.Lock()
	defer r.Unlock()
	a, ok := l.e.find([]byte(l.user(survivor)))
	b, known := l.e.find([]byte(l.user(other)))
	if !ok || !known {
		return
	}
	call := l.ticks.Add(1)
	var err error
	if in.kind == linMerge {
		err = l.e.store.MergeContacts(a, b, math.MaxUint32, l.e.clock.Now())
	} else {
		err = l.e.store.SplitContacts(a, b, nil, l.e.clock.Now())
	}
	ret := l.ticks.Add(1)
	known = err == nil
	if cut := l.cut.Load(); cut != 0 && ret > cut {
		known = false
	}
	switch {
	case errors.Is(err, storage.ErrTooLarge):
		return // nothing has changed
	case err != nil && l.seen():
		l.fail("merge or split: %w", err)
		return
	}
	l.recordMove(other, in, call, ret, known)
	if r.unsure = !known; !known {
		c.inDoubt = &in
		return
	}
	c.inDoubt, c.move, r.into = nil, &in, other
	if in.kind == linMerge {
		r.into = survivor
	}
}

// recordMove enters a merge or split into the histories of the couple's counters, and
// into that of everybody's, as that requests of the other may be decided anew.
func (l *lin) recordMove(other int, in linInput, call, ret int64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := linOutput{unknown: !known}
	if in.kind == linMerge {
		l.n.merges++
	} else {
		l.n.splits++
	}
	if !known {
		l.n.movesInDoubt++
	}
	enter := func(counter string, in linInput) {
		l.n.ops++
		l.ops[counter] = append(l.ops[counter], porcupine.Operation{
			Input: in, Output: out, Call: call, Return: ret,
		})
	}
	for _, offer := range []string{"p0", "p1", "s0"} {
		enter(l.counter(other, offer), in)
	}
	enter(l.everybodys(), linInput{kind: linForget, id: l.rememberedBy(other)})
}

// rememberedBy ends the name of a request in everybody's history: each person remembers
// requests of their own.
func (l *lin) rememberedBy(user int) string { return "@" + l.user(user) }

// settle makes every merge and split that was under way at the end of the process once
// more, as whoever had asked for it would.
func (l *lin) settle() error {
	for i := range l.couples {
		c := &l.couples[i]
		c.Lock()
		if in := c.inDoubt; in != nil {
			c.inDoubt = nil
			l.routes[2*i+int(1-in.side)].unsure = false
			l.moveAs(i, *in)
		}
		c.Unlock()
		if c.inDoubt != nil {
			return fmt.Errorf("a merge or split is in doubt again: %+v", *c.inDoubt)
		}
	}
	return l.fault
}

// part forgets all merges: there are new people.
func (l *lin) part() {
	for i := range l.couples {
		l.couples[i].inDoubt, l.couples[i].move = nil, nil
	}
	for i := range l.routes {
		l.routes[i].into, l.routes[i].unsure = i, false
	}
}

// sendTo returns the token as it names the one who was taken in by the survivor.
func (l *lin) sendTo(text []byte, survivor int) ([]byte, error) {
	var t token
	var scratch tokenScratch
	if err := l.e.sealer.Open(text, &t, &scratch); err != nil {
		return nil, err
	}
	ref, ok := l.e.find([]byte(l.user(survivor)))
	if !ok {
		return nil, fmt.Errorf("%s is not there", l.user(survivor))
	}
	t.Person = ref
	return l.e.sealer.Append(nil, &t, &scratch), nil
}
