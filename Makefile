# The entry of everything. Each target installs what it needs (scripts/setup.sh) and nothing else is hidden; one cargo
# profile, release, for the binary, the tests and the lints, so that RocksDB is compiled once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

.PHONY: help setup build demo test test-gpu sim sim-plants model chaos soak check fix bench docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install missing system packages and Rust
	@scripts/setup.sh

build: setup ## the release binary, at target/release/muster
	@scripts/build.sh

demo: build ## three members, two workers, a real DAG, and the leader killed in the middle
	@scripts/demo.sh

test: build ## every test: pure, simulator, Raft, real processes
	@scripts/test.sh

test-gpu: build ## the GPU tests on this machine's own driver; without a GPU it says so and ends well
	@scripts/test-gpu.sh

SEEDS ?= 10000
sim: setup ## the whole cluster in virtual time, SEEDS=10000 seeds; one that fails prints the command that repeats it
	@source scripts/env.sh && cargo run --release --quiet -p muster-sim -- --seeds 0..$(SEEDS)

sim-plants: setup ## every planted bug under 500 seeds, hunted until its invariant speaks; a table, and an error for one that is missed
	@source scripts/env.sh && cargo run --release --quiet -p muster-sim -- --plants --seeds 0..500

DURATION ?= 10m
chaos: build ## a real cluster in network namespaces, tormented for DURATION=10m from SEED (drawn and printed when absent)
	@scripts/chaos.sh --duration $(DURATION) $(if $(SEED),--seed $(SEED))

soak: build ## the same for an hour
	@scripts/chaos.sh --duration 1h $(if $(SEED),--seed $(SEED))

model: setup ## the lease protocol in every order of events within the larger bounds, then each mistake that it has to find
	@source scripts/env.sh && cargo run --release --quiet -p muster-lease-model -- --large
	@source scripts/env.sh && cargo run --release --quiet -p muster-lease-model -- --plants

check: setup ## every gate that edits nothing: format, lints, rustdoc, licences, spelling, house rules
	@scripts/check.sh

fix: setup ## what can be mended by a machine: format, and clippy's own suggestions
	@source scripts/env.sh && cargo clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged
	@source scripts/env.sh && cargo fmt --all

bench: build ## the benchmarks of docs/src/benchmarks.md, on this machine
	@scripts/bench.sh

docs: ## the book, into target/book (needs mdbook)
	@command -v mdbook >/dev/null || { echo "error: mdbook is not installed" >&2; echo "hint: cargo install mdbook, or read docs/src as it is" >&2; exit 1; }
	@mdbook build docs

clean: ## this checkout's binary and book; the shared cache stays (rm -r ~/.cache/muster removes it)
	@rm -rf target
