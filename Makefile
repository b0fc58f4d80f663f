# quorate: `make run` starts four replicas and eight agents here, `make test` runs
# every test and check. Both install what they need. `make help` lists the rest.

# Without this tag raft's metrics go to a library that we do not link.
TAGS     := hashicorpmetrics
GO       ?= go
GOFLAGS_ := -tags $(TAGS)
# Inputs for each fuzz target in `make test`; `make fuzz TIME=30s` takes longer.
FUZZTIME ?= 2500x
TIME     ?= 30s
PORT     ?= 7400
MINUTES  ?= 10
# The bound on the simulation; HOURS=n takes about six seconds of a core for each hour.
SIMLIMIT ?= 25m
# Every package but those that have a stage of their own. The first one's tests
# wait for real time more than all others together: the others run beside it.
PACKAGES  = ./ledger/replica $(shell $(GO) list $(GOFLAGS_) ./... | grep -v -e '/test$$' -e '/test/thirdparty$$' -e '/test/sim$$' -e '/ledger/replica$$')
SOURCES   = $(shell git ls-files --cached --others --exclude-standard '*.go')
VERIFIER := test/verifier-js

.PHONY: help build run demo attack keyloss rotation chaos chaos-short chaos-build chaos-older chaos-tools test check fuzz bench bench-build lossy model etcd microbench clean \
        tools node format vet staticcheck floors unit sim fuzz-short thirdparty verifier-js

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## build bin/quorate
	@mkdir -p bin
	$(GO) build $(GOFLAGS_) -o bin/ ./cmd/...

run: build ## run four replicas and eight agents of four operators on loopback, in the foreground; Ctrl-C stops them, run/ keeps all
	@exec bin/quorate dev --dir run --port $(PORT) --agents 8

demo: build ## the main job as a script that a reader can follow
	@exec bash test/demo/demo.sh

attack: build ## what a lying replica of four and attacking nodes can do, staged with real processes; STAGE=name for some (node- for the nodes)
	$(GO) build $(GOFLAGS_) -o bin/ ./test/byzantine ./test/byzantine/liar ./test/byzantine/observer
	@exec bin/byzantine -bin bin -only "$(STAGE)"

keyloss: build bin/fsck ## keys that are lost, stolen and rotated, and the ways back, rehearsed with real processes; ONLY=letters of stories (abc…)
	$(GO) build $(GOFLAGS_) -o bin/ ./test/keyloss ./test/byzantine/observer
	@exec bin/keyloss -bin bin -only "$(ONLY)"

rotation: build ## twenty agents that rotate their keys while they speak and are hurt; EPOCHS=n (100; 24 has every fault) of EPOCH=6s, each agent speaking EVERY=1s
	$(GO) build $(GOFLAGS_) -o bin/ ./test/rotation ./test/byzantine/observer
	@exec bin/rotation -bin bin -epochs $(or $(EPOCHS),100) -epoch $(or $(EPOCH),6s) -every $(or $(EVERY),1s)

chaos: chaos-build chaos-older ## real replicas in network namespaces, hurt at random for MINUTES=n; SEED=n, ONLY=name,name, OLDER=commit
	bin/chaos --older bin/quorate-older --last $(MINUTES)m --seed $(or $(SEED),0) --only "$(ONLY)"

chaos-short: chaos-build
	bin/chaos --seed $(or $(SEED),0) --only "$(ONLY)"

chaos-build: build chaos-tools
	$(GO) build $(GOFLAGS_) -o bin/ ./test/chaos
	$(GO) build $(GOFLAGS_) -o bin/chaos-replica ./test/chaos/replica

chaos-older:
	@bash test/chaos/older.sh bin/quorate-older "$(OLDER)"

chaos-tools: ## iproute2 and nftables, from Debian when they are missing and may be installed
	@need=; PATH="$$PATH:/usr/sbin:/sbin"; \
	command -v ip >/dev/null && command -v tc >/dev/null || need=iproute2; \
	command -v nft >/dev/null || need="$$need nftables"; \
	[ -z "$$need" ] || { \
		sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
		$$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$need; \
	} || echo "chaos needs $$need, which could not be installed"

# What needs the machine to itself, what waits for real time, and what only
# computes beside it: test/stages.sh.
FIRST   := format build vet staticcheck floors
WAITING := unit chaos-short thirdparty verifier-js
SPARE   := sim fuzz-short

test: ## every test and check; what CI runs. All output is kept in bin/stages
	@MAKE="$(MAKE)" bash test/stages.sh "$(FIRST)" "$(WAITING)" "$(SPARE)"

check: test ## the same as test

format: ## gofmt says nothing
	@bad=$$(gofmt -l $(SOURCES)); [ -z "$$bad" ] || { echo "not gofmt'd:"; echo "$$bad"; exit 1; }

vet:
	$(GO) vet $(GOFLAGS_) ./...

staticcheck: tools
	bin/staticcheck -tags $(TAGS) ./...

floors: ## dependencies run one way, and the checks of the house
	$(GO) test $(GOFLAGS_) -count=1 ./test

unit: ## unit tests, transcripts, scripts, cluster
	$(GO) test $(GOFLAGS_) -timeout 15m $(PACKAGES)

sim: ## clusters in virtual time under faults; HOURS=n SEED=s for more or others, REPLAY=record again
	$(GO) test $(GOFLAGS_) -count=1 -timeout $(SIMLIMIT) ./test/sim $(if $(SEED)$(HOURS)$(REPLAY),-v -run '^TestSim$$') \
		$(if $(SEED),-sim.seed $(SEED)) $(if $(HOURS),-sim.hours $(HOURS)) $(if $(RECORD),-sim.record $(abspath $(RECORD))) $(if $(REPLAY),-sim.replay $(abspath $(REPLAY)))

thirdparty: tools $(VERIFIER)/node_modules/.installed ## tessera's fsck and other people's clients on our logs
	QUORATE_DEMAND_NODE=1 $(GO) test $(GOFLAGS_) -count=1 -timeout 8m ./test/thirdparty
	QUORATE_DEMAND_NODE=1 $(GO) test $(GOFLAGS_) -count=1 -timeout 8m -run '^TestJavaScript' ./ledger/audit

verifier-js: $(VERIFIER)/node_modules/.installed ## the independent verifier: its own tests, then the vectors
	cd $(VERIFIER) && node --test
	node $(VERIFIER)/cli.js vectors test/vectors

fuzz: ## every fuzz target for TIME each
	@bash test/fuzz.sh $(TIME)

fuzz-short:
	@bash test/fuzz.sh $(FUZZTIME)

microbench: ## Go benchmarks as a table
	@$(GO) test $(GOFLAGS_) -run '^$$' -bench . -benchmem $(PACKAGES) | \
	awk '/^pkg:/ {sub(".*/quorate/", "", $$2); pkg = $$2} \
	     /^Benchmark/ {n = $$1; sub("^Benchmark", "", n); $$1 = ""; $$2 = ""; printf "%-18s %-36s %s\n", pkg, n, $$0} \
	     /^(FAIL|---)/ {print; bad = 1} END {exit bad}'

model: ## simulate the rules of reputation whole, and fleets of up to 5,000 nodes: the figures of fsm/DESIGN.md and test/model/DESIGN.md
	QUORATE_MODEL=1 $(GO) test $(GOFLAGS_) -count=1 -timeout 60m -v -run '^TestModel|^TestGrowth' ./fsm ./test/bench ./test/model | grep -v '^=== '

bench: build etcd chaos-tools bench-build ## measure whole ledgers beside etcd, and agents beside a bare GossipSub: a table, and bench.json; QUICK=1 takes seven minutes
	cd test/bench/etcd && $(GO) build -o ../../../bin/etcdload .
	bin/bench $(if $(QUICK),--quick) $(BENCHFLAGS)

bench-build:
	$(GO) build $(GOFLAGS_) -o bin/ ./test/bench ./test/byzantine/observer

lossy: build chaos-tools bench-build ## broadcasts among 20 agents in network namespaces whose lines lose and delay packets: none may be lost
	bin/bench --only lossy --out bin/lossy.json

etcd: ## etcd, from Debian when it is missing; its service is not left running
	@command -v etcd >/dev/null || { \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends etcd-server; \
	}

clean: ## remove what was built and installed; run/ holds keys and a ledger and stays
	rm -rf bin $(VERIFIER)/node_modules

# The tools' dependencies weigh on a module graph of their own.
tools: bin/staticcheck bin/fsck
bin/staticcheck bin/fsck: test/tools/go.mod test/tools/go.sum
	@mkdir -p bin
	cd test/tools && $(GO) build -o ../../bin/ honnef.co/go/tools/cmd/staticcheck github.com/transparency-dev/tessera/cmd/fsck
	@touch bin/staticcheck bin/fsck

node: ## Node 18 or newer, from Debian when it is missing
	@need=; node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null || need=nodejs; \
	command -v npm >/dev/null || need="$$need npm"; \
	[ -z "$$need" ] || { \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$need; \
	}

$(VERIFIER)/node_modules/.installed: $(VERIFIER)/package-lock.json | node
	cd $(VERIFIER) && npm ci --loglevel=error --no-audit --no-fund
	@touch $@
