// Package hook is what both backends of the output buffer do to a guest's tap: look
// whether it can be buffered, put one filter on its ingress, take it off again.
//
// What a guest sends is ingress at its tap. Filters hang on a clsact qdisc (tc-bpf(8));
// ours is told from others by its name or priority, which also says whether the qdisc
// is ours to remove: a restarted agent finds both.
package hook
