# Only Python 3.11 or later, git and make are needed. Variables:
#   PYTHON=...   the Python to use          LATEST=1     newest libraries instead of constraints.txt
#   ARGS=...     more arguments for pytest, or for the benchmarks

VENV := .venv$(if $(LATEST),-latest)
CONSTRAINTS := $(if $(LATEST),,-c constraints.txt)
UPGRADE := $(if $(LATEST),--upgrade --upgrade-strategy eager)
EXTRAS := test
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
INSTALL = $(PIP) install --quiet $(CONSTRAINTS) $(UPGRADE)
# One process a logical core (`auto` would count only physical ones), whole files to each: what a file
# makes once for its tests is then made once.
PYTEST = $(BIN)/pytest -n logical --dist loadfile --ignore tests/embed $(ARGS)
ELSEWHERE = slow or gpu or slurm or browser

.DELETE_ON_ERROR:
.PHONY: help demo test test-embed test-slow test-lowest lint benchmark benchmark-tcga wheelhouse clean

help:  ## list what make can do
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 22

demo: $(VENV)/.installed  ## install, run the embedded demo and print where its report lies
	$(BIN)/tabular-trainers demo --overwrite

test: $(VENV)/.installed-test  ## run every quick test
	$(PYTEST) -m "not ($(ELSEWHERE))"

test-slow: $(VENV)/.installed-test  ## run the other tests; those without their hardware skip
	$(PYTEST) -m "$(ELSEWHERE)" || test $$? -eq 5  # 5: nothing is marked so

test-embed:  ## run the tests of embed, with torch and openslide, in .venv-embed
	$(MAKE) VENV=.venv-embed EXTRAS=embed,test .venv-embed/.installed-test
	.venv-embed/bin/pytest -n logical --dist loadfile tests/embed -m "not (gpu or slurm)" $(ARGS)

test-lowest:  ## run the quick tests with every dependency at its lower bound
	$(MAKE) VENV=.venv-lowest .venv-lowest/lowest.txt
	$(MAKE) VENV=.venv-lowest CONSTRAINTS="-c .venv-lowest/lowest.txt" test

lint: $(VENV)/.installed-test  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmark: $(VENV)/.installed  ## measure speed and memory (hours, idle machine): RESULTS.md
	$(BIN)/python tests/benchmarks/benchmark.py $(ARGS)

benchmark-tcga: $(VENV)/.installed  ## compare with published deep models on TCGA (half an hour): TCGA.md
	$(BIN)/python tests/benchmarks/tcga.py $(ARGS)

wheelhouse: $(VENV)/.created  ## collect every wheel and hash, to install where there is no internet
	rm -rf build wheelhouse.partial
	$(PIP) wheel --quiet $(CONSTRAINTS) --wheel-dir wheelhouse.partial .
	$(BIN)/python -c "$$HASHES" wheelhouse.partial
	rm -rf wheelhouse && mv wheelhouse.partial wheelhouse
	@echo "wheelhouse/ holds $$(ls wheelhouse/*.whl | wc -l) wheels, $$(du -sm wheelhouse | cut -f1) MB"

clean:  ## remove what was built; environments (.venv*) stay
	rm -rf build dist wheelhouse wheelhouse.partial ./*.egg-info .pytest_cache .ruff_cache .hypothesis

# --- environments -------------------------------------------------------------------------------

# CPython 3.12 and 3.11 first: ecos, which scikit-survival asks for, has no wheel for later ones.
CANDIDATES = $(or $(PYTHON),python3.12 python3.11 python3.13 python3 python)

$(VENV)/.created:
	@for python in $(CANDIDATES); do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "creating $(VENV) with $$($$python --version)"; \
	    $$python -c 'import sys; sys.version_info < (3, 13) or print("note: for this Python the library ecos", \
	      "is compiled, which needs a C compiler; with Python 3.11 or 3.12 it is not")'; \
	    $$python -m venv --clear $(VENV) && touch $@ && exit 0; exit 1; \
	  fi; \
	done; \
	echo "No Python 3.11 or later among: $(CANDIDATES). Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing into $(VENV) (some minutes the first time)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing into $(VENV) (some minutes the first time)"
	$(INSTALL) --editable ".[$(EXTRAS)]"
	@touch $@ $(VENV)/.installed

# The lower bounds of pyproject.toml as a list of exact versions.
.venv-lowest/lowest.txt: pyproject.toml | .venv-lowest/.created
	.venv-lowest/bin/python -c "$$LOWEST" > $@

define LOWEST
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
for line in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
    if not line.startswith(project["name"]):  # its extra [cluster] is tested with constraints.txt
        print(re.sub(r">=([\w.]+)(,<[\w.]+)?", r"==\1", line))
endef
export LOWEST

define HASHES
import hashlib, pathlib, sys
folder = pathlib.Path(sys.argv[1])
with open(folder / "requirements.txt", "w") as requirements:
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        print(f"{name}=={version} --hash=sha256:{digest}", file=requirements)
endef
export HASHES
