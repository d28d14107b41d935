// Package hook is what the output buffer, its gate and the input handler do to a guest's
// tap: look whether it can be hooked, put a filter on it, take it off again.
//
// What a guest sends is ingress at its tap, what it gets is egress. Filters hang on a clsact qdisc (tc-bpf(8));
// ours is told from others by its name or priority, which also says whether the qdisc
// is ours to remove: a restarted agent finds both.
package hook
