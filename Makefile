# What can be made here; `make help` lists it. CI runs `make test`, see .ci/run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps lint unit shell luci luci-parts luci-pictures static ipk apk feed dist mips cross cross-all size \
	licences deny release lab-parts demo bench scenarios weeks promises fuzz test clean

# The lab's binaries: the programs as they are shipped, the doubles of OpenWrt's own, and the prober alone.
LAB_BIN := target/lab/bin
DOUBLES := ubusd netifd ubus flood
OURS := tailover tailover-fetch
EXAMPLE := bursts
# CI builds for this CPU besides its own.
MIPS := mips-unknown-linux-musl

# Every shell file, by its first line where the name does not tell.
SCRIPTS := $(wildcard tools/*.sh tests/shell/*.sh tests/shell/lib/*.sh lab/*.sh lab/run) .ci/run \
	$(wildcard lab/bench/recipes/*) openwrt/net/tailover/test.sh openwrt/utils/tailover-monitoring/files/usr/libexec/tailover-collectd \
	$(addprefix openwrt/net/tailover/files/etc/, init.d/tailover \
	hotplug.d/iface/90-tailover hotplug.d/ntp/90-tailover uci-defaults/90-tailover)

# The lab's Go parts are built with a Go that is new enough; OpenWrt's names are in sbin.
LAB = PATH="$$(tools/go.sh):$$PATH:/usr/sbin:/sbin" python3 -m lab

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

deps: ## install what is missing (as root, Debian)
	@tools/deps.sh

lint: ## formatting, clippy, shellcheck, and the pages and lists that are made of others
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	shellcheck -x $(SCRIPTS)
	tools/cross.py check
	tools/licences.py check
	tools/release.py places
	tools/reliability.py check
	python3 -m lab bench --check

unit: ## the tests that need neither network nor root
	cargo test --locked --workspace

weeks: ## COUNT=... (10000) simulated weeks of a router; docs/reliability.md has what more of them found
	WEEKS="$(or $(COUNT),10000)" cargo test --locked --profile weeks -p tailover-weeks --test weeks -- --nocapture

promises: ## breaks each promise of the core on purpose; the weeks must notice
	tools/reliability.py promises

fuzz: ## hostile bytes for each parser, guided by coverage; TIME=... (20) seconds each
	tools/fuzz.py --seconds "$(or $(TIME),20)"

shell: ## the tests of the shell scripts and of the tools
	@for test in tests/shell/*.sh; do echo "shell: $$test"; busybox ash "$$test"; done
	python3 -m unittest discover -s tests/tools

# The real daemon and the lab's doubles, in the profile of the unit tests; what npm brings is kept.
luci-parts: tests/luci/node_modules/.package-lock.json
	cargo build --locked -p tailover -p tailover-lab-doubles

tests/luci/node_modules/.package-lock.json: tests/luci/package-lock.json
	cd tests/luci && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

luci: luci-parts ## the tests of LuCI's pages, in headless Chromium; LUCI=FOLDER: on openwrt/luci's own client
	@# 77: no namespaces can be made here.
	@node --test-reporter=spec tests/luci/run.mjs || { code=$$?; [ $$code = 77 ] && [ "$${CI:-}" != true ] || exit $$code; \
		echo "luci: SKIPPED; nothing about the pages is proved"; }

luci-pictures: luci-parts ## the pictures of docs/luci.md anew; LUCI=FOLDER as above
	node tests/luci/pictures.mjs

static: ## the static binaries for this machine's CPU, target/static/tailover and tailover-fetch
	@tools/static.sh

# Of binaries that are built already: `make static`, or tools/static.sh [--mini] TARGET.
PACK = python3 tools/package $@ $(if $(TARGET),--target $(TARGET)) $(if $(VARIANT),--variant $(VARIANT))

ipk: ## packages for opkg (OpenWrt 24.10) of TARGET=... (this machine's), VARIANT=mini; in target/packages
	@$(PACK)

apk: ## the same for apk (OpenWrt 25.12)
	@$(PACK)

feed: ## both, with an index of each architecture's folder
	@$(PACK)

dist: ## the source tarball that the OpenWrt feed names, and its SHA-256
	@$(PACK)

mips: ## the binaries for one router's CPU, started under an emulator; both CPUs' sizes against the budget
	@tools/cross.py build $(MIPS) --quick
	@tools/size.py check "$$(uname -m)-unknown-linux-musl" $(MIPS)

cross: ## both variants for TARGET=..., started and tested under an emulator
	@tools/cross.py build "$(TARGET)"

cross-all: ## the same for every CPU that is not done yet (hours), and the table in docs/cpus.md
	@tools/cross.py all

size: ## what takes the room, by crate; of TARGET=... or of this machine's CPU
	@tools/size.py show $(TARGET)

licences: ## the list of licences, docs/licences.md
	@tools/licences.py list

deny: ## cargo-deny with deny.toml; builds the tool first, which takes minutes
	@tools/deny.sh

release: ## the release VERSION=...: packages, checksums, bill of materials and tag, in target/release
	@tools/release.py make "$(VERSION)"

lab-parts: static ## what the lab is made of: tailscale, headscale, derper, doubles
	@# In the profile of the unit tests, which have built most of it already.
	cargo build --locked -p tailover-lab-doubles
	cargo build --locked --example $(EXAMPLE)
	mkdir -p $(LAB_BIN)
	@# A new file each time: the old one may be running.
	for file in $(DOUBLES:%=target/debug/%) $(OURS:%=target/static/%) target/debug/examples/$(EXAMPLE); do \
		name="$$(basename "$$file")"; \
		cp "$$file" "$(LAB_BIN)/$$name.new"; \
		mv "$(LAB_BIN)/$$name.new" "$(LAB_BIN)/$$name"; \
	done
	$(LAB) parts

demo: deps ## a WAN failover of a real tailnet, without and with tailover
	@$(MAKE) --no-print-directory lab-parts
	@$(LAB) demo

bench: deps ## side by side with what people use today (hours; takes up again); LABS=6: in six labs beside each other; SHORT=1: 15 minutes, a few cells
	@$(MAKE) --no-print-directory lab-parts
	@if [ -n "$(SHORT)" ]; then $(LAB) bench --short; else \
		code=0; $(LAB) bench --record --labs $(or $(LABS),1) || code=$$?; \
		$(LAB) bench --watching 600 && $(LAB) bench --growth && $(LAB) bench --page && exit $$code; \
	fi

scenarios: deps ## every scenario of the lab, the long ones too (hours)
	@$(MAKE) --no-print-directory lab-parts
	@$(LAB) parts --all
	@$(LAB) test --all

test: deps ## everything, with the short list of scenarios
	@$(MAKE) --no-print-directory lint unit weeks promises fuzz shell luci lab-parts mips
	@# 77: no sandbox works here. Then nothing about the tailnet is proved, and CI must not pass.
	@# Three labs beside each other, which mostly wait.
	@$(LAB) test --labs 3 || { code=$$?; [ $$code = 77 ] && [ "$${CI:-}" != true ] || exit $$code; \
		echo "test: the lab was SKIPPED; nothing about a real tailnet is proved"; exit 0; }
	@echo "test: done"

clean: ## remove what was built
	rm -rf target
