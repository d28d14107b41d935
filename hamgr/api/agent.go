package api

import (
	"context"

	"github.com/hamgr/hamgr/hamgr/agent"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// What an agent says of its host, as it goes over the API.
type (
	DomainInfo    = agent.DomainInfo
	BackupRequest = agent.BackupRequest
	CheckResult   = agent.CheckResult
	Stats         = agent.Stats
)

// ErrNoDomain is what Agent.Domain returns for a name that libvirt there does not know.
var ErrNoDomain = domain.ErrNoDomain

// Agent is what the server needs of its own node's agent.
type Agent interface {
	// Domain describes a domain of this host and what keeps it from being protected, once the
	// host has seen to what the cluster had decided by index. Errors: ErrNoDomain.
	Domain(ctx context.Context, name string, index uint64) (DomainInfo, error)
	// Definition is the XML to start a domain of this host elsewhere with, with its secrets.
	// Errors: ErrNoDomain.
	Definition(ctx context.Context, name string) (string, error)
	// BackupCheck says why this host cannot hold a replica; nil: it can.
	BackupCheck(ctx context.Context, r BackupRequest) error
	// Probe asks a guest's service once, from this host, and says why it does not answer.
	Probe(ctx context.Context, p core.Probe) error
	// Stats are those of the protections whose primary is here, by domain.
	Stats() map[string]Stats
	// Sightings are what this host knows of its guests, and of those that it had a part in.
	Sightings(ctx context.Context) ([]core.Sighting, error)
	// Check is the preflight of this host.
	Check(ctx context.Context) []CheckResult
}
