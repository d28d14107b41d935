// Package api is hamgr's HTTP API: its types, its server and its client.
//
// Every node serves it, on a unix socket and on the management network. What changes the
// cluster runs on the leader; any other node sends such a request on, once. Answers are
// JSON; a failure is {"error": {"code", "message", "advice"}} with a status to match.
//
//	GET    /v1/status                          Status
//	GET    /v1/nodes                           []NodeStatus
//	GET    /v1/events?since=INDEX&wait=30s     []core.Event after that index; wait: not before there is one
//	GET    /v1/check                           []CheckResult of this node
//	POST   /v1/protections                     ProtectRequest -> core.Protection; the first copy has begun
//	DELETE /v1/protections/{domain}
//	PATCH  /v1/protections/{domain}            ChangeRequest -> core.Protection; it has begun
//	GET    /v1/protections/{domain}/explain    core.Explanation
//	POST   /v1/protections/{domain}/failover   FailoverRequest -> core.Protection; it has begun
//	POST   /v1/nodes/{node}/drain, .../undrain -> core.Node
//	GET    /v1/managers                        Managers
//	POST   /v1/managers/{node}                 -> Managers; DELETE likewise
//	GET    /v1/state                           the agreed state as a file (package saved), with secrets
//	POST   /v1/state/restore                   RestoreRequest -> RestoreResult
//	GET    /metrics                            Prometheus
//
// Between nodes:
//
//	POST   /v1/propose                         core.Command
//	GET    /v1/standing                        cluster.Standing; from a node that waits to take part, too
//	POST   /v1/nodes/{node}/blank              core.Node, which starts without its log: it has no vote after
//	POST   /v1/hand-over                       another manager leads after
//	GET    /v1/agent/domains/{name}            DomainInfo of this host; ?index=N: once it has
//	                                           seen to what the state of that index asks of it
//	GET    /v1/agent/domains/{name}/definition its XML, a string, with secrets
//	POST   /v1/agent/backup-check              BackupRequest; refused with the reason
//	GET    /v1/agent/sightings                 []core.Sighting, what this host knows of its guests
//	POST   /v1/agent/probe                     core.Probe; refused with the reason why it fails from there
//	GET    /v1/agent/stats                     map of domain to Stats, for the primaries here
//
// There is no authentication: the management network is to be hamgr's own.
package api
