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

	"golang.org/x/sys/unix"
)

// tree is a file tree of Debian packages that is made once and kept in the cache, under a
// name that changes with the recipe.
type tree struct {
	name   string
	what   string // for the progress: what is being built
	recipe string // a shell script; $1 is a Debian mirror, $2 where to build
	finish func(ctx context.Context, root, logs string) error
}

// get is the tree's path. One process builds, others that want the same tree wait for it.
func (t tree) get(ctx context.Context, progress io.Writer) (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("the lab needs root: it makes namespaces, mounts and links")
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	root := filepath.Join(cache, fmt.Sprintf("%s-%.6x", t.name, sha256.Sum256([]byte(t.recipe))))
	if built(root) {
		return root, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, root+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if built(root) {
		return root, nil
	}
	return root, t.build(ctx, root, progress)
}

// Kept runs f on a directory of that name in the cache, one process at a time.
func Kept(ctx context.Context, name string, f func(dir string) error) error {
	cache, err := CacheDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(cache, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	return f(dir)
}

func built(root string) bool {
	_, err := os.Stat(root)
	return err == nil
}

// lock waits for the lock on a file, which ends with the process at the latest.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another process is building %s: %w", strings.TrimSuffix(path, ".lock"), context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (t tree) build(ctx context.Context, root string, progress io.Writer) error {
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
	fmt.Fprintln(progress, "  lab: building", t.what)
	if err := logged(ctx, root+".log", progress, "sh", "-c", t.recipe, "recipe", mirror, tmp); err != nil {
		return err
	}
	if t.finish != nil {
		if err := t.finish(ctx, tmp, root+".warm"); err != nil {
			return err
		}
	}
	fmt.Fprintf(progress, "  lab: ready after %d s\n", int(time.Since(start).Seconds()))
	return os.Rename(tmp, root)
}

// install adds what this machine lacks.
func install(ctx context.Context, progress io.Writer) error {
	var missing []string
	for tool, packages := range needs {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, packages...)
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
