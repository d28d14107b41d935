// Package domain is hamgr's view of libvirt: the guests of one host, QEMU's monitor
// behind them, and standbys: paused guests whose RAM file is a replica.
package domain
