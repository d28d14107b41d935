// Command chaos lets the hosts of a protected guest fail in every way of its catalogue
// (catalogue.yaml), at random or by a given schedule, and checks after each run that every
// promise was kept: that no frame left too early or from a host that was not to emit
// (test/commit), that all answers are those of one ledger (porcupine), and that the guest
// answers and is protected again once the faults are over.
//
// With -ssh it does so to a real cluster: then it sees what hamgr says, and no frames.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/test/lab"
)

type options struct {
	runs     int
	seed     uint64
	hosts    string
	nodes    int
	out      string
	faults   string
	schedule string
	bound    time.Duration
	failures int
	protect  string
	mutants  bool           // hamgr is built so that it can be told to make mistakes: in tests of this
	mutant   mutant.Mistake // the one it is to make; none if empty

	list, dry      bool
	ssh, via       string
	site           site
	offCmd, onCmd  string
	probe          string
	progress       io.Writer
	names          []string
	catalogue, use []fault
}

func main() {
	lab.Init()
	o := options{progress: os.Stdout}
	flag.IntVar(&o.runs, "runs", 20, "runs, of one or two faults each")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of all that is random")
	flag.StringVar(&o.hosts, "hosts", "container", "kind of the lab's hosts: container or uml")
	flag.IntVar(&o.nodes, "nodes", 3, "hosts of the lab")
	flag.StringVar(&o.protect, "protect", "", `more flags for hamgr protect in the lab, as "--mode checkpoint --epoch 10ms"`)
	flag.StringVar(&o.out, "out", "out/chaos", "directory for the report, and what is kept of failed runs")
	flag.StringVar(&o.faults, "faults", "", "names of the faults to choose from, with commas; all that fit by default")
	flag.StringVar(&o.schedule, "schedule", "", "file with the steps of each run, instead of random ones; as a report has them")
	flag.DurationVar(&o.bound, "bound", 0, "until when after the faults the guest must be well again; 1m, on uml hosts 4m")
	flag.IntVar(&o.failures, "failures", 5, "failed runs after which to stop")
	flag.BoolVar(&o.list, "list", false, "show the catalogue, and stop")
	flag.BoolVar(&o.dry, "dry-run", false, "show what would be run where, and do nothing")
	flag.StringVar(&o.ssh, "ssh", "", "a real cluster's nodes instead of a lab, as h1=root@10.0.0.1,h2=...")
	flag.StringVar(&o.via, "via", defaultVia, `with -ssh: what gives a shell on a host; with another, as "lab exec {} -- sh -s", -hosts says of what kind they are`)
	flag.StringVar(&o.site.Domain, "domain", "", "of a real cluster: the guest")
	flag.StringVar(&o.site.Mgmt, "mgmt-dev", "eth0", "of a real cluster: its device to the management network")
	flag.StringVar(&o.site.Guest, "guest-dev", "eth1", "of a real cluster: its device to the guests' network")
	flag.StringVar(&o.site.Memory, "memory-dir", "/dev/shm/hamgr", "of a real cluster: hamgr's memory_dir")
	flag.StringVar(&o.site.Data, "data-dir", "/var/lib/hamgr", "of a real cluster: hamgr's data_dir")
	flag.StringVar(&o.offCmd, "power-off", "", "of a real cluster: a command that takes a host's power away, {} stands for its name")
	flag.StringVar(&o.onCmd, "power-on", "", "of a real cluster: a command that gives it back")
	flag.StringVar(&o.probe, "probe", "", "of a real cluster: a command, run here, that succeeds if the guest serves")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.main(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// kind is that of the hosts.
func (o *options) kind() string {
	if o.ssh != "" && o.via == defaultVia {
		return realHost
	}
	return o.hosts
}

// prepare completes the options.
func (o *options) prepare() (err error) {
	kind := o.kind()
	switch {
	case kind == realHost:
	case kind != string(lab.Container) && kind != string(lab.UML):
		return fmt.Errorf("no hosts of kind %q; there are %s and %s", kind, lab.Container, lab.UML)
	case o.ssh == "" && o.nodes < 3:
		return fmt.Errorf("%d hosts cannot lose one; take 3 or 5", o.nodes)
	}
	if o.bound == 0 {
		o.bound = time.Minute
		if kind == string(lab.UML) {
			o.bound = 4 * time.Minute
		}
	}
	if o.faults != "" {
		o.names = strings.Split(o.faults, ",")
	}
	if o.catalogue, err = catalogue(); err != nil {
		return err
	}
	power := o.ssh == "" || o.offCmd != "" && o.onCmd != ""
	o.use, err = choose(o.catalogue, kind, power, o.names)
	return err
}

func (o *options) main(ctx context.Context) error {
	if err := o.prepare(); err != nil {
		return err
	}
	switch {
	case o.list:
		o.show()
		return nil
	case o.dry:
		return o.plan()
	case o.ssh != "":
		return o.operate(ctx)
	}
	fmt.Fprintf(o.progress, "%d runs on %d %s hosts, seed %d\n", o.runs, o.nodes, o.hosts, o.seed)
	r, err := o.campaign(ctx, o.steps)
	if e := r.write(o.out); err == nil {
		err = e
	}
	r.table(o.progress)
	if err == nil {
		err = r.err()
	}
	if err != nil {
		return fmt.Errorf("%w (seed %d; report and evidence in %s)", err, o.seed, o.out)
	}
	return nil
}

// show lists the catalogue.
func (o *options) show() {
	for _, f := range o.catalogue {
		hosts := "all"
		if len(f.Hosts) > 0 {
			hosts = strings.Join(f.Hosts, " ")
		}
		fmt.Fprintf(o.progress, "%-26s %s\n%-26s on %v; hosts: %s", f.Name, f.What, "", f.On, hosts)
		if f.Lasts[1] > 0 {
			fmt.Fprintf(o.progress, "; lasts %v to %v", f.Lasts[0], f.Lasts[1])
		}
		fmt.Fprintln(o.progress)
	}
}
