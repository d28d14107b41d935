// Package image makes the test guest: a stock Debian kernel, an initramfs of one program
// (test/guest/ledger) and the modules that give it a network, and the libvirt domain that
// runs them.
package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build writes vmlinuz and initrd (and ledger, the program in it) into dir, which it
// makes. modules is the kernel's lib/modules/<version>. It needs the go command and runs
// it in the current directory, which has to be of this Go module.
func Build(ctx context.Context, vmlinuz, modules, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("guest image: %w", err)
	}
	mods, err := resolve(modules, wanted)
	if err != nil {
		return fmt.Errorf("guest image: %w", err)
	}
	kernel, err := os.ReadFile(vmlinuz)
	if err != nil {
		return fmt.Errorf("guest image: kernel: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vmlinuz"), kernel, 0o644); err != nil {
		return fmt.Errorf("guest image: %w", err)
	}
	program, err := buildLedger(ctx, filepath.Join(dir, "ledger"))
	if err != nil {
		return fmt.Errorf("guest image: %w", err)
	}
	if err := writeInitrd(filepath.Join(dir, "initrd"), program, mods); err != nil {
		return fmt.Errorf("guest image: initrd: %w", err)
	}
	return nil
}

// buildLedger compiles the guest's program, static, and returns it.
func buildLedger(ctx context.Context, file string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file, "github.com/hamgr/hamgr/test/guest/ledger")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the ledger: %w: %s", err, out)
	}
	return os.ReadFile(file)
}
