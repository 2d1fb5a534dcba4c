# make demo and make test are all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test arm64-test vm-test lint docs release-check install uninstall clean

help:  ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# One virtual environment, two stamps: what the demo needs is small, what the tests need (torch) is not.
$(VENV)/demo.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(BIN)/python -m pip install --quiet --editable '.[demo,text,mqtt,sign,train]' --group dev
	@touch $@

demo: $(VENV)/demo.stamp  ## label a synthetic camera for ten seconds
	$(BIN)/edge-label --camera demo --seconds 10
	$(BIN)/edge-label bench --seconds 3

test: $(VENV)/test.stamp  ## run every test that this machine can run
	$(BIN)/python -m pytest

arm64-test: $(VENV)/test.stamp  ## the wheel on an emulated Cortex-A72 (root, qemu-user; some minutes)
	$(BIN)/python -m pytest tests/arm64 -m arm64 -s

vm-test: $(VENV)/test.stamp  ## the service in a whole emulated machine (root, qemu-system-arm; five minutes)
	$(BIN)/python -m pytest tests/machine -m machine -s

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
	$(BIN)/python -m tools.docs

release-check: $(VENV)/test.stamp  ## build wheel and sdist, install the wheel alone, run the demo from it
	rm -rf dist build/release
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet "$$(ls dist/*.whl)[demo]"
	$(BIN)/python -c "import sys, zipfile; bad = [n for w in sys.argv[1:] for n in zipfile.ZipFile(w).namelist() \
		if not n.startswith('edge_runtime/') and '.dist-info/' not in n]; sys.exit(f'not for the wheel: {bad}' if bad else 0)" dist/*.whl
	cd build/release && EDGE_LABEL_BUNDLE=$(CURDIR)/models/edge-clip bin/edge-label --camera demo --seconds 3 > demo.jsonl
	test "$$(wc -l < build/release/demo.jsonl)" -gt 30

# Where `make install` puts things; DESTDIR goes before all of them (packages, images).
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(SYSCONFDIR)/systemd/system
STATEDIR ?= /var/lib/edge-label
EDGE_LABEL ?= $(PREFIX)/bin/edge-label

install:  ## unit, configuration, state directory (DESTDIR, PREFIX honoured); an edited configuration stays
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/edge-label
	sed -e 's|/usr/local/bin/edge-label|$(EDGE_LABEL)|' -e 's|/etc/edge-label|$(SYSCONFDIR)/edge-label|' \
		systemd/edge-label.service > $(DESTDIR)$(UNITDIR)/edge-label.service
	chmod 644 $(DESTDIR)$(UNITDIR)/edge-label.service
	test -e $(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml || \
		install -m 644 systemd/edge-label.yaml $(DESTDIR)$(SYSCONFDIR)/edge-label/edge-label.yaml
	test -e $(DESTDIR)$(STATEDIR) || install -d -m 750 $(DESTDIR)$(STATEDIR)
	@test -n "$(DESTDIR)" || ! command -v systemctl >/dev/null || systemctl daemon-reload || true
	@echo "next: edge-label doctor, then systemctl enable --now edge-label"

uninstall:  ## take all of that away again, recordings included
	@test -n "$(DESTDIR)" || ! command -v systemctl >/dev/null || systemctl disable --now edge-label || true
	rm -rf $(DESTDIR)$(UNITDIR)/edge-label.service $(DESTDIR)$(SYSCONFDIR)/edge-label \
		$(DESTDIR)$(STATEDIR) $(DESTDIR)$(dir $(STATEDIR))private/$(notdir $(STATEDIR))

clean:  ## remove what make made
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
