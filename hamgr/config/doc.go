// Package config is the configuration of one node: a YAML file, the defaults, and the
// check that says clearly what is wrong with it. It also keeps the node's id.
package config
