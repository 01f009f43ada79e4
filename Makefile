# `make help` lists what there is to do. Everything happens in .venv; nothing outside this folder changes.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
RUN := $(BIN)/python -m thermolab
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help lab book test bench clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

lab: .venv/lab.stamp  ## set everything up and open JupyterLab on the start page
	@$(RUN) lab

book: .venv/lab.stamp  ## run every notebook and build the book in build/book
	@$(RUN) book

test: .venv/test.stamp  ## set everything up and run all tests
	@$(RUN) test

bench: .venv/bench.stamp  ## measure the speed ratios
	@$(RUN) bench

clean:  ## remove the environment and everything that was built
	rm -rf .venv build results

# A stamp is newer than pyproject.toml and constraints.txt once its set-up has finished; without it, it is redone.
.venv/lab.stamp: EXTRAS = lab
.venv/test.stamp: EXTRAS = lab,test
.venv/bench.stamp: EXTRAS = lab,bench
.venv/%.stamp: pyproject.toml constraints.txt | .venv/venv.stamp
	@echo "Setting up .venv with [$(EXTRAS)]: a few minutes the first time"
	@$(INSTALL) -e ".[$(EXTRAS)]"
	@$(BIN)/python -m thermolab.engine.precompile
	@touch $@

# PYTHON=... chooses another interpreter than the first of these that is 3.11 or newer.
.venv/venv.stamp:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3 python); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    "$$python" -m venv --clear .venv && touch $@ && exit 0; \
	    echo "$$python cannot make a virtual environment (on Debian: apt-get install python3-venv)" >&2; exit 1; \
	  fi; \
	done; echo "thermolab needs Python 3.11 or newer, and none was found; make PYTHON=/path/to/python lab" >&2; exit 1
