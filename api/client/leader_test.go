package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// leaderlessServer holds submissions for 5 s while lead gives no leader, as replicas do.
func leaderlessServer(posts *int, lead func() string) func(*http.Request) (int, http.Header, string) {
	return func(q *http.Request) (int, http.Header, string) {
		if q.Method == http.MethodGet {
			return 200, nil, `{"name":"r","leader":"` + lead() + `"}`
		}
		*posts++
		for range 50 {
			if lead() != "" {
				return 200, nil, `{"level":"committed","statements":[{"seq":5,"verdict":"ok"}]}`
			}
			time.Sleep(100 * time.Millisecond)
		}
		return answering(503, "no_leader", "1")(q)
	}
}

// TestNoLeaderIsSaidSoon: in virtual time, whoever writes without a quorum
// hears it within 15 s, from however many servers, some of them dead.
func TestNoLeaderIsSaidSoon(t *testing.T) {
	for name, alive := range map[string][]string{
		"one": {"a"}, "all": {"a", "b", "c", "d"}, "some": {"b", "d"}, "seven": {"a", "b", "c", "d", "e", "f", "g"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				posts, servers, network := 0, []string{}, map[string]func(*http.Request) (int, http.Header, string){}
				for _, host := range alive {
					network[host] = leaderlessServer(&posts, func() string { return "" })
				}
				for _, host := range []string{"a", "b", "c", "d"}[:min(len(alive)*2, 4)] {
					servers = append(servers, "http://"+host)
				}
				for _, host := range alive[min(len(alive), 4):] {
					servers = append(servers, "http://"+host)
				}
				c, err := New(Options{Servers: servers, HTTPClient: &http.Client{Transport: transportFunc(func(q *http.Request) (*http.Response, error) {
					if network[q.URL.Host] == nil {
						return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
					}
					return roundTrips(network).RoundTrip(q)
				})}})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				_, err = c.Submit(context.Background(), [][]byte{{1}}, WaitCommitted)
				var p *Problem
				if !errors.As(err, &p) || p.Code != "no_leader" {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took < leaderPatience || took > 15*time.Second {
					t.Errorf("it took %s", took)
				}
				if posts != 2 {
					t.Errorf("submitted %d times, want once a round", posts)
				}
			})
		})
	}
}

// TestElectionIsRiddenOut: a leader that comes late is found, at whichever
// server knows it.
func TestElectionIsRiddenOut(t *testing.T) {
	for _, after := range []time.Duration{3 * time.Second, 5200 * time.Millisecond, 8 * time.Second} {
		for _, partitioned := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				posts, began := 0, time.Now()
				late := func() string {
					if time.Since(began) < after {
						return ""
					}
					return "r2"
				}
				network := roundTrips{"a": leaderlessServer(&posts, late), "b": leaderlessServer(&posts, late), "c": leaderlessServer(&posts, late)}
				if partitioned {
					network["a"] = leaderlessServer(&posts, func() string { return "" })
				}
				c := testClient(t, network, "http://a", "http://b", "http://c")
				answer, err := c.Submit(context.Background(), [][]byte{{1}}, WaitCommitted)
				if err != nil || answer.Statements[0].Seq != 5 {
					t.Errorf("a leader after %s (partitioned %t): %v", after, partitioned, err)
				}
			})
		}
	}
}
