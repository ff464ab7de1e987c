"""Every method on the same base policy and the same pairs: tune, train with several seeds, score.

    python -m variants.comparison +exp=comparison                       # all of it, then the table
    python -m variants.comparison +exp=comparison variant.dry_run=true  # print the commands instead
    python -m variants.comparison +exp=comparison 'variant.only=[dpo,ipo]' variant.workers=4

Every method has the same tuning budget, with one seed: the learning rates at the usual strength (beta), then
the first `strengths` of its other strengths at the best rate. The best sampled pass@1 on the validation
problems wins, ties go to the earlier trial. The test problems are sampled once per seed, with the settings
that won. Methods are worked off in the order of the configuration, `workers` at a time; what has finished is
kept, so the same command goes on after a stop, and variants/compare.py makes a table of any state.

Every run's folder holds commands.json: the words of its commands, with digests of the files they name. Where
these are others now, or there is no such note, the folder is moved aside to <name>.1 and the run made anew.
What the experiment `exp` itself says is not among these words: after editing it, set another variant.folder.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from threading import Lock

from tqdm import tqdm

from conf.program import program
from conf.schema import Config
from data.jsonl import file_digest, free_place, write_json
from variants.programs import run
from variants.settings import settings

IMMATERIAL = (  # to a score; run.name is the folder itself
    r"(run\.(name|cache|verdicts)|sandbox\.workers|decode\.(batch_rows|processes)|optim\.\w+_every)="
)


@dataclass
class Method:
    """How one method is trained; everything are overrides of `exp`."""

    train: list[str] = field(default_factory=list)  # what makes it this method
    strength: list[str] = field(default_factory=list)  # other settings of its strength, the likeliest first
    learning_rates: list[float] | None = None  # null: the plan's; a single one is not tuned
    program: str = "train_dpo.py"  # or "-m variants.x"
    prepare: list[str] = field(default_factory=list)  # commands it needs beforehand, without "python"


@dataclass
class ComparisonSettings:
    folder: str  # below out
    exp: str  # experiment that describes base policy, pairs, problems
    common: list[str]  # overrides of every command; what a command sets itself wins
    trial: list[str]  # further overrides of training and scoring runs
    validation: list[str]  # further overrides of scoring on the validation problems
    test: list[str]  # and on the test problems
    prepare: list[str]  # commands that come first, such as sampling and pairing
    learning_rates: list[float]
    strengths: int  # how many of a method's other strengths are tried
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

    @property
    def home(self) -> Path:
        return Path("out", self.name)

    @property
    def note(self) -> Path:
        return self.home / "commands.json"


def with_common(command: str, common: Sequence[str]) -> list[str]:
    """The words of a command, with `common` behind its experiment, so that its own overrides come later."""
    words = shlex.split(command)
    place = next((i + 1 for i, word in enumerate(words) if word.startswith("+exp=")), len(words))
    return [*words[:place], *common, *words[place:]]


def stage_of(method: Method) -> str:
    """The checkpoint its program makes."""
    return "sft" if method.program == "train_sft.py" else "dpo"


def commands(trial: Trial, plan: ComparisonSettings) -> list[list[str]]:
    """The two commands of a trial: train, then sample and judge."""
    method = plan.methods[trial.method]
    shared = [*plan.common, *plan.trial, f"run.name={trial.name}", f"run.seed={trial.seed}"]
    scoring = plan.test if trial.split == "test" else plan.validation
    score = [*scoring, f"run.checkpoint={stage_of(method)}", f"run.split={trial.split}"]
    return [
        [*shlex.split(method.program), f"+exp={plan.exp}", *shared, *trial.overrides],
        ["evaluate.py", f"+exp={plan.exp}", *shared, *score],
    ]


def with_digest(word: str) -> str:
    """An override that names a file, with the digest of what is in it; other words as they are."""
    path = word.partition("=")[2]
    return f"{word} ({file_digest(path)})" if os.path.isfile(path) else word


def made_by(trial: Trial, plan: ComparisonSettings) -> list[list[str]]:
    """What a trial's score follows from: its commands, less what is immaterial."""
    return [
        [with_digest(word) for word in command if not re.match(IMMATERIAL, word)]
        for command in commands(trial, plan)
    ]


def noted(trial: Trial) -> list[list[str]] | None:
    """What made the folder of this trial's name."""
    return json.loads(trial.note.read_text()) if trial.note.exists() else None


def claim(trial: Trial, plan: ComparisonSettings) -> None:
    """Note in the trial's folder what makes it; a folder with another note, or with none, is moved aside."""
    wanted, found = made_by(trial, plan), noted(trial)
    if found == wanted:
        return
    if trial.home.exists():
        aside = free_place(trial.home)
        trial.home.rename(aside)
        tqdm.write(f"moved      {trial.home} to {aside}: {difference(found, wanted)}")
    write_json(trial.note, wanted)


def difference(found: list[list[str]] | None, wanted: list[list[str]]) -> str:
    """Two notes, less what they share."""
    if found is None:
        return "no commands.json says what made it"
    old, new = ([*chain.from_iterable(note)] for note in (found, wanted))
    was, now = (" ".join(dict.fromkeys(w for w in a if w not in b)) for a, b in ((old, new), (new, old)))
    return f"made with {was or '(nothing)'} where the plan has {now or '(nothing, or another order)'}"


def score_of(trial: Trial, plan: ComparisonSettings) -> float | None:
    """Sampled pass@1 of a finished trial of this plan; None where the judge failed on some answers."""
    if noted(trial) != made_by(trial, plan):
        return None
    for summary in sorted(trial.home.glob(f"*-{trial.split}-*/summary.json")):
        found = json.loads(summary.read_text())
        if "sampled" in found and not found["verdicts"].get("internal_error"):
            return found["sampled"]["pass_at_1"]
    return None


def run_trial(trial: Trial, plan: ComparisonSettings) -> None:
    """Train and score unless that has been done; a failure is printed and leaves no score."""
    if plan.dry_run:
        for command in commands(trial, plan):
            print(shlex.join(["python", *command]))
        return
    if score_of(trial, plan) is not None:
        return
    claim(trial, plan)
    for command in commands(trial, plan):
        failure = run(command, trial.home / "log.txt", plan.threads, cost=trial.home / "cpu.json")
        if failure:
            tqdm.write(f"failed     {trial.name}: {failure}")
            return


def tuning_trial(plan: ComparisonSettings, method: str, number: int, overrides: Sequence[str]) -> Trial:
    name = f"{plan.folder}/tune/{method}/{number}"
    train = (*plan.methods[method].train, *overrides)
    return Trial(method, name, plan.tuning_seed, "validation", train)


def first_round(plan: ComparisonSettings, method: str) -> list[Trial]:
    """One trial per learning rate, at the usual strength."""
    rates = plan.methods[method].learning_rates or plan.learning_rates
    return [tuning_trial(plan, method, i, [f"optim.lr={rate:g}"]) for i, rate in enumerate(rates)]


def second_round(plan: ComparisonSettings, method: str, best: Trial, start: int) -> list[Trial]:
    """Other strengths at the learning rate of `best`; they come last, so they win over `train`'s."""
    rate = next(override for override in best.overrides if override.startswith("optim.lr="))
    strengths = enumerate(plan.methods[method].strength[: plan.strengths], start)
    return [tuning_trial(plan, method, number, [rate, strength]) for number, strength in strengths]


def best_of(trials: Sequence[Trial], plan: ComparisonSettings) -> Trial | None:
    """The trial with the highest score, the first among equals; None where none has finished."""
    scored = [(trial, score_of(trial, plan)) for trial in trials]
    finished = [(trial, score) for trial, score in scored if score is not None]
    return max(finished, key=lambda pair: pair[1])[0] if finished else None


def tune(plan: ComparisonSettings, name: str) -> Trial:
    """The trial that won, of those that all methods get; the scores go to out/<folder>/tune/<name>.json."""
    report = Path("out", plan.folder, "tune", f"{name}.json")
    trials = first_round(plan, name)
    if len(trials) == 1 and not plan.methods[name].strength:
        if not plan.dry_run:
            report.unlink(missing_ok=True)  # it is of a plan that tuned this method
        return trials[0]
    for trial in trials:
        run_trial(trial, plan)
    further = second_round(plan, name, best_of(trials, plan) or trials[0], len(trials))
    for trial in further:
        run_trial(trial, plan)
    trials += further
    winner = best_of(trials, plan) or trials[0]
    if not plan.dry_run:
        tried = [{"overrides": list(trial.overrides), "pass_at_1": score_of(trial, plan)} for trial in trials]
        write_json(report, {"chosen": list(winner.overrides), "trials": tried})  # null: it failed
    return winner


def adopt(winner: Trial, trial: Trial, stage: str, plan: ComparisonSettings) -> None:
    """Copy the winner's policy to the test run of the same seed, which would compute it again."""
    finished = winner.home / f"{stage}.meta.json"
    there = finished.exists() and (winner.home / stage).exists()  # else it failed, or was cleaned away
    ours = noted(winner) == made_by(winner, plan)  # a method with one setting has not claimed it
    if not there or not ours or winner.seed != trial.seed or (trial.home / stage).exists():
        return
    trial.home.mkdir(parents=True, exist_ok=True)
    for name in (finished.name, f"{stage}.metrics.jsonl", "cpu.json"):
        if (winner.home / name).exists():
            shutil.copy2(winner.home / name, trial.home / name)
    half = trial.home / f".{stage}.copy"  # renamed when whole, should the program be stopped here
    shutil.copytree(winner.home / stage, half, dirs_exist_ok=True)
    half.rename(trial.home / stage)


def clean(trial: Trial, stage: str, keep: bool) -> None:
    """Drop the optimiser's state; without `keep` the weights too. Scores and logs stay."""
    shutil.rmtree(trial.home / stage / "training" if keep else trial.home / stage, ignore_errors=True)


def numbered(folder: Path) -> list[int]:
    """The runs in it, those moved aside left out."""
    return [int(path.name) for path in folder.glob("*") if path.name.isdigit()]


def final_trials(plan: ComparisonSettings, winner: Trial) -> list[Trial]:
    """The settings that won with every seed, on the test problems."""
    name = winner.method
    return [
        Trial(name, f"{plan.folder}/{name}/{seed}", seed, "test", winner.overrides) for seed in plan.seeds
    ]


def first_steps(plan: ComparisonSettings) -> list[str]:
    """What comes before every method: the plan's own steps, and the base policy's score."""
    base = f"evaluate.py +exp={plan.exp} run.name={plan.folder}/base run.checkpoint=base run.split=test"
    return [*plan.prepare, shlex.join([*shlex.split(base), *plan.test])]


class Preparations:
    """Commands that come before others, each distinct one once, however many methods ask for it."""

    def __init__(self, plan: ComparisonSettings) -> None:
        self.plan = plan
        self.locks: dict[str, Lock] = defaultdict(Lock)
        self.outcomes: dict[str, str | None] = {}

    def ready(self, steps: Sequence[str]) -> str | None:
        """Run what has not been run yet, in order; None, or why one failed."""
        for step in steps:
            with self.locks[step]:
                if step not in self.outcomes:
                    words = with_common(step, self.plan.common)
                    tqdm.write(shlex.join(["python", *words]))
                    log = Path("out", self.plan.folder, "log.txt")
                    failure = None if self.plan.dry_run else run(words, log, self.plan.threads)
                    self.outcomes[step] = f"{step}: {failure}" if failure else None
            if self.outcomes[step]:
                return self.outcomes[step]
        return None


def run_method(plan: ComparisonSettings, name: str, preparations: Preparations) -> None:
    """Prepare, tune, train and score with every seed."""
    failure = preparations.ready(plan.methods[name].prepare)
    if failure:
        tqdm.write(f"failed     {name}: {failure}")
        return
    winner, stage = tune(plan, name), stage_of(plan.methods[name])
    if plan.dry_run:
        for trial in final_trials(plan, winner):
            run_trial(trial, plan)
        return
    seeds = {*plan.seeds, *numbered(Path("out", plan.folder, name))}
    for trial in final_trials(replace(plan, seeds=sorted(seeds)), winner):
        claim(trial, plan)  # all before the first is run, so that no table mixes settings
    for trial in final_trials(plan, winner):
        adopt(winner, trial, stage, plan)
        run_trial(trial, plan)
        if score_of(trial, plan) is not None:
            clean(trial, stage, keep=True)
    for number in numbered(Path("out", plan.folder, "tune", name)):
        shutil.rmtree(Path("out", plan.folder, "tune", name, str(number), stage), ignore_errors=True)


@program
def main(cfg: Config) -> None:
    """Prepare, then method by method; the table is variants/compare.py's."""
    plan = settings(cfg, ComparisonSettings)
    unknown = set(plan.only or ()) - set(plan.methods)
    if unknown:
        raise ValueError(f"no method {', '.join(sorted(unknown))}; there are {', '.join(plan.methods)}")
    names = list(plan.only or plan.methods)
    preparations = Preparations(plan)
    failure = preparations.ready(first_steps(plan))
    if failure:
        raise ValueError(failure)
    with ThreadPoolExecutor(plan.workers) as pool:
        work = pool.map(lambda name: run_method(plan, name, preparations), names)
        list(tqdm(work, total=len(names), desc="methods", unit="method"))
    table = with_common(f"-m variants.compare +exp={plan.exp} +variant=compare", plan.common)
    table += [f"variant.folder={plan.folder}", f"variant.only=[{','.join(names)}]"]
    table.append(f"variant.output=out/{plan.folder}/{cfg.run.name}.md")
    print(shlex.join(["python", *table]))
    if not plan.dry_run:
        sys.exit(subprocess.call([sys.executable, *table]))


if __name__ == "__main__":
    main()
