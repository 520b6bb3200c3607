# make demo    builds everything and shows a drain of 500 live users, in under two minutes after the build
# make demo KEEP=1   the same two hubs and kitchens, left running: open the page and drain by hand
# make bench   measures all of load-tests/README.md beside the peers; JSON and pages go to target/bench
# make test    all checks and tests; the last line is "N passed, N failed"
# make fuzz    every target under libFuzzer, a minute each   (SECONDS=600  TARGET=connection)
# make soak MINUTES=10 SEED=7   churn, random drains and kills over real hubs; ends with "lost 0, duplicated 0, two owners 0"
#
# All do all set-up by themselves. What they need to be there: Rust (cargo) and Node 20 (node, npm).

# One place for what is built, whatever the environment says: scripts look for programs there.
export CARGO_TARGET_DIR := $(CURDIR)/target
# What cargo notes for the next build costs a first one half a minute; it is left out until somebody builds by hand.
ifeq ($(wildcard target/debug/incremental/*),)
export CARGO_INCREMENTAL ?= 0
endif
# The same for npm's and cargo's own talk.
export npm_config_fund := false
export npm_config_audit := false
export npm_config_update_notifier := false

.PHONY: help demo test bench sim fuzz soak setup setup-demo build release sdk lint fmt

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "also: make sim SEEDS=n · sim SEED=n · setup · build · lint · fmt"

demo: setup-demo release sdk
	@node examples/demo/demo.mjs $(if $(filter-out 0 no false,$(KEEP)),--keep)

test: setup
	@node scripts/test.mjs

# Needs a C++ compiler for libFuzzer, and cargo-fuzz, which it installs; no nightly: coverage comes from stable flags.
# What is found new is kept in fuzz/found, what breaks in fuzz/artifacts.
SECONDS ?= 60
fuzz:
	@scripts/fuzz.sh "$(SECONDS)" $(TARGET)

# Simulations of whole fleets: so many random seeds, or one seed with its trace (STEPS cuts its schedule short).
SEEDS ?= 200
sim:
	@$(if $(SEED),TIDEGATE_SIM_SEED=$(SEED) $(if $(STEPS),TIDEGATE_SIM_STEPS=$(STEPS)),TIDEGATE_SIM_SEEDS=$(SEEDS) $(if $(BASE),TIDEGATE_SIM_BASE=$(BASE))) \
		cargo test --quiet --locked -p tidegate-tests --test sim whole_fleets -- --nocapture

# The debug build, for it has the fault points that some of the kills need.
MINUTES ?= 10
soak: setup-demo
	@cargo build --locked --workspace --bins
	@target/debug/tidegate-soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# What the demo needs; `setup` adds what only tests need: two browsers, two balancers, cargo-deny.
setup-demo:
	@scripts/setup.sh demo

setup:
	@scripts/setup.sh test

build: setup-demo sdk
	cargo build --workspace --locked

release:
	cargo build --release --locked --bin tidegate --bin tidegate-hook --bin tidegate-load --bin tidegate-kitchen

bench: release
	cargo build --release --locked -p tidegate-load-baseline
	npm ci --silent --prefix load-tests/peers/ws
	@load-tests/peers/uws/build.sh $(CARGO_TARGET_DIR)/release/tidegate-load-peer-uws
	@load-tests/bench.sh

sdk: setup-demo
	@cd client-sdk-js && npm run --silent build

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt:
	cargo fmt --all
