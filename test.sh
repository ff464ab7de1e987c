#!/usr/bin/env bash
# Fresh machine -> environment -> lint -> tests.  bash test.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# a process per core with one thread each: more threads than cores wait for one another
OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive \
    .venv/bin/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile "$@"
