# Vacuo. `make` alone lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python

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

.PHONY: clean
clean: ## remove what was built here; hosts that still run, their engine and the images stay
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find orchestrator tests testbed bench -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Kept: .venv, and the images (setup/remove-engine.sh removes those, and every local host)."
