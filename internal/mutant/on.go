//go:build mutant

package mutant

import (
	"os"
	"slices"
)

var chosen = Mistake(os.Getenv("HAMGR_MUTANT"))

func init() {
	if chosen != "" && !slices.Contains(All(), chosen) {
		panic("HAMGR_MUTANT: no mistake is called " + string(chosen))
	}
}

// Is says whether this process is to make a mistake.
func Is(m Mistake) bool { return m == chosen }
