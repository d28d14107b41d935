// Command guestimage builds the test guest into a directory: vmlinuz, initrd and, with
// -name, <name>.xml, the libvirt domain that runs them from there.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/hamgr/hamgr/test/guest/image"
)

func main() {
	log.SetFlags(0)
	var g image.Guest
	kernel := flag.String("kernel", "", "the kernel, vmlinuz-<version>")
	modules := flag.String("modules", "", "its modules, lib/modules/<version>")
	out := flag.String("out", "", "directory to write into")
	flag.StringVar(&g.Name, "name", "", "also write the XML of a domain of this name")
	flag.StringVar(&g.Type, "type", "qemu", "qemu (TCG) or kvm")
	flag.UintVar(&g.MemoryMiB, "memory", 128, "its memory, MiB")
	flag.StringVar(&g.MAC, "mac", "52:54:00:78:00:01", "of its NIC")
	flag.StringVar(&g.Bridge, "bridge", "br0", "its NIC is on")
	flag.StringVar(&g.IP, "ip", "10.78.0.201/24", "its IPv4 address")
	flag.StringVar(&g.IP6, "ip6", "fd78::201/64", "its IPv6 address")
	flag.Parse()
	if *kernel == "" || *modules == "" || *out == "" || flag.NArg() > 0 {
		log.Fatal("want -kernel, -modules and -out; see -help")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := image.Build(ctx, *kernel, *modules, *out); err != nil {
		log.Fatal(err)
	}
	if g.Name != "" {
		writeXML(g, *out)
	}
}

func writeXML(g image.Guest, dir string) {
	var err error
	if g.Dir, err = filepath.Abs(dir); err != nil {
		log.Fatal(err)
	}
	xml, err := g.XML()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, g.Name+".xml"), []byte(xml), 0o644); err != nil {
		log.Fatal(err)
	}
}
