# Two commands matter: make demo, make test. Both need root on Debian, and Go.
GO      ?= go
TAGS    := libvirt_dlopen
KEEP    ?= 0
HOSTS   ?= container
OUT     := out
SEEDS   ?= 100000
NODES   ?= 3
export GOFLAGS := $(GOFLAGS) -tags=$(TAGS)

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: deps ## out/bin/hamgr
	$(GO) build -o $(OUT)/bin/hamgr ./cmd/hamgr

demo: deps ## the main job: a protected VM outlives its host (KEEP=1 leaves it running, HOSTS=uml gives each host a kernel of its own)
	@$(GO) build -o $(OUT)/bin/ ./test/demo ./test/lab/cmd/lab
	@$(OUT)/bin/demo -hosts $(HOSTS) $(if $(filter 1,$(KEEP)),-keep)

lab: deps ## out/bin/lab: hosts to try things on, as many as you like
	@$(GO) build -o $(OUT)/bin/ ./test/lab/cmd/lab
	@$(OUT)/bin/lab --help

bench: deps ## the figures that hamgr promises, from real runs, into out/bench (ONLY=path: one section)
	@$(GO) build -o $(OUT)/bin/bench ./test/bench
	@$(OUT)/bin/bench -only "$(ONLY)"

commit: deps ## random failures of a watched guest's hosts, each checked: RUNS=n (200, or 40 with HOSTS=uml; ten minutes) SEED=s HOSTS=container, into out/commit
	@$(GO) build -o $(OUT)/bin/campaign ./test/commit/campaign
	@$(OUT)/bin/campaign -runs $(or $(RUNS),$(if $(filter uml,$(HOSTS)),40,200)) $(if $(SEED),-seed $(SEED)) -hosts $(HOSTS)

sim: ## hamgr's decisions in simulated failures: SEEDS=n from SEED=first on, into out/sim (SEEDS=1 tells the story of one)
	@$(GO) build -o $(OUT)/bin/sim ./test/sim/campaign
	@$(OUT)/bin/sim -seeds $(SEEDS) $(if $(SEED),-seed $(SEED)) -out $(OUT)/sim

chaos: deps ## hosts, processes and networks fail at random, and every promise is checked: RUNS=n SEED=s HOSTS=container NODES=3 FAULTS=a,b, into out/chaos
	@$(GO) build -o $(OUT)/bin/chaos ./test/chaos
	@$(OUT)/bin/chaos -runs $(or $(RUNS),20) $(if $(SEED),-seed $(SEED)) -hosts $(HOSTS) -nodes $(NODES) -faults "$(FAULTS)"

# -count=1: Go remembers results by what a test's own process reads, and the end-to-end tests
# build the hamgr that they test by another.
test: deps ## all tests, the end-to-end run among them
	@test -z "$$(gofmt -l cmd hamgr internal qmp storage bufferqdisc detector test)" || { gofmt -l .; echo "run gofmt -w on them"; exit 1; }
	$(GO) vet ./...
	$(GO) test -count=1 -timeout 25m -p 1 ./...

deps: ## what this machine needs to build: a C compiler for libvirt's binding
	@command -v gcc >/dev/null && command -v pkg-config >/dev/null && test -e /usr/include/libvirt/libvirt.h || \
	  { echo "installing gcc, pkg-config, libvirt-dev"; apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends gcc libc6-dev pkg-config libvirt-dev; }

clean: ## remove what was built and written here
	rm -rf $(OUT)

.PHONY: help build demo lab bench commit sim chaos test deps clean
