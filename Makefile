# The front door. `make demo` and `make check` are all that most people need; `make help` lists the rest.
# The build itself is meson's (meson.build in every folder); this file only says what to run in which order.
SHELL := /bin/bash
.DELETE_ON_ERROR:
export LC_ALL := C.UTF-8

BUILD ?= build
SAN ?= build-san
WERROR ?= false
FUZZ_SECONDS ?= 60
# npm packages of the end-to-end tests, in build/node: what drives Debian's chromium, a WebSocket and a gRPC peer.
NODE_PACKAGES ?= playwright-core@1.60.0 ws@8.23.0 @grpc/grpc-js@1.14.7
PYTEST ?= /usr/bin/python3 -m pytest -p no:cacheprovider
# Tests that put load on the gateway share one process (xdist_group); the others, which wait most of the time, fill the
# second core.
E2E := $(PYTEST) -q -n 3 --dist loadgroup tests/e2e

.PHONY: help deps build demo browser check check-fmt check-unit check-e2e check-san tsan bench bench-instructions bench-long bench-attack fuzz fmt clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' Makefile

deps: ## install the Debian packages that are missing (conf/packages.txt)
	@conf/deps run build test fuzz bench

# Reconfiguring is cheap when nothing changed; -Dwerror stays as it is unless asked for, so that `make build` after
# `make check` does not compile everything again.
define configure
	@[ -f $(1)/build.ninja ] || meson setup $(1) $(2) -Dtests=$$(pkg-config --exists cmocka && echo true || echo false)
endef

build: ## build/weir
	@conf/deps run build
	$(call configure,$(BUILD),)
	@ninja -C $(BUILD) weir

demo: build ## serve HTTP on 8080 and HTTPS on 8443 with conf/demo.yaml, and say what to try
	@conf/demo/run $(BUILD)/weir

check: ## everything that must hold: format, warnings, unit and end-to-end tests, then both once more under sanitizers
	@conf/deps run build test
	@$(MAKE) --no-print-directory check-fmt
	@$(MAKE) --no-print-directory check-unit
	@$(MAKE) --no-print-directory check-e2e
	@$(MAKE) --no-print-directory check-san
	@echo "make check: all passed"

check-fmt: ## is every C file formatted by .clang-format?
	@bad=$$(git ls-files -zco --exclude-standard '*.c' '*.h' | xargs -0 -r -n 20 clang-format-14 --dry-run 2>&1 | cut -d: -f1 | grep '\.[ch]$$' | sort -u); \
	if [ -n "$$bad" ]; then echo "not formatted (make fmt):"; echo "$$bad"; exit 1; else echo "format: clean"; fi

$(BUILD)-strict:
	$(call configure,$(BUILD),)
	@meson configure $(BUILD) -Dwerror=true -Dtests=true
	@ninja -C $(BUILD)
.PHONY: $(BUILD)-strict

check-unit: $(BUILD)-strict ## unit tests
	@tests/unit/run $(BUILD)

# Outside git; asks the registry only when the list has changed or something is missing.
browser: $(BUILD)/node/.installed ## npm packages that end-to-end tests need
$(BUILD)/node/.installed: Makefile
	@mkdir -p $(BUILD)/node
	@[ "$$(cat $@ 2>/dev/null)" = "$(NODE_PACKAGES)" ] || (cd $(BUILD)/node && timeout 300 npm install --no-save --no-audit --no-fund --no-package-lock $(NODE_PACKAGES))
	@echo "$(NODE_PACKAGES)" >$@

check-e2e: $(BUILD)-strict browser ## end-to-end tests with build/weir
	@WEIR_BIN=$(BUILD)/weir $(E2E)

# One pass of both under AddressSanitizer and UBSan. WEIR_SANITIZE tells load tests to use smaller numbers and memory
# tests that the sanitizer's own memory is not the gateway's. Warnings are errors in the plain build only: what gcc
# warns of in instrumented code is often not in the source.
check-san: browser ## unit and end-to-end tests under AddressSanitizer and UBSan
	@[ -f $(SAN)/build.ninja ] || meson setup $(SAN) -Db_sanitize=address,undefined -Db_lundef=false
	@ninja -C $(SAN)
	@WEIR_SANITIZE=1 tests/unit/run $(SAN)
	@WEIR_SANITIZE=1 WEIR_BIN=$(SAN)/weir $(E2E)

# libh2o, OpenSSL and libc are not instrumented; what they do for threads is done with pthread locks and atomics of ours,
# which ThreadSanitizer sees, so nothing is suppressed.
tsan: ## four threads under load with ThreadSanitizer: a minute once it is built
	@conf/deps run build test
	@[ -f build-tsan/build.ninja ] || meson setup build-tsan -Db_sanitize=thread -Db_lundef=false -Dtests=true
	@ninja -C build-tsan weir tests/bench/load tests/bench/origin tests/unit/gateway/test_gateway_gate
	@build-tsan/tests/unit/gateway/test_gateway_gate
	@WEIR_BIN=build-tsan/weir /usr/bin/python3 -m pytest -p no:cacheprovider -q tests/e2e/test_threads.py tests/e2e/test_dns.py
	@WEIR_BIN=build-tsan/weir /usr/bin/python3 -m pytest -p no:cacheprovider -q tests/e2e/test_udp.py -k metrics_are_read

bench: ## weir beside nginx and HAProxy: CPU microseconds per request (tests/bench/README.md)
	@conf/deps run build test bench
	@[ -f build-bench/build.ninja ] || meson setup build-bench --buildtype=release -Db_ndebug=false -Dtests=true
	@ninja -C build-bench weir tests/bench/origin
	@tests/bench/run --weir build-bench/weir --origin build-bench/tests/bench/origin

bench-instructions: ## instructions per request: a regression shows whatever else the machine does
	@conf/deps run build test bench
	@[ -f build-bench/build.ninja ] || meson setup build-bench --buildtype=release -Db_ndebug=false -Dtests=true
	@ninja -C build-bench weir tests/bench/origin tests/bench/slow_clock.so
	@tests/bench/instructions --weir build-bench/weir --origin build-bench/tests/bench/origin

bench-long: ## reloads, upgrades and crashes under load, with full numbers
	@conf/deps run build test
	@[ -f build-bench/build.ninja ] || meson setup build-bench --buildtype=release -Db_ndebug=false -Dtests=true
	@ninja -C build-bench weir tests/bench/origin tests/bench/load
	@tests/bench/long --weir build-bench/weir

bench-attack: ## what other clients feel of attacks: p99, memory, lost requests
	@conf/deps run build test
	@[ -f build-bench/build.ninja ] || meson setup build-bench --buildtype=release -Db_ndebug=false -Dtests=true
	@ninja -C build-bench weir tests/bench/attacker tests/bench/load tests/bench/turns.so
	@tests/bench/attack --weir build-bench/weir --seconds 4

fuzz: ## every fuzz target for FUZZ_SECONDS (60) each
	@conf/deps run build test fuzz
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run build-fuzz

fmt: ## format every C file
	@conf/deps test
	@git ls-files -zco --exclude-standard '*.c' '*.h' | xargs -0 -r clang-format-14 -i

clean: ## remove what was built
	rm -rf build build-san build-fuzz build-bench build-tsan
