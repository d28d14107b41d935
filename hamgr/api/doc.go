// Package api is hamgr's HTTP API: its types, its server and its client. Every node
// answers; what needs the leader is forwarded to it once.
package api
