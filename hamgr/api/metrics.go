package api

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector makes the metrics at each scrape: of the guests that run here, and of the
// cluster as this node sees it. Labels are names; none grows with time.
type collector struct{ s *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hamgr_"+name, help, labels, nil)
}

var (
	leaderDesc     = desc("leader", "1 if this node leads the managers.")
	nodeDesc       = desc("node_alive", "1 if heartbeats come from the node.", "node")
	suspectedDesc  = desc("node_suspicions_total", "How often this node has begun to suspect the node.", "node")
	protectionDesc = desc("protection_info", "1; the protection's place and phase are the labels.", "domain", "primary", "backup", "phase")
	generationDesc = desc("protection_generation", "Raised by every change of who may run or emit.", "domain")
	degradedDesc   = desc("protection_degraded", "1 if it is less than was ordered; hamgr status says why.", "domain")
	probeDesc      = desc("protection_probe_failed", "1 if the guest's service does not answer its probe.", "domain")
	togetherDesc   = desc("protection_together", "1 if it is, or would be after one failure, on one host with another of its anti-affinity group.", "domain")

	epochsDesc   = desc("epochs_total", "Committed checkpoints.", "domain")
	bytesDesc    = desc("checkpoint_bytes_total", "Sent to the backup.", "domain")
	pagesDesc    = desc("checkpoint_pages_total", "Dirty pages, zero pages included.", "domain")
	zeroDesc     = desc("checkpoint_zero_pages_total", "Dirty pages that were all zero.", "domain")
	pauseDesc    = desc("pause_seconds", "How long the guest stops for a checkpoint.", "domain", "quantile")
	commitDesc   = desc("commit_seconds", "From the guest's stop to the backup's commit.", "domain", "quantile")
	heldDesc     = desc("output_held_packets", "Packets that wait for their checkpoint, or for a lease.", "domain")
	releasedDesc = desc("output_released_packets_total", "Packets let out.", "domain")
	copiedDesc   = desc("input_copied_packets_total", "Packets to the guest copied to its backup.", "domain")
	keptDesc     = desc("input_kept_packets", "Copies at the backup that no checkpoint contains yet.", "domain")
	lostDesc     = desc("input_lost_copies_total", "Copies that did not arrive, or that the backup had no room for.", "domain")
	droppedDesc  = desc("output_dropped_packets_total", "Packets that did not fit the output buffer.", "domain")
)

// Describe sends nothing: which domains there are is not known beforehand.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect is prometheus.Collector's.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	st := c.s.Cluster.State()
	gauge(leaderDesc, yes(c.s.Cluster.IsLeader()))
	for _, n := range c.s.nodeList(st) {
		gauge(nodeDesc, yes(n.State == alive), n.Name)
		counter(suspectedDesc, n.Suspicions, n.Name)
	}
	for name, p := range st.Protections {
		gauge(protectionDesc, 1, name, p.Primary, p.Backup, string(p.Phase))
		gauge(generationDesc, float64(p.Generation), name)
		gauge(degradedDesc, yes(p.Degraded != ""), name)
		if p.Probe.URL != "" {
			gauge(probeDesc, yes(p.ProbeFailed != ""), name)
		}
		gauge(togetherDesc, yes(p.Together != ""), name)
	}
	for name, x := range c.s.Agent.Stats() {
		counter(epochsDesc, x.Epochs, name)
		counter(bytesDesc, x.BytesSent, name)
		counter(pagesDesc, x.Pages, name)
		counter(zeroDesc, x.ZeroPages, name)
		gauge(pauseDesc, x.PauseP50/1000, name, "0.5")
		gauge(pauseDesc, x.PauseP99/1000, name, "0.99")
		gauge(commitDesc, x.CommitP50/1000, name, "0.5")
		gauge(commitDesc, x.CommitP99/1000, name, "0.99")
		gauge(heldDesc, float64(x.Held), name)
		counter(releasedDesc, x.Released, name)
		counter(droppedDesc, x.Dropped, name)
		counter(copiedDesc, x.InputCopied, name)
		gauge(keptDesc, float64(x.InputKept), name)
		counter(lostDesc, x.InputDropped+x.InputMissing, name)
	}
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
