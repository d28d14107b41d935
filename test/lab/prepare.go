package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// recipe is what a root file system is made by; a change makes a new one.
const recipe = `set -eu
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
  libvirt-clients libvirt-daemon-system iproute2 procps iputils-ping tcpdump kmod user-mode-linux
modules=$(basename "$root"/usr/lib/uml/modules/*)
mkdir -p "$root/usr/lib/modules"
ln -s "../uml/modules/$modules" "$root/usr/lib/modules/$modules"
kernel=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(cd "$root/tmp" && chroot "$root" sh -c "cd /tmp && apt-get download $kernel" && dpkg-deb -x ./*.deb "$root/opt/kernel" && rm ./*.deb)
chroot "$root" apt-get clean
mkdir -p "$root/opt/hamgr/bin" "$root/opt/hamgr/guest" "$root/var/log/lab"
`

// needs are the packages this machine itself wants for building the root and running hosts.
var needs = map[string]string{"debootstrap": "debootstrap", "ip": "iproute2"}

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

// Prepare makes the root file system unless the cache has it: about a minute and 700 MB.
func Prepare(ctx context.Context, progress io.Writer) (Paths, error) {
	if os.Geteuid() != 0 {
		return Paths{}, errors.New("the lab needs root: it makes namespaces, mounts and links")
	}
	cache, err := CacheDir()
	if err != nil {
		return Paths{}, err
	}
	root := filepath.Join(cache, fmt.Sprintf("root-%x", sha256.Sum256([]byte(recipe)))[:17])
	if _, err := os.Stat(root); err != nil {
		if err := build(ctx, cache, root, progress); err != nil {
			return Paths{}, err
		}
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

func build(ctx context.Context, cache, root string, progress io.Writer) error {
	start := time.Now()
	if err := install(ctx, progress); err != nil {
		return err
	}
	mirror, err := mirror(ctx)
	if err != nil {
		return err
	}
	tmp := root + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	fmt.Fprintln(progress, "  lab: building the hosts' root file system, once (about a minute)")
	if err := logged(ctx, root+".log", progress, "sh", "-c", recipe, "recipe", mirror, tmp); err != nil {
		return err
	}
	if err := warm(ctx, tmp, root+".warm"); err != nil {
		return err
	}
	fmt.Fprintf(progress, "  lab: root file system ready after %d s\n", int(time.Since(start).Seconds()))
	return os.Rename(tmp, root)
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

// install adds what this machine lacks.
func install(ctx context.Context, progress io.Writer) error {
	var missing []string
	for tool, pkg := range needs {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintln(progress, "  lab: installing", strings.Join(missing, ", "))
	if err := exec.CommandContext(ctx, "apt-get", "update").Run(); err != nil {
		return fmt.Errorf("apt-get update: %w", err)
	}
	out, err := exec.CommandContext(ctx, "apt-get", append([]string{"install", "-y", "--no-install-recommends"}, missing...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get install %v: %w: %s", missing, err, out)
	}
	return nil
}

// mirror is the Debian mirror this machine itself uses.
func mirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if uri, ok := strings.CutPrefix(strings.TrimSpace(line), "Debian "); ok && !strings.Contains(uri, "security") {
			return strings.TrimSuffix(uri, "/"), nil
		}
	}
	return "", errors.New("apt on this machine knows no Debian mirror")
}
