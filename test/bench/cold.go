package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/test/guest/ledger/server"
)

const coldRestarts = 3

// watchdog is what is used where there is nothing better: ask the host every second, and
// when it has not answered three times, start the guest here.
const watchdog = `missed=0; end=$(($(date +%s) + 120))
while [ $(date +%s) -lt $end ]; do
	if ping -c1 -W1 "$1" >/dev/null; then missed=0; sleep 1; else missed=$((missed + 1)); fi
	if [ $missed -ge 3 ]; then virsh -q define /opt/hamgr/guest/g1.xml; exec virsh -q start g1; fi
done
exit 1`

// cold is the same guest without hamgr: a script finds its host dead and starts it elsewhere.
func (p *pathLab) cold(ctx context.Context) error {
	var first, lost []float64
	at := "h1"
	for i := range coldRestarts {
		to := map[string]string{"h1": "h2", "h2": "h1"}[at]
		reply, n, err := p.coldRestart(ctx, at, to)
		if err != nil {
			return err
		}
		p.say("cold restart %d of %d: first reply after %.1f s, %.0f requests of state lost", i+1, coldRestarts, reply/1000, n)
		first, lost = append(first, reply), append(lost, n)
		at = to
	}
	if at != "h1" { // where the others expect it
		for _, verb := range []string{"destroy", "undefine"} {
			if text, err := p.Host(at).Exec(ctx, "virsh", "-q", verb, "g1"); err != nil {
				return fmt.Errorf("%w: %s", err, text)
			}
		}
		if err := p.StartGuest(ctx, "h1", p.memoryMiB); err != nil {
			return err
		}
	}
	return p.Add(Figure{Name: "without hamgr: power-off to first reply, p50", Value: median(first), Unit: "ms", Samples: len(first),
		Parts: map[string]float64{"requests_of_state_lost": median(lost)},
		How:   "a script on another host pings the guest's every second and after three misses starts the guest there; every answered request's state was lost, and the connection"})
}

// coldRestart returns the ms until a new connection was answered, and how many answered
// requests the guest does not know any more.
func (p *pathLab) coldRestart(ctx context.Context, at, to string) (firstMS, lost float64, err error) {
	c, err := p.StartClient(ctx, askEvery, 1)
	if err != nil {
		return 0, 0, err
	}
	ends := make(chan error, 1)
	dog, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		text, err := p.Host(to).Exec(dog, "sh", "-c", watchdog, "watchdog", map[string]string{"h1": "10.77.0.1", "h2": "10.77.0.2"}[at])
		if err != nil {
			err = fmt.Errorf("%w: %s", err, text)
		}
		ends <- err
	}()
	if err := wait(ctx, settle); err != nil {
		return 0, 0, err
	}
	off, err := p.Host(at).PowerOff()
	if err != nil {
		return 0, 0, err
	}
	if err := <-ends; err != nil {
		return 0, 0, err
	}
	if err := p.firstReply(ctx); err != nil {
		return 0, 0, err
	}
	firstMS = ms(time.Since(off))
	if _, err := c.Stop(p.Bed); err != nil {
		return 0, 0, err
	}
	var now server.State
	text, err := p.Get(ctx, "/state")
	if err == nil {
		err = json.Unmarshal([]byte(text), &now)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, text)
	}
	answered := c.Samples()
	if len(answered) == 0 {
		return 0, 0, fmt.Errorf("nothing was answered before the power-off")
	}
	lost = float64(answered[len(answered)-1].Sequence) - float64(now.Sequence)
	return firstMS, lost, p.startAgain(ctx, at)
}

// firstReply dials the guest's ledger until it answers.
func (p *pathLab) firstReply(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		try, stop := context.WithTimeout(ctx, time.Second)
		_, err := p.Ledger(try, "/checksum")
		stop()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the guest that was started anew does not answer: %w", err)
		}
	}
}
