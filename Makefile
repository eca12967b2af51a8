# Everything a person or CI runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# One profile for what is run as a user would run it: the lab, its tests, the benchmarks of whole programs.
LAB_PROFILE := lab
BIN := target/$(LAB_PROFILE)
LAB_ARGS ?= --once
# Cases that we did not write; tests that need them say that they are skipped where the folder is absent.
export BULKHEAD_SUITES ?= $(CURDIR)/../shared/suites

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

.PHONY: tools
tools: ## Check for what the build needs; name the command that installs it
	@deploy/tools.sh build

.PHONY: binaries
binaries: tools ## Build the three programs as the lab runs them
	@$(CARGO) build --locked --profile $(LAB_PROFILE) -p bulkhead-cli -p bulkhead-proxy -p bulkhead-controller

# One file that needs no library: two MiB less of resident memory, and nothing of the image's can be exchanged under it.
.PHONY: sidecar
sidecar: tools ## Build the sidecar as it ships
	$(CARGO) rustc --locked --release -p bulkhead-proxy --bin bulkhead-proxy -- -C target-feature=+crt-static -C lto=fat -C codegen-units=1

.PHONY: lab
lab: binaries ## Run the main job: learn, propose, enforce, attack, report
	@$(BIN)/bulkhead lab $(LAB_ARGS)

.PHONY: test
test: binaries ## Every test, the lab with real programs among them
	@deploy/tools.sh lab
	@mkdir -p target
	@# The harness hides what passing tests print, and with it what was skipped, unless it is told to show it.
	BULKHEAD_BIN_DIR=$(CURDIR)/$(BIN) $(CARGO) test --locked --workspace -- --show-output 2>&1 | tee target/test.log
	@echo "skipped here: $$(grep -o 'skipped: ' target/test.log | wc -l)"

.PHONY: test-long
test-long: binaries ## Long trials, of which `make test` runs a sample
	@deploy/tools.sh lab
	@deploy/tools.sh long
	BULKHEAD_BIN_DIR=$(CURDIR)/$(BIN) BULKHEAD_LONG=1 $(CARGO) test --locked --workspace -- --nocapture

.PHONY: test-evasion
test-evasion: binaries ## Everything that an app can try against its firewall, without and with sidecars
	BULKHEAD_BIN_DIR=$(CURDIR)/$(BIN) $(CARGO) test --locked -p bulkhead-tests --test evasion

.PHONY: check
check: tools ## Format, lints, licences, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@deploy/tools.sh deny
	$(CARGO) deny --all-features check licenses bans sources
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

.PHONY: format
format: ## Format the code
	$(CARGO) fmt --all

.PHONY: bench
bench: tools ## Benchmarks; tables as JSON in target/bench
	$(CARGO) bench --locked -p bulkhead-benches --bench decide --bench compile

.PHONY: bench-decide
bench-decide: tools ## Instructions of a verdict, counted by callgrind; the same on a noisy machine
	@deploy/tools.sh count
	$(CARGO) bench --locked -p bulkhead-benches --bench decide -- --instructions

REQUESTS_ARGS ?=
.PHONY: bench-requests
bench-requests: tools ## Instructions of an inspected request of HTTP/1.1, HTTP/2 and gRPC, counted by callgrind; the same on a noisy machine
	@deploy/tools.sh count
	$(CARGO) bench --locked -p bulkhead-benches --bench requests -- $(REQUESTS_ARGS)

KERNEL_ARGS ?=
.PHONY: bench-kernel
bench-kernel: tools ## What the kernel tier costs beside nothing, linear rules, a copying program and a queue; needs root
	@deploy/tools.sh kernel
	$(CARGO) bench --locked --profile $(LAB_PROFILE) -p bulkhead-benches --bench kernel -- $(KERNEL_ARGS)

.PHONY: bench-amplification
bench-amplification: tools ## What hostile bytes cost beside ordinary ones of the same protocol, in processor time of sessions
	$(CARGO) bench --locked --profile $(LAB_PROFILE) -p bulkhead-benches --bench amplification

PEERS_ARGS ?=
.PHONY: bench-peers
bench-peers: sidecar ## What inspection costs beside Envoy, HAProxy, nginx, hyper and a bare copy; PEERS_ARGS picks workloads
	@deploy/tools.sh peers
	$(CARGO) bench --locked -p bulkhead-benches --bench inspect -- $(PEERS_ARGS)

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
.PHONY: fuzz
fuzz: tools ## Fuzz every reader of untrusted bytes for FUZZ_SECONDS each; FUZZ_TARGETS picks some, FUZZ_RECORD=1 notes the hours
	@deploy/tools.sh fuzz
	tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)
