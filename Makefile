.PHONY: demo down test test-quick test-long bench check cluster cluster-down lock setup

# Set up what is needed, tell the whole story, and stay until Ctrl-C. ONCE=1 cleans up and exits instead.
# RUNTIME=kubernetes tells it on a cluster: that of KUBECONFIG, else one of its own (see `cluster`).
demo: setup
	@RUNTIME=$(or $(RUNTIME),docker) .venv/bin/python -m demo $(if $(ONCE),once,up)

# Remove everything the demo started, and nothing else; but for the Docker Engine, which others may use.
down:
	@if [ -x .venv/bin/python ]; then .venv/bin/python -m demo down; fi

# All tests, against real services. ARGS="tests/stores -x" runs some.
test:
	@scripts/test.sh $(ARGS)

# Those that need no service: nothing is installed or started. For each save.
test-quick: setup
	@.venv/bin/python -m pytest -n 4 --dist worksteal -q -m quick $(ARGS)

# All tests, and those that throw much at something throw all of it.
test-long:
	@LINKSPAN_LONG=1 scripts/test.sh $(ARGS)

# How long things take here and now, in tables; nothing is asserted. PARTS="kubernetes" measures some of it.
# PARTS=contenders puts Linkspan beside others: SIZES="10 100 1000 4000" in MB, ROUNDS=3, ONLY="linkspan docker raw",
# RAW=samples.json, PLOT=picture.svg.
bench: setup
	@scripts/packages.sh git docker-registry apache2-utils mmdebstrap buildah
	@scripts/golang.sh
	@.venv/bin/python -m tests.bench $(PARTS) $(if $(SIZES),--sizes "$(SIZES)") $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(ONLY),--only "$(ONLY)") $(if $(RAW),--raw "$(RAW)") $(if $(PLOT),--plot "$(PLOT)")

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	cd app && ../.venv/bin/mypy --strict -p scoring

# A real Kubernetes of one node; tests that need one use it, or start it themselves.
cluster:
	@scripts/cluster.sh up

# Remove every trace of it, but for the program that was built.
cluster-down:
	@scripts/cluster.sh down

# Resolve the dependencies anew, to the newest versions that pyproject.toml admits.
lock: setup
	.venv/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate pyproject.toml -o requirements.lock
	.venv/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate pyproject.toml --group dev -o requirements-dev.lock

setup:
	@scripts/setup.sh
