#!/usr/bin/env bash
# Fresh machine -> environment -> the whole line on generated beginner problems -> a before/after table.
#   bash quickstart.sh [key=value ...]      for example: bash quickstart.sh run.name=seed2 run.seed=2
# Run again, it reuses what is finished; interrupted, it goes on from there.
set -euo pipefail
cd "$(dirname "$0")"
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
overrides=('+exp=quickstart' 'data.pairs=${run.home}/pairs.jsonl' "$@")
run() { echo "== python $*"; .venv/bin/python "$@" "${overrides[@]}"; }

# python train_sft.py +exp=toy_base                                    the base policy: it ships in assets/
run evaluate.py run.checkpoint=base run.split=train decode=sample    # programs for the training problems, judged
run -m data.collect run.split=train decode=sample                    # passing beats failing: preference pairs
run train_dpo.py                                                     # DPO on those pairs
run evaluate.py run.checkpoint=base run.split=test                   # held-out problems, before
run evaluate.py run.checkpoint=dpo run.split=test                    # and after
run -m data.summary
