package agent

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/storage/wire"
)

// Stats is what a primary has measured since its job began. Times in milliseconds.
type Stats struct {
	Epochs      uint64  `json:"epochs"`
	PauseP50    float64 `json:"pause_ms_p50"`
	PauseP99    float64 `json:"pause_ms_p99"`
	CommitP50   float64 `json:"commit_ms_p50"`
	CommitP99   float64 `json:"commit_ms_p99"`
	DirtyP50    int64   `json:"dirty_pages_p50"`
	Pages       uint64  `json:"pages"`
	ZeroPages   uint64  `json:"zero_pages"`
	BytesSent   uint64  `json:"bytes_sent"`
	SyncPercent int     `json:"sync_percent"`
	Backend     string  `json:"buffer_backend,omitempty"`
	// Output: Held is now, by the buffer or for want of a lease. The plug's kernel does not
	// count the bytes of what was over its limit.
	Held          uint64 `json:"held_packets"`
	HeldBytes     uint64 `json:"held_bytes"`
	Released      uint64 `json:"released_packets"`
	ReleasedBytes uint64 `json:"released_bytes"`
	Dropped       uint64 `json:"dropped_packets"`
	DroppedBytes  uint64 `json:"dropped_bytes"`
	Leased        bool   `json:"leased,omitempty"` // mode checkpoint: the output is open by this host's lease

	// Packets of the guest's input: copied to the backup, and there kept now, dropped for
	// want of room, not arrived; given to this guest when it was restored here, of which
	// heard are those that came after its old host was gone.
	InputCopied   uint64 `json:"input_copied"`
	InputKept     uint64 `json:"input_kept"`
	InputDropped  uint64 `json:"input_dropped"`
	InputMissing  uint64 `json:"input_missing"`
	InputReplayed uint64 `json:"input_replayed"`
	InputHeard    uint64 `json:"input_heard"`
	InputProblem  string `json:"input_problem,omitempty"` // why copies are missing now
	// InputLapse is why there would be no copies of what comes between the end of QEMU, on a
	// host that lives, and the guest's restore.
	InputLapse string `json:"input_lapse,omitempty"`
}

// stats collects Stats; the session writes, the API reads.
type stats struct {
	mu     sync.Mutex // guards all
	now    Stats
	pause  *hdrhistogram.Histogram // microseconds
	commit *hdrhistogram.Histogram // microseconds
	dirty  *hdrhistogram.Histogram // pages
}

func newStats() *stats {
	h := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 2) }
	return &stats{pause: h(), commit: h(), dirty: h()}
}

func (s *stats) epoch(pause, commit time.Duration, c *wire.Checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Epochs++
	s.now.Pages += uint64(c.Count())
	s.now.ZeroPages += uint64(c.Zero())
	s.now.BytesSent += uint64(c.Bytes())
	s.pause.RecordValue(max(1, pause.Microseconds()))
	s.commit.RecordValue(max(1, commit.Microseconds()))
	s.dirty.RecordValue(int64(max(1, c.Count())))
}

func (s *stats) sync(done, total uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.SyncPercent = int(min(done, total) * 100 / max(total, 1))
}

// input is of this session.
func (s *stats) input(m input.MirrorStats, c wire.Committed, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.InputCopied, s.now.InputKept, s.now.InputDropped = m.Copied, c.Kept, c.Dropped
	s.now.InputMissing, s.now.InputProblem = c.Missing+m.Failed, problem
}

// lapse notes why the input's copies would end with QEMU; nil: they would not.
func (s *stats) lapse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.InputLapse = ""; err != nil {
		s.now.InputLapse = err.Error()
	}
}

func (s *stats) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.now
	ms := func(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	out.PauseP50, out.PauseP99 = ms(s.pause, 50), ms(s.pause, 99)
	out.CommitP50, out.CommitP99 = ms(s.commit, 50), ms(s.commit, 99)
	out.DirtyP50 = s.dirty.ValueAtQuantile(50)
	return out
}
