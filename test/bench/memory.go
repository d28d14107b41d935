package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hamgr/hamgr/test/testbed"
)

const (
	memoryWindow = 6 * time.Second
	memorySample = 20 * time.Millisecond
)

// memory is what the agents need on both sides of a protection, its first copy included.
// The guest holds pages of noise, so that the copy is one of memory and not of zeros.
func (p *pathLab) memory(ctx context.Context) error {
	hold := p.memoryMiB * 3 / 4
	if p.memoryMiB == smallMiB {
		hold = 16 // its kernel and initramfs take the rest
	}
	p.say("memory, %d MiB: the guest fills %d MiB with noise", p.memoryMiB, hold)
	if _, err := p.Ledger(ctx, fmt.Sprintf("/alloc?mb=%d", hold)); err != nil {
		return err
	}
	if _, err := p.Ledger(ctx, loads[1].ledger); err != nil {
		return err
	}
	u := newUsage(p.Bed, "h1", "h2")
	go u.run(ctx)
	stats, err := p.protectedFor(ctx, memoryWindow, func() error { return nil })
	if err := u.end(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if _, err := p.Ledger(ctx, "/dirty?pages_per_s=0&mb=0"); err != nil {
		return err
	}
	return p.addMemory(u, float64(stats.DirtyP50)*4/1024)
}

const howMemory = "RssAnon + RssFile of hamgr (/proc/PID/status), which is all of its memory but RssShmem, the tmpfs of replicas, that no process is to be charged for; " +
	"the highest seen from before the first copy until after the checkpoints, less the median epoch's dirty pages; the guest's memory is noise"

func (p *pathLab) addMemory(u *usage, dirtyMiB float64) error {
	for host, side := range map[string]string{"h1": "primary", "h2": "backup"} {
		top := u.top[host]
		p.say("memory, %d MiB, %s: %.1f MiB at most (%.1f anonymous, %.1f of files), %.1f at the end", p.memoryMiB, side, top.total(), top.anon, top.file, u.last[host].total())
		err := p.Add(Figure{Name: fmt.Sprintf("agent memory, %s, %d MiB", side, p.memoryMiB), Value: top.total() - dirtyMiB, Unit: "MiB", Target: AtMost(64), Samples: u.samples,
			Parts: map[string]float64{"rss_anon": top.anon, "rss_file": top.file, "dirty_of_an_epoch": dirtyMiB, "before": u.first[host].total(), "after": u.last[host].total()},
			How:   howMemory})
		if err != nil {
			return err
		}
	}
	return nil
}

// rss is a process's memory, MiB.
type rss struct{ anon, file float64 }

func (r rss) total() float64 { return r.anon + r.file }

// usage watches hamgr on some hosts.
type usage struct {
	bed   *testbed.Bed
	hosts []string
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once

	// run's until done is closed
	first, top, last map[string]rss
	samples          int
	err              error
}

func newUsage(b *testbed.Bed, hosts ...string) *usage {
	return &usage{bed: b, hosts: hosts, stop: make(chan struct{}), done: make(chan struct{}),
		first: map[string]rss{}, top: map[string]rss{}, last: map[string]rss{}}
}

func (u *usage) run(ctx context.Context) {
	defer close(u.done)
	files := map[string]string{}
	for _, h := range u.hosts {
		pid, err := u.bed.Host(h).Exec(ctx, "pgrep", "-f", "^/opt/hamgr/bin/hamgr serve")
		if err != nil {
			u.err = err
			return
		}
		files[h] = fmt.Sprintf("/proc/%d/root/proc/%s/status", u.bed.Host(h).Pid(), strings.TrimSpace(pid))
	}
	tick := time.NewTicker(memorySample)
	defer tick.Stop()
	for {
		for host, file := range files {
			if u.err = u.sample(host, file); u.err != nil {
				return
			}
		}
		u.samples++
		select {
		case <-u.stop:
			return
		case <-tick.C:
		}
	}
}

func (u *usage) sample(host, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var now rss
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "RssAnon:":
			now.anon = kib / 1024
		case "RssFile:":
			now.file = kib / 1024
		}
	}
	if now.anon == 0 || now.file == 0 {
		return fmt.Errorf("%s has no RssAnon and RssFile: %s", file, text)
	}
	if u.samples == 0 {
		u.first[host] = now
	}
	if now.total() > u.top[host].total() {
		u.top[host] = now
	}
	u.last[host] = now
	return nil
}

// end stops the watch and waits for it.
func (u *usage) end() error {
	u.once.Do(func() { close(u.stop) })
	<-u.done
	return u.err
}
