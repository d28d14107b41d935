// Package rules is what one host does about one protection, as pure functions of what the
// cluster has decided and of what is seen on this host. Package agent carries it out;
// test/sim attacks it.
package rules
