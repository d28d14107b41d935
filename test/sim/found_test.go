package sim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestFoundOnce: schedules that long searches found, made small, stay harmless.
func TestFoundOnce(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var s Schedule
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if v, _ := NewWorld(nil).Run(s, NoMutant); v != nil {
			t.Errorf("%s: %v; it is:\n%s", f, v, story(s, NoMutant))
		}
	}
}
