// Package storage keeps replicas: the last committed checkpoint of a guest that runs
// elsewhere. The image of its main RAM is a file that a waiting QEMU has mapped, so a
// restore copies nothing; the other RAM blocks are files beside it.
//
// A checkpoint is staged whole in memory, checked, and only then applied: whatever
// ends early, the images are those of the last commit (invariant I4). If applying
// itself fails, the replica is broken and says so; it never passes for whole. Disks, once
// there are any, are parts of it (Disk).
package storage
