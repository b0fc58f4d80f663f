package api

import (
	"context"
	"fmt"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

func (s *Server) clusterRoutes(h huma.API) {
	registerRead(s, h, "list-replicas", "/v1/replicas", "The replicas that the ledger names",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Replicas, error) {
			out := &client.Replicas{Replicas: []client.Replica{}}
			for _, r := range v.State.Replicas() {
				out.Replicas = append(out.Replicas, presentReplica(r))
				if r.Standing == fsm.ReplicaActive {
					out.Active++
				}
			}
			out.Faults, out.Cosign = ledger.Faults(out.Active), ledger.CosignThreshold(out.Active)
			return out, nil
		})
	registerRead(s, h, "get-cluster", "/v1/cluster", "The replicas that the ledger names, with what this one sees of each",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Cluster, error) {
			return cluster(v, s.backend.Status()), nil
		})
	registerRead(s, h, "get-epoch", "/v1/epochs/current", "The current epoch",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Epoch, error) {
			meta := v.State.Meta()
			return &client.Epoch{Epoch: meta.Epoch, Start: meta.EpochStart, Next: meta.EpochStart + v.State.Policy().EpochMillis}, nil
		})
	s.statusRoute(h)
}

// statusRoute answers whatever the replica's state is, so it takes no view.
func (s *Server) statusRoute(h huma.API) {
	type output struct {
		CacheControl string `header:"Cache-Control"`
		Body         client.Status
	}
	huma.Register(h, huma.Operation{
		OperationID: "get-status", Method: "GET", Path: "/v1/status", Tags: []string{"read"},
		Summary: "This replica as it sees itself", Errors: []int{429},
	}, func(context.Context, *struct{}) (*output, error) {
		status := s.backend.Status()
		status.Version = s.config.Version
		status.Alarms, status.Peers = orEmpty(status.Alarms), orEmpty(status.Peers)
		return &output{CacheControl: "no-store", Body: status}, nil
	})
}

func cluster(v *View, status client.Status) *client.Cluster {
	out := &client.Cluster{
		Replica: status.Name, Leader: status.Leader, Term: status.Term,
		Members: []client.ClusterSeat{}, Warnings: append([]string{}, status.Alarms...),
	}
	peers := map[string]client.PeerStatus{}
	for _, p := range status.Peers {
		peers[p.Name] = p
	}
	active := 0
	for _, r := range v.State.Replicas() {
		seat := client.ClusterSeat{
			Name: r.Name, Operator: r.Operator, Standing: r.Standing, Peer: r.Peer, API: r.API,
			Leader: r.Name == status.Leader, Seen: peers[r.Name],
		}
		out.Members = append(out.Members, seat)
		if r.Standing == fsm.ReplicaActive {
			active++
		}
	}
	out.Warnings = append(out.Warnings, warnings(active)...)
	return out
}

// warnings say what a cluster of this size does not do.
func warnings(active int) []string {
	if ledger.Faults(active) > 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d active replicas tolerate no lying one: they detect equivocation but do not prevent it; four tolerate one", active)}
}
