// Package judge is what a node makes of the heartbeats of the others, without sockets or
// clock: each method is told the time, which has to be one that does not jump. Package
// detector is the shell around it.
//
//	          heard again
//	Alive <----------------+-----------------------+
//	  |  nothing heard     |                       |
//	  |  for the timeout   |                       |
//	  +---------------> Silent <-----------> ProcessDown
//	                     kernel refuses / no longer refuses
//
// ProcessDown is a host whose kernel answers for a process that is gone: it is suspected
// only after a grace, the time to be restarted. SecondPath, in Silent's place, is a host
// that is heard on another network than the one on which the managers agree and checkpoints
// go: a switch, perhaps, that restarts. It is suspected after a detour only; not never, as a
// guest whose checkpoints reach nobody is cut off. A host that lost power is silent on both.
// Deaf, in Alive's place, is one that is heard and says for a timeout that it hears nobody: a
// network may fail in one direction. What it holds reaches nobody, so it is suspected.
package judge
