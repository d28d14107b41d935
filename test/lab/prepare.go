package lab

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

//go:embed xstate/setregset.c
var setregset string

// xstateLibrary is for user-mode-linux; its source says why.
const xstateLibrary = "/usr/lib/lab-xstate.so"

// recipe is what a root file system is made by; a change makes a new one.
var recipe = `set -eu
mirror=$1 root=$2
export DEBIAN_FRONTEND=noninteractive
trap 'umount "$root/proc" 2>/dev/null || true' EXIT
debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$mirror"
echo "deb $mirror trixie-backports main" > "$root/etc/apt/sources.list.d/backports.list"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
chroot "$root" apt-get update
chroot "$root" apt-get install -y --no-install-recommends -t trixie-backports qemu-system-x86 seabios ipxe-qemu
chroot "$root" apt-get install -y --no-install-recommends libvirt-daemon libvirt-daemon-driver-qemu \
  libvirt-clients libvirt-daemon-system iproute2 procps iputils-ping tcpdump kmod e2fsprogs user-mode-linux
modules=$(basename "$root"/usr/lib/uml/modules/*)
mkdir -p "$root/usr/lib/modules"
ln -s "../uml/modules/$modules" "$root/usr/lib/modules/$modules"
kernel=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(cd "$root/tmp" && chroot "$root" sh -c "cd /tmp && apt-get download $kernel" && dpkg-deb -x ./*.deb "$root/opt/kernel" && rm ./*.deb)
chroot "$root" apt-get clean
mkdir -p "$root/opt/hamgr/bin" "$root/opt/hamgr/guest" "$root/var/log/lab"
gcc -shared -fPIC -O2 -Wall -Werror -o "$root` + xstateLibrary + `" -x c - <<'SOURCE'
` + setregset + `SOURCE
`

// needs are the packages this machine itself wants for building the root and running hosts.
var needs = map[string][]string{"debootstrap": {"debootstrap"}, "ip": {"iproute2"}, "gcc": {"gcc", "libc6-dev"}}

// Paths of a prepared root.
type Paths struct {
	Root    string // the hosts' root file system
	Vmlinuz string // a stock kernel for guests
	Modules string // its modules: .../lib/modules/<version>
}

// CacheDir is where prepared things are kept: $HAMGR_LAB_CACHE, or in the user's cache.
func CacheDir() (string, error) {
	if d := os.Getenv("HAMGR_LAB_CACHE"); d != "" {
		return d, nil
	}
	d, err := os.UserCacheDir()
	return filepath.Join(d, "hamgr-lab"), err
}

var hostsRoot = tree{name: "root", what: "the hosts' root file system, once (about a minute)", recipe: recipe, finish: warm}

// Prepare makes the root file system unless the cache has it: about a minute and 700 MB.
func Prepare(ctx context.Context, progress io.Writer) (Paths, error) {
	root, err := hostsRoot.get(ctx, progress)
	if err != nil {
		return Paths{}, err
	}
	return paths(root)
}

func paths(root string) (Paths, error) {
	k, _ := filepath.Glob(filepath.Join(root, "opt/kernel/boot/vmlinuz-*"))
	m, _ := filepath.Glob(filepath.Join(root, "opt/kernel/*/lib/modules/*"))
	if len(m) == 0 {
		m, _ = filepath.Glob(filepath.Join(root, "opt/kernel/lib/modules/*"))
	}
	if len(k) != 1 || len(m) != 1 {
		return Paths{}, fmt.Errorf("no kernel in %s; remove it and prepare again", root)
	}
	return Paths{Root: root, Vmlinuz: k[0], Modules: m[0]}, nil
}

// warm puts what libvirt finds out about QEMU into the root: with a kernel of its own a
// host would take half a minute for it. libvirt asks again when a file is newer than that.
func warm(ctx context.Context, root, logs string) error {
	l, err := Up(ctx, Spec{Root: root, RunDir: logs, Hosts: 1})
	if err != nil {
		return err
	}
	defer l.Down()
	const dir = "/var/cache/libvirt/qemu/capabilities"
	if _, err := l.Host("h1").Exec(ctx, "sh", "-c", "virsh domcapabilities >/dev/null && cp -r "+dir+" /var/log/lab/"); err != nil {
		return err
	}
	if err := os.CopyFS(root+dir, os.DirFS(filepath.Join(logs, "h1/capabilities"))); err != nil {
		return err
	}
	return os.RemoveAll(logs)
}
