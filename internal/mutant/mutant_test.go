package mutant

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestNoMistakesInAnOrdinaryBinary: what chooses them is in binaries with the tag only.
func TestNoMistakesInAnOrdinaryBinary(t *testing.T) {
	for _, c := range []struct {
		tags string
		want bool
	}{{"libvirt_dlopen", false}, {"libvirt_dlopen,mutant", true}} {
		file := filepath.Join(t.TempDir(), "hamgr")
		out, err := exec.Command("go", "build", "-tags", c.tags, "-o", file, "github.com/hamgr/hamgr/cmd/hamgr").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range append([]Mistake{"HAMGR_MUTANT"}, All()...) {
			if got := bytes.Contains(data, []byte(word)); got != c.want {
				t.Errorf("tags %s: %q in the binary: %v", c.tags, word, got)
			}
		}
	}
}
