package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hamgr/hamgr/hamgr/core"
)

// chooseBackup takes the first candidate that agrees.
func (s *Server) chooseBackup(ctx context.Context, st core.State, p core.Protection, info DomainInfo) (string, error) {
	candidates, err := candidates(st, p)
	if err != nil {
		return "", err
	}
	live := s.liveness()
	why := []string{}
	for _, n := range candidates {
		if st.Nodes[n].Drained {
			why = append(why, n+" is drained")
			continue
		}
		if l := live[n]; n != s.Node && !l.reachable() {
			why = append(why, n+" is "+stateName(l))
			continue
		}
		err := s.peer(st.Nodes[n].Addr).Do(ctx, http.MethodPost, "/v1/agent/backup-check", BackupRequest{
			Domain: p.Domain, UUID: info.UUID, MemoryBytes: info.MemoryBytes, QEMUVersion: info.QEMUVersion, Emulator: info.Emulator, KVM: info.KVM}, nil)
		if err == nil {
			return n, nil
		}
		why = append(why, n+": "+err.Error())
	}
	if len(why) == 0 {
		why = append(why, p.Primary+" is the only node")
	}
	return "", Failure(CodeRefused, "see hamgr node list, and hamgr check on the backup", "no backup for %s: %s", p.Domain, strings.Join(why, "; "))
}

func candidates(st core.State, p core.Protection) ([]string, error) {
	names := slices.Sorted(maps.Keys(st.Nodes))
	if p.Pinned != "" {
		if _, ok := st.Nodes[p.Pinned]; !ok {
			return nil, Failure(CodeNotFound, "known nodes: "+strings.Join(names, ", "), "no node %q to be the backup of %s", p.Pinned, p.Domain)
		}
		if p.Pinned == p.Primary {
			return nil, Failure(CodeConflict, "choose another node, or leave --backup out", "%s runs on %s, which cannot be its own backup", p.Domain, p.Pinned)
		}
		return []string{p.Pinned}, nil
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == p.Primary })
	core.Prefer(st, p, names)
	return names, nil
}

func stateName(l NodeLiveness) string {
	if l.State == "" {
		return "not heard of yet"
	}
	return l.State
}
