package lab

import (
	"context"
	"io"
	"path"
)

// oldRecipe is Debian 12's QEMUs with the libraries they want: 7.2, and 10.0.2 of its
// backports in /opt/backports. Nothing is configured: each is made an emulator that runs
// wherever its tree is, with the C library that it was linked with. Firmware is shared: it is
// the same to QEMU.
const oldRecipe = `set -eu
mirror=$1 root=$2
mkdir -p "$root/opt/backports" "$root/apt/lists" "$root/apt/cache"
for release in bookworm bookworm-backports; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >> "$root/apt/sources.list"
done
: > "$root/apt/status"
apt() { apt-get -q -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root \
  -o Dir::Etc::SourceList="$root/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
  -o Dir::State::Lists="$root/apt/lists" -o Dir::State::Status="$root/apt/status" -o Dir::Cache="$root/apt/cache" "$@"; }
apt update
apt install -y --download-only --no-install-recommends qemu-system-x86
for deb in "$root"/apt/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
cd "$root/apt"
for part in x86 common data; do apt download qemu-system-$part/bookworm-backports; done
for deb in ./*.deb; do dpkg-deb -x "$deb" "$root/opt/backports"; done
cd / && rm -rf "$root/apt" "$root/usr/share/doc" "$root/usr/share/locale" "$root/usr/share/man"
emulator() { cat > "$root/$1" <<END
#!/bin/sh
root=\${0%/*}
lib=lib/x86_64-linux-gnu
export QEMU_MODULE_DIR="\$root$2/usr/\$lib/qemu"
exec "\$root/\$lib/ld-linux-x86-64.so.2" --library-path "\$root/\$lib:\$root/usr/\$lib" "\$root$2/usr/bin/qemu-system-x86_64" \
  -L "\$root$2/usr/share/qemu" -L "\$root/usr/share/seabios" -L "\$root/usr/lib/ipxe/qemu" "\$@"
END
chmod +x "$root/$1"; }
emulator bookworm ""
emulator bookworm-backports /opt/backports
`

var oldTree = tree{name: "old", what: "a Debian 12 with the QEMUs that cannot do it, once (about half a minute, 220 MB)", recipe: oldRecipe}

// OldQEMU names a QEMU of Debian 12.
type OldQEMU string

const (
	Bookworm          OldQEMU = "bookworm"           // 7.2: checkpoints with KVM, but stops dead in one under TCG
	BookwormBackports OldQEMU = "bookworm-backports" // 10.0.2: never gets into COLO
)

// Emulator is its path on a host that has the bind of PrepareOld.
func (q OldQEMU) Emulator() string { return path.Join(oldDir, string(q)) }

const oldDir = "/opt/old"

// PrepareOld makes Debian 12's QEMUs unless the cache has them: about half a minute and 220 MB. Hosts
// of a lab see them by the bind.
func PrepareOld(ctx context.Context, progress io.Writer) (Bind, error) {
	root, err := oldTree.get(ctx, progress)
	return Bind{From: root, To: oldDir}, err
}
