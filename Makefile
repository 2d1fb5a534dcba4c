# A newcomer needs only `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test newest lock coverage arm64-test vm-test faults mutants fuzz lint docs release-check deb install uninstall clean

help:  ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

# Releases and hashes come from requirements.lock (`make lock`). pip itself is installed first,
# because older releases do not check the hashes of constraints. This project's own folder has no
# hash, so --no-require-hashes is needed: pip checks a hash wherever the lock has one.
LOCK = --constraint requirements.lock --build-constraint requirements.lock --no-require-hashes
PIP_ITSELF = --require-hashes --requirement $(VENV)/pip.txt
INSTALL = $(BIN)/python -m pip install --quiet

# One virtual environment with two stamps: the demo needs little, the tests need a lot (torch).
$(VENV)/demo.stamp: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	awk '/^pip==/,!/\\$$/' requirements.lock > $(VENV)/pip.txt
	$(INSTALL) $(PIP_ITSELF)
	$(INSTALL) $(LOCK) --editable '.[demo]'
	@touch $@

# No test needs a GPU. If pip finds the CPU build of the locked torch (PIP_FIND_LINKS,
# PIP_EXTRA_INDEX_URL), it installs that one, else the build of the index with its CUDA libraries
# (docs/decisions/016-lock.md).
CPU_TORCH = $(shell sed -n 's/^\(torch==[^ ]*\).*/\1+cpu/p' requirements.lock)
$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(if $(LOCK),$(INSTALL) $(LOCK) '$(CPU_TORCH)' 2> $(VENV)/cpu-torch.log || echo "no CPU build of torch found: installing the build of the index")
	$(INSTALL) $(LOCK) --editable '.[demo,mqtt,parquet,sign,train]' --group dev --group build
	@touch $@

demo: $(VENV)/demo.stamp  ## label a synthetic camera for ten seconds, then run a benchmark
	$(BIN)/edge-label --camera demo --seconds 10
	$(BIN)/edge-label bench --seconds 3

# Tests run against the wheel, unpacked in build/wheel, and not against this tree. So a file that
# the wheel lacks makes them fail. PYTHONSAFEPATH keeps the current folder off the path, also in
# every process that a test starts.
build/wheel/stamp: $(VENV)/test.stamp pyproject.toml $(shell find edge_runtime -type f -not -name '*.pyc')
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps $(LOCK) --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet --no-deps --target build/wheel build/wheel/*.whl
	@touch $@

PYTEST = PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/wheel $(BIN)/python -m pytest --import-mode=importlib

# TESTS=tests/unit runs a part of them.
TESTS ?= tests
test: build/wheel/stamp  ## run every test for which this machine has the tools, against the built wheel
	$(PYTEST) $(TESTS)

# Ignores the lock, so it finds out what a new release breaks before `make lock` brings that release
# to everybody.
newest:  ## run the tests with the newest release of everything, in build/newest (several GB with CUDA)
	rm -rf build/newest
	$(MAKE) test VENV=build/newest LOCK= PIP_ITSELF='--upgrade pip'

coverage: build/wheel/stamp  ## run every test and count the lines and branches of edge_runtime; fail below 95 %
	$(PYTEST) --cov --cov-report=term:skip-covered $(TESTS)

arm64-test: build/wheel/stamp  ## test the wheel on an emulated Cortex-A72 (root, qemu-user; some minutes)
	$(PYTEST) tests/arm64 -m arm64 -s

vm-test: build/wheel/stamp  ## test service and package in a whole emulated machine (root, qemu-system-arm; a quarter of an hour)
	$(PYTEST) tests/machine -m machine -s

faults: $(VENV)/test.stamp  ## test every fault of the matrix and print what answers it, and the result
	$(BIN)/python -m tests.faults.matrix

mutants: $(VENV)/test.stamp  ## disable every mechanism of the matrix in turn; a test must fail
	$(BIN)/python -m tests.faults.mutants

fuzz: $(VENV)/test.stamp  ## test everything that is read from outside with 10,000 cases
	EDGE_LABEL_FUZZ=10000 $(BIN)/python -m pytest tests/attacks/test_fuzz.py

lint: $(VENV)/test.stamp  ## check style, types and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/test.stamp  ## write the generated documents again
	$(BIN)/python -m tools.upkeep.docs
	$(BIN)/python -m tests.faults.page

lock:  ## write the newest releases that fit pyproject.toml into requirements.lock, with hashes
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	PATH="$(CURDIR)/build/lock/bin:$$PATH" $(PYTHON) -m tools.upkeep.lock

DEB_ARCH ?= arm64
DEB_SUITE ?= bookworm
deb: $(VENV)/test.stamp  ## build the Debian package in dist/ (DEB_ARCH=arm64 or amd64, DEB_SUITE=bookworm or trixie)
	$(BIN)/python -m tools.arm64.deb --arch $(DEB_ARCH) --suite $(DEB_SUITE)

release-check:  ## build wheel and sdist, install the wheel in an empty environment, run the demo from it
	$(PYTHON) -m tools.upkeep.release_check

# Where `make install` puts things. DESTDIR is put in front of all of them (for packages and
# images).
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(SYSCONFDIR)/systemd/system
STATEDIR ?= /var/lib/edge-label
EDGE_LABEL ?= $(PREFIX)/bin/edge-label

install:  ## install units, configuration and state directory (DESTDIR, PREFIX); keep an edited configuration
	install -d "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(SYSCONFDIR)/edge-label"
	@for unit in edge-label.service edge-label@.service; do \
		sed -e 's|/usr/local/bin/edge-label|$(EDGE_LABEL)|' -e 's|/etc/edge-label|$(SYSCONFDIR)/edge-label|' \
			"systemd/$$unit" > "$(DESTDIR)$(UNITDIR)/$$unit" && \
		chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	done
	test -e "$(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml" || \
		install -m 644 systemd/edge-label.yaml "$(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml"
	test -e "$(DESTDIR)$(STATEDIR)" || install -d -m 750 "$(DESTDIR)$(STATEDIR)"
	@test -n "$(DESTDIR)" || ! command -v systemctl >/dev/null || systemctl daemon-reload || true
	@echo "next: edge-label doctor, then systemctl enable --now edge-label"

# Removes only what `make install` made and nobody changed. A variable with a wrong path must not
# cost anybody a file.
uninstall:  ## remove the service; keep and list recordings, bundles and edited files
	@test -n "$(DESTDIR)" || ! command -v systemctl >/dev/null || systemctl disable --now edge-label || true
	@test -n "$(DESTDIR)" || ! command -v systemctl >/dev/null || systemctl stop 'edge-label@*' || true
	rm -f "$(DESTDIR)$(UNITDIR)/edge-label.service" "$(DESTDIR)$(UNITDIR)/edge-label@.service"
	@! cmp -s systemd/edge-label.yaml "$(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml" || \
		rm -f "$(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml"
	@for folder in "$(DESTDIR)$(SYSCONFDIR)/edge-label" "$(DESTDIR)$(STATEDIR)" "$(DESTDIR)$(STATEDIR)"-*; do \
		rmdir "$$folder" 2>/dev/null || ! test -e "$$folder" || \
			echo "kept; delete it yourself if you want to: $$(readlink -f "$$folder")"; \
	done

clean:  ## remove what make made in this folder; keep a VENV elsewhere
	rm -rf .venv dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
