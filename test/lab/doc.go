// Package lab makes hosts on one machine for tests and demos: each host is a set of
// Linux namespaces (mount, PID, network, UTS, IPC) over one Debian root file system, with
// libvirtd and whatever services it is given. Two bridges in a namespace of their own
// are the switches: "mgmt" and "guest".
//
// A host of kind UML has in these namespaces a Linux kernel of its own, user-mode-linux, over
// the same root file system (kernel.go): slower, and with what this machine's kernel lacks.
//
// Hosts start, lose power, are cut off and connected again, stand still and go on, and run
// commands. Package control lets other processes do that, cmd/lab people.
//
// All of it hangs on the process that made it: when that ends, however it ends, the
// kernel kills the hosts' init processes, and with them every process, mount, link and
// namespace. Nothing needs to be swept.
package lab
