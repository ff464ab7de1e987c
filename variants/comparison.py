"""Every method on the same base policy and the same pairs: tune, train with several seeds, score.

    python -m variants.comparison +exp=comparison                       # all of it, then the table
    python -m variants.comparison +exp=comparison variant.dry_run=true  # print the commands instead
    python -m variants.comparison +exp=comparison 'variant.only=[dpo,ipo]' variant.workers=4

It runs the programs as a user would, one process each, `workers` at a time; what has finished is kept. Tuning
has the same budget for every method, five trials with one seed: the learning rates at the usual strength
(beta), then the two other strengths at the best rate; the best sampled pass@1 on the validation problems
wins, ties go to the earlier trial. The test problems are sampled once per seed, with the settings that won.
conf/variant/comparison.yaml lists the methods.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from conf.program import program
from conf.schema import Config
from data.jsonl import write_json
from variants.settings import settings


@dataclass
class Method:
    """How one method is trained; everything are overrides of `exp`."""

    train: list[str] = field(default_factory=list)  # what makes it this method
    strength: list[str] = field(default_factory=list)  # two other settings of its strength
    learning_rates: list[float] | None = None  # null: the plan's
    program: str = "train_dpo.py"
    prepare: list[str] = field(default_factory=list)  # commands it needs beforehand, without "python"


@dataclass
class ComparisonSettings:
    folder: str  # below out
    exp: str  # experiment that describes base policy, pairs, problems
    common: list[str]  # overrides of every command; what a command sets itself wins
    trial: list[str]  # further overrides of training and scoring runs
    prepare: list[str]  # commands that come first, such as sampling and pairing
    learning_rates: list[float]
    seeds: list[int]  # of training and sampling, on the test problems
    tuning_seed: int
    workers: int  # processes at a time
    threads: int  # of each process
    dry_run: bool
    only: list[str] | None  # methods to run; null: all
    methods: dict[str, Method]


@dataclass(frozen=True)
class Trial:
    """One training run and its score."""

    method: str
    name: str  # its run.name
    seed: int
    split: str
    overrides: tuple[str, ...]  # of training


def python(arguments: Sequence[str], log: Path, threads: int) -> str | None:
    """Run a program, its output into `log`; None, or the last line of what it said when it failed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        code = subprocess.call(
            [sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment
        )
    if code == 0:
        return None
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    return f"exit code {code}: {lines[-1] if lines else 'no output'} ({log})"


def with_common(command: str, common: Sequence[str]) -> list[str]:
    """The words of a command, with `common` behind its experiment, so that its own overrides come later."""
    words = shlex.split(command)
    place = next((i + 1 for i, word in enumerate(words) if word.startswith("+exp=")), len(words))
    return [*words[:place], *common, *words[place:]]


def commands(trial: Trial, method: Method, plan: ComparisonSettings) -> list[list[str]]:
    """The two commands of a trial: train, then sample and judge."""
    shared = [*plan.common, *plan.trial, f"run.name={trial.name}", f"run.seed={trial.seed}"]
    stage = "sft" if method.program == "train_sft.py" else "dpo"
    score = [f"run.checkpoint={stage}", f"run.split={trial.split}"]
    return [
        [method.program, f"+exp={plan.exp}", *shared, *trial.overrides],
        ["evaluate.py", f"+exp={plan.exp}", *shared, *score],
    ]


def score_of(trial: Trial) -> float | None:
    """Sampled pass@1 of a finished trial; None where the judge failed on some answers."""
    for summary in sorted(Path("out", trial.name).glob(f"*-{trial.split}-*/summary.json")):
        found = json.loads(summary.read_text())
        if "sampled" in found and not found["verdicts"].get("internal_error"):
            return found["sampled"]["pass_at_1"]
    return None


def run_trial(trial: Trial, plan: ComparisonSettings, keep: bool) -> str | None:
    """Train and score unless that has been done. `keep`: the checkpoint stays, without optimiser state."""
    home = Path("out", trial.name)
    if score_of(trial) is not None:
        return None
    for command in commands(trial, plan.methods[trial.method], plan):
        failure = python(command, home / "log.txt", plan.threads)
        if failure:
            return f"{trial.name}: {failure}"
    for stage in ("dpo", "sft"):
        shutil.rmtree(home / stage / "training" if keep else home / stage, ignore_errors=True)
    return None


def run_all(trials: Sequence[Trial], plan: ComparisonSettings, keep: bool, title: str) -> None:
    """Run trials, `workers` at a time; failures are printed and leave no score."""
    if plan.dry_run:
        for trial in trials:
            for command in commands(trial, plan.methods[trial.method], plan):
                print(shlex.join(["python", *command]))
        return
    with ThreadPoolExecutor(plan.workers) as pool:
        outcomes = pool.map(lambda trial: run_trial(trial, plan, keep), trials)
        for failure in tqdm(outcomes, total=len(trials), desc=title, unit="run"):
            if failure:
                tqdm.write(f"failed     {failure}")


def tuning_trial(plan: ComparisonSettings, method: str, number: int, overrides: Sequence[str]) -> Trial:
    name = f"{plan.folder}/tune/{method}/{number}"
    train = (*plan.methods[method].train, *overrides)
    return Trial(method, name, plan.tuning_seed, "validation", train)


def first_round(plan: ComparisonSettings, method: str) -> list[Trial]:
    """One trial per learning rate, at the usual strength."""
    rates = plan.methods[method].learning_rates or plan.learning_rates
    return [tuning_trial(plan, method, i, [f"optim.lr={rate:g}"]) for i, rate in enumerate(rates)]


def second_round(plan: ComparisonSettings, method: str, best: Trial, start: int) -> list[Trial]:
    """The other strengths at the learning rate of `best`; they come last, so they win over `train`'s."""
    rate = next(override for override in best.overrides if override.startswith("optim.lr="))
    strengths = enumerate(plan.methods[method].strength, start)
    return [tuning_trial(plan, method, number, [rate, strength]) for number, strength in strengths]


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score, the first among equals; None where none has finished."""
    scored = [(trial, score_of(trial)) for trial in trials]
    finished = [(trial, score) for trial, score in scored if score is not None]
    return max(finished, key=lambda pair: pair[1])[0] if finished else None


def tune(plan: ComparisonSettings, names: Sequence[str]) -> dict[str, Trial]:
    """Method -> the trial that won; written with all scores to out/<folder>/tuning.json."""
    trials = {name: first_round(plan, name) for name in names}
    run_all([trial for group in trials.values() for trial in group], plan, keep=False, title="tune 1")
    further: list[Trial] = []
    for name, group in trials.items():
        best = best_of(group) or (group[0] if plan.dry_run else None)
        if best:
            more = second_round(plan, name, best, len(group))
            group += more
            further += more
    run_all(further, plan, keep=False, title="tune 2")
    winners = {name: best_of(group) or group[0] for name, group in trials.items()}
    if not plan.dry_run:
        write_json(Path("out", plan.folder, "tuning.json"), tuning_report(trials, winners))
    return winners


def tuning_report(trials: dict[str, list[Trial]], winners: dict[str, Trial]) -> dict:
    """What was tried, with its score (null: it failed), and what won."""
    return {
        name: {
            "chosen": list(winners[name].overrides),
            "trials": [{"overrides": list(t.overrides), "pass_at_1": score_of(t)} for t in group],
        }
        for name, group in trials.items()
    }


def final_trials(plan: ComparisonSettings, winners: dict[str, Trial]) -> Iterator[Trial]:
    """Every method's settings with every seed, on the test problems."""
    for seed in plan.seeds:
        for name, winner in winners.items():
            yield Trial(name, f"{plan.folder}/{name}/{seed}", seed, "test", winner.overrides)


def prepare(plan: ComparisonSettings, names: Sequence[str]) -> None:
    """What comes first, what the methods need, each distinct command once, and the base policy's score."""
    base = f"evaluate.py +exp={plan.exp} run.name={plan.folder}/base run.checkpoint=base run.split=test"
    steps = [*plan.prepare, *(step for name in names for step in plan.methods[name].prepare), base]
    for step in dict.fromkeys(steps):
        words = with_common(step, plan.common)
        print(shlex.join(["python", *words]))
        failure = None if plan.dry_run else python(words, Path("out", plan.folder, "log.txt"), plan.threads)
        if failure:
            raise ValueError(f"{step}: {failure}")


@program
def main(cfg: Config) -> None:
    """Prepare, tune, run the seeds; the table is variants/compare.py's."""
    plan = settings(cfg, ComparisonSettings)
    unknown = set(plan.only or ()) - set(plan.methods)
    if unknown:
        raise ValueError(f"no method {', '.join(sorted(unknown))}; there are {', '.join(plan.methods)}")
    names = plan.only or list(plan.methods)
    prepare(plan, names)
    winners = tune(plan, names)
    run_all(list(final_trials(plan, winners)), plan, keep=True, title="test")
    table = with_common(f"-m variants.compare +exp={plan.exp} +variant=compare", plan.common)
    table.append(f"variant.folder={plan.folder}")
    print(shlex.join(["python", *table]))
    if not plan.dry_run:
        sys.exit(subprocess.call([sys.executable, *table]))


if __name__ == "__main__":
    main()
