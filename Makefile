# Vacuo. `make` alone lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
# Real tests wait for most of their time, so four files of tests run at once, in the order of their
# names: the real ones begin, and the units fill what they leave free.
IN_LANES := -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what is missing: apt packages, .venv, host and service images
	@setup/bootstrap.sh

.PHONY: images
images: ## build the host and service images that are missing
	@setup/bootstrap.sh
	@images/build

.PHONY: demo
demo: ## set up what is missing, then run the main job and show it
	@setup/bootstrap.sh
	@$(PYTHON) -m testbed.demo

.PHONY: test
test: ## set up what is missing, then check and test everything, the real pool included
	@setup/bootstrap.sh
	@$(MAKE) --no-print-directory lint
	@$(PYTHON) -m pytest $(IN_LANES) $(PYTEST) || $(PYTHON) -m testbed.second_chance $$?
	@$(PYTHON) -m testbed.molecule test

.PHONY: properties
properties: ## try the property tests with many more examples, new ones: make properties TIMES=100
	@VACUO_SETUP_IMAGES=no setup/bootstrap.sh
	@$(PYTHON) -m pytest --more-examples $(or $(TIMES),25) $(or $(PYTEST),tests/unit tests/scenarios)

.PHONY: molecule
molecule: ## run the roles on real hosts, or one of them: make molecule ROLE=squid [SUITE=bookworm]
	@setup/bootstrap.sh
	@$(if $(SUITE),images/build host-$(SUITE) host-bare-$(SUITE))
	@VACUO_MOLECULE_SUITE=$(SUITE) $(PYTHON) -m testbed.molecule test $(ROLE)

.PHONY: lint
lint: ## the checks that need no machine: style, types, layers, YAML, roles
	@VACUO_SETUP_IMAGES=no setup/bootstrap.sh
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/yamllint --strict tosca-templates
	PATH="$(CURDIR)/.venv/bin:$$PATH" ansible/tools/lint.sh

.PHONY: corpus
corpus: ## fetch the real templates that the tests have a table of, from where they are published
	@VACUO_SETUP_IMAGES=no setup/bootstrap.sh
	@$(PYTHON) -m testbed.corpus

.PHONY: bench
bench: ## run the benchmarks, or one of them: make bench ONLY=reaction
	@setup/bootstrap.sh
	@$(PYTHON) -m bench $(ONLY)

.PHONY: audit
audit: ## look for known holes in the libraries; says so where the service cannot be reached
	@VACUO_SETUP_IMAGES=no setup/bootstrap.sh
	@$(PYTHON) -m testbed.audit

.PHONY: clean
clean: ## remove what was built here; hosts that still run, their engine and the images stay
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find orchestrator tests testbed bench -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Kept: .venv, and the images (setup/remove-engine.sh removes those, and every local host)."
