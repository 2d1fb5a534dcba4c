# make demo and make test are all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test newest lock coverage arm64-test vm-test faults mutants fuzz lint docs release-check install uninstall clean

help:  ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Releases and hashes come from requirements.lock (`make lock`), that of pip itself first: older ones check no hashes of
# constraints. Only this project has no hash, so hashes are checked wherever there is one and not demanded everywhere.
LOCK = --constraint requirements.lock --build-constraint requirements.lock --no-require-hashes
PIP_ITSELF = --require-hashes --requirement $(VENV)/pip.txt
INSTALL = $(BIN)/python -m pip install --quiet

# One virtual environment, two stamps: what the demo needs is small, what the tests need (torch) is not.
$(VENV)/demo.stamp: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	awk '/^pip==/,!/\\$$/' requirements.lock > $(VENV)/pip.txt
	$(INSTALL) $(PIP_ITSELF)
	$(INSTALL) $(LOCK) --editable '.[demo]'
	@touch $@

# No test needs a GPU. Where pip finds the CPU build of the locked torch (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), that is
# taken; elsewhere the index's, with the CUDA libraries it asks for (docs/decisions/016-lock.md).
CPU_TORCH = $(shell sed -n 's/^\(torch==[^ ]*\).*/\1+cpu/p' requirements.lock)
$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(if $(LOCK),$(INSTALL) $(LOCK) '$(CPU_TORCH)' 2> $(VENV)/cpu-torch.log || echo "no CPU build of torch here: taking the index's")
	$(INSTALL) $(LOCK) --editable '.[demo,text,mqtt,parquet,sign,train]' --group dev --group build
	@touch $@

demo: $(VENV)/demo.stamp  ## label a synthetic camera for ten seconds
	$(BIN)/edge-label --camera demo --seconds 10
	$(BIN)/edge-label bench --seconds 3

# Tests run against the wheel, unpacked in build/wheel, and not against this tree: what the wheel forgot, they miss.
# PYTHONSAFEPATH keeps the current folder off the path, in every process a test starts too.
build/wheel/stamp: $(VENV)/test.stamp pyproject.toml $(shell find edge_runtime -type f -not -name '*.pyc')
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps $(LOCK) --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet --no-deps --target build/wheel build/wheel/*.whl
	@touch $@

PYTEST = PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/wheel $(BIN)/python -m pytest --import-mode=importlib

test: build/wheel/stamp  ## run every test that this machine can run, against the built wheel
	$(PYTEST)

# Takes no release from the lock, so it finds what a new release breaks before `make lock` brings that to everybody.
newest:  ## the same tests against the newest release of everything, in build/newest (several GB with CUDA)
	rm -rf build/newest
	$(MAKE) test VENV=build/newest LOCK= PIP_ITSELF='--upgrade pip'

coverage: build/wheel/stamp  ## the same, and edge_runtime's lines and branches counted: below 95 % fails
	$(PYTEST) --cov --cov-report=term:skip-covered

arm64-test: build/wheel/stamp  ## the wheel on an emulated Cortex-A72 (root, qemu-user; some minutes)
	$(PYTEST) tests/arm64 -m arm64 -s

vm-test: build/wheel/stamp  ## the service in a whole emulated machine (root, qemu-system-arm; five minutes)
	$(PYTEST) tests/machine -m machine -s

faults: $(VENV)/test.stamp  ## the fault matrix: every fault, what holds against it, the result
	$(BIN)/python -m tests.faults.matrix

mutants: $(VENV)/test.stamp  ## take every mechanism of the matrix away; a test must fail
	$(BIN)/python -m tests.faults.mutants

fuzz: $(VENV)/test.stamp  ## 10,000 cases for everything that is read from outside
	EDGE_LABEL_FUZZ=10000 $(BIN)/python -m pytest tests/attacks/test_fuzz.py

lint: $(VENV)/test.stamp  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/test.stamp  ## write the generated documents again
	$(BIN)/python -m tools.upkeep.docs
	$(BIN)/python -m tests.faults.page

lock:  ## write requirements.lock anew: the newest releases that fit pyproject.toml, with hashes
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	PATH="$(CURDIR)/build/lock/bin:$$PATH" $(PYTHON) -m tools.upkeep.lock

release-check:  ## build wheel and sdist, install the wheel in an empty environment, run the demo from it
	$(PYTHON) -m tools.upkeep.release_check

# Where `make install` puts things; DESTDIR goes before all of them (packages, images).
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(SYSCONFDIR)/systemd/system
STATEDIR ?= /var/lib/edge-label
EDGE_LABEL ?= $(PREFIX)/bin/edge-label

install:  ## unit, configuration, state directory (DESTDIR, PREFIX honoured); an edited configuration stays
	install -d "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(SYSCONFDIR)/edge-label"
	sed -e 's|/usr/local/bin/edge-label|$(EDGE_LABEL)|' -e 's|/etc/edge-label|$(SYSCONFDIR)/edge-label|' \
		systemd/edge-label.service > "$(DESTDIR)$(UNITDIR)/edge-label.service"
	chmod 644 "$(DESTDIR)$(UNITDIR)/edge-label.service"
	test -e "$(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml" || \
		install -m 644 systemd/edge-label.yaml "$(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml"
	test -e "$(DESTDIR)$(STATEDIR)" || install -d -m 750 "$(DESTDIR)$(STATEDIR)"
	@test -n "$(DESTDIR)" || ! command -v systemctl >/dev/null || systemctl daemon-reload || true
	@echo "next: edge-label doctor, then systemctl enable --now edge-label"

# Only what `make install` made and nobody changed. A variable that points to the wrong place must cost nobody a file.
uninstall:  ## take the service away; recordings, bundles and what you edited stay and are named
	@test -n "$(DESTDIR)" || ! command -v systemctl >/dev/null || systemctl disable --now edge-label || true
	rm -f "$(DESTDIR)$(UNITDIR)/edge-label.service"
	@! cmp -s systemd/edge-label.yaml "$(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml" || \
		rm -f "$(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml"
	@for folder in "$(DESTDIR)$(SYSCONFDIR)/edge-label" "$(DESTDIR)$(STATEDIR)" "$(DESTDIR)$(STATEDIR)-bundles"; do \
		rmdir "$$folder" 2>/dev/null || ! test -e "$$folder" || \
			echo "stays, delete it yourself if you want to: $$(readlink -f "$$folder")"; \
	done

clean:  ## remove what make made in this folder; a VENV elsewhere stays
	rm -rf .venv dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
