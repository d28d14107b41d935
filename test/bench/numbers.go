package main

import (
	"math"
	"slices"
)

// quantile of a few numbers: the one at that place, NaN if there is none.
func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(list))
	return s[int(math.Round(q*float64(len(s)-1)))]
}

// median is the middle one, or the mean of the two there.
func median(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(list))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
