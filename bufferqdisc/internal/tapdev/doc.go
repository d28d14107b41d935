// Package tapdev is a TAP device of ours, in whose queue a guest's packets wait: redirected
// to it they are read from its file, and what is written to that has been received by it.
// Vnet headers keep large (GSO) packets whole and checksums offloaded, both ways.
package tapdev
