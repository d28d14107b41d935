// Package control lets other processes use a lab: the one that owns it answers on a unix
// socket in a run directory. Each connection carries one Request and one Answer, in JSON.
//
// The run directory belongs to the process that holds its flock(2), which the kernel
// takes back however that process ends; a socket that nobody answers is left over from
// one that was killed. Its hosts went with it, so there is nothing else to clean.
package control
