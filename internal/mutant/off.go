//go:build !mutant

package mutant

// Is says whether this process is to make a mistake.
func Is(Mistake) bool { return false }
