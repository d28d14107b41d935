package lab

import (
	"context"
	"io"
	"path"
)

// oldRecipe is Debian 12, for its QEMUs: 7.2, and 10.0.2 of its backports in /opt/backports.
// Each is made an emulator that runs anywhere below the path of its tree, with the C library
// that it was linked with. Firmware is shared: it is the same to QEMU.
const oldRecipe = `set -eu
mirror=$1 root=$2
export DEBIAN_FRONTEND=noninteractive
debootstrap --variant=minbase --include=qemu-system-x86 bookworm "$root" "$mirror"
echo "deb $mirror bookworm-backports main" > "$root/etc/apt/sources.list.d/backports.list"
chroot "$root" apt-get update
chroot "$root" sh -euc 'cd /tmp
apt-get download qemu-system-x86/bookworm-backports qemu-system-data/bookworm-backports
for deb in *.deb; do dpkg-deb -x "$deb" /opt/backports; rm "$deb"; done'
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists "$root"/usr/share/doc "$root"/usr/share/locale
emulator() { cat > "$root/$1" <<END
#!/bin/sh
root=\${0%/*}
lib=\$root/usr/lib/x86_64-linux-gnu
export QEMU_MODULE_DIR="\$root$2/usr/lib/x86_64-linux-gnu/qemu"
exec "\$lib/ld-linux-x86-64.so.2" --library-path "\$lib" "\$root$2/usr/bin/qemu-system-x86_64" \
  -L "\$root$2/usr/share/qemu" -L "\$root/usr/share/seabios" -L "\$root/usr/lib/ipxe/qemu" "\$@"
END
chmod +x "$root/$1"; }
emulator bookworm ""
emulator bookworm-backports /opt/backports
`

var oldTree = tree{name: "old", what: "a Debian 12 with the QEMUs that cannot do it, once (about a minute, 300 MB)", recipe: oldRecipe}

// OldQEMU names a QEMU of Debian 12.
type OldQEMU string

const (
	Bookworm          OldQEMU = "bookworm"           // 7.2: checkpoints with KVM, but stops dead in one under TCG
	BookwormBackports OldQEMU = "bookworm-backports" // 10.0.2: never gets into COLO
)

// Emulator is its path on a host that has the bind of PrepareOld.
func (q OldQEMU) Emulator() string { return path.Join(oldDir, string(q)) }

const oldDir = "/opt/old"

// PrepareOld makes Debian 12's QEMUs unless the cache has them: about 40 s and 300 MB. Hosts
// of a lab see them by the bind.
func PrepareOld(ctx context.Context, progress io.Writer) (Bind, error) {
	root, err := oldTree.get(ctx, progress)
	return Bind{From: root, To: oldDir}, err
}
