// Command colodrain takes checkpoints of a running domain and keeps nothing of them: what
// the bare stream costs, and so the least that any agent can cost. It does what hamgr's
// session does up to the end of the pause, through the same libvirt, and prints JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/qmp"
	"github.com/hamgr/hamgr/qmp/colo"
)

// Result is what it prints. The pause is the time from before CHECKPOINT_REPLY is sent
// until VMSTATE_LOADED was sent, in milliseconds, as hamgr's own figures have it.
type Result struct {
	Epochs   int     `json:"epochs"`
	PauseP50 float64 `json:"pause_ms_p50"`
	PauseP99 float64 `json:"pause_ms_p99"`
	DirtyP50 int64   `json:"dirty_pages_p50"`
}

func main() {
	name := flag.String("domain", "g1", "the domain")
	epoch := flag.Duration("epoch", 25*time.Millisecond, "from one checkpoint to the next")
	length := flag.Duration("for", 5*time.Second, "how long to take checkpoints")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, *name, *epoch, *length)
	if err != nil {
		fmt.Fprintln(os.Stderr, "colodrain:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(r)
}

func run(ctx context.Context, name string, epoch, length time.Duration) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, length+time.Minute)
	defer cancel()
	host, err := domain.Open(ctx, "qemu:///system")
	if err != nil {
		return r, err
	}
	defer host.Close()
	s, err := colo.Arm(ctx, qmp.New(qmp.NewPassthrough(host.Command(name))), colo.Options{}, &drain{})
	if err != nil {
		return r, err
	}
	if err = s.Ready(); err == nil {
		r, err = epochs(ctx, s, epoch, length)
	}
	leave, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if e := s.Disarm(leave); err == nil {
		err = e
	}
	return r, err
}

func epochs(ctx context.Context, s *colo.Session, epoch, length time.Duration) (r Result, err error) {
	pause, dirty := hdrhistogram.New(1, 60_000_000, 2), hdrhistogram.New(1, 60_000_000, 2) // as hamgr's
	last := time.Now()
	for end := last.Add(length); last.Before(end); r.Epochs++ {
		if err := s.WaitRequest(ctx); err != nil {
			return r, err
		}
		time.Sleep(time.Until(last.Add(epoch)))
		last = time.Now()
		sink := drain{}
		if _, err := s.Capture(ctx, nil, &sink); err != nil {
			return r, err
		}
		if err := s.Resume(); err != nil {
			return r, err
		}
		pause.RecordValue(max(1, time.Since(last).Microseconds()))
		dirty.RecordValue(max(1, sink.pages))
	}
	r.PauseP50, r.PauseP99 = float64(pause.ValueAtQuantile(50))/1000, float64(pause.ValueAtQuantile(99))/1000
	r.DirtyP50 = dirty.ValueAtQuantile(50)
	return r, nil
}

// drain counts.
type drain struct{ pages int64 }

func (d *drain) Layout([]byte, []colo.Block) error { return nil }
func (d *drain) Page(int, uint64, []byte) error    { d.pages++; return nil }
func (d *drain) Fill(int, uint64, byte) error      { d.pages++; return nil }
