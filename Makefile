## make lab      the course: your own notebooks in work/, JupyterLab opens on them
## make demo     the solved notebooks, for teaching
## make test     all tests, and every notebook run to its end
## make plain    the same as on a plain laptop: AVX2, fp32, no GPU
## make release  the notebooks as nbgrader's assignments, in grading/
## make grade     run and grade what lies in grading/submitted/
## make bench    the measurements, as tables
## make clean    remove what these commands made; work/ and demo/ stay
##
## Options pass through ARGS: make lab ARGS=--no-browser

BIN := .venv/bin
ARGS ?=

ifneq ($(wildcard ../shared/data),)
LABKIT_DATA_TEST ?= $(CURDIR)/../shared/data
export LABKIT_DATA_TEST
endif

.PHONY: help lab demo release grade test plain bench clean
help:
	@sed -n 's/^## \{0,1\}//p' Makefile

lab demo: .venv/.stamp-lab
	@$(BIN)/labkit $@ $(ARGS)

release grade: .venv/.stamp-grade
	@$(BIN)/labkit $@ grading $(ARGS)

# A worker for each core, four at most: each holds a kernel with torch.
test: .venv/.stamp-test
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 $(ARGS)

plain: export ATEN_CPU_CAPABILITY := avx2
plain: export ONEDNN_MAX_CPU_ISA := AVX2
plain: export LABKIT_PRECISION := fp32
plain: export LABKIT_DEVICE := cpu
plain: test

bench: .venv/.stamp-test
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script $(ARGS) || exit 1; done

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache

# The stamp says which environment is complete; it is older than these two files when they change.
.venv/.stamp-%: pyproject.toml constraints.txt | .venv/.stamp-made
	VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install -c constraints.txt -e ".[$*]"
	@$(BIN)/python -c 'import labkit.device as d; d.check_torchvision()' 2>.venv/check.log || { tail -n 1 .venv/check.log >&2; exit 1; }
	@touch $@

.venv/.stamp-made:
	@for python in python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    $$python -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv \
	      && touch $@ && exit 0; exit 1; \
	  fi; \
	done; echo 'Python 3.11 or newer is needed and none was found; install it (https://www.python.org/downloads/) and run make again.' >&2; exit 1
