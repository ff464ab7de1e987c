"""What all programs share: where a run lies, also in a sweep, and which checkpoint a name stands for."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.types import RunMode

from conf import program
from tests.conftest import ROOT


@pytest.fixture
def swept(monkeypatch):
    """swept(*overrides) -> the folder of such a combination of a sweep."""

    def folder(*overrides: str) -> str:
        run = SimpleNamespace(mode=RunMode.MULTIRUN, overrides=SimpleNamespace(task=list(overrides)))
        here = SimpleNamespace(initialized=lambda: True, get=lambda: run)
        monkeypatch.setattr(program, "HydraConfig", here)
        return program.run_dir("out/t")

    return folder


def test_training_and_scoring_a_sweep_meet_in_one_folder_each(swept):
    trained = swept("+exp=quickstart", "loss.beta=0.1", "run.seed=2")
    assert trained == "out/t/sweep/loss.beta=0.1,run.seed=2"
    scoring = (
        "run.checkpoint=dpo",
        "run.split=test",
        "benchmark=humaneval",
        "protocol=evalplus",
        "decode=greedy",
    )
    more = ("sandbox.workers=1", "run.verdicts=v.jsonl", "compare=base", "device=cpu", "allow_missing=true")
    assert swept("run.seed=2", *scoring, "loss.beta=0.1", *more) == trained
    assert swept("loss.beta=0.2", "run.seed=2") != trained
    assert swept("run.seed=2", "model.dtype=amp", "loss.beta=0.1") != trained


def test_scoring_a_sweep_on_other_problems_finds_its_policies_and_lies_apart(swept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = checkpoint(Path(swept("loss.beta=0.1"), "dpo"))
    for more in ("data.test=9", "data.problems=mine.jsonl", "+data.validation=3"):
        run = SimpleNamespace(home="out/t", dir=swept("loss.beta=0.1", more), checkpoint="dpo")
        assert run.dir != str(trained.parent)
        cfg = SimpleNamespace(run=run, model=SimpleNamespace(path=None))
        assert program.checkpoint_folder(cfg, "dpo") == trained
        own = checkpoint(Path(run.dir, "dpo"))
        assert program.checkpoint_folder(cfg, "dpo") == own
    run.dir = swept("loss.beta=0.1", "model.dtype=amp")
    with pytest.raises(FileNotFoundError, match=r"These combinations have one: .*; loss\.beta=0\.1$"):
        program.checkpoint_folder(cfg, "dpo")


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_policy_beside_a_sweep_is_not_scored_as_one_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = Path("out/t")
    run = SimpleNamespace(home=str(home), dir=str(home / "sweep/loss.beta=0.1"), checkpoint="dpo")
    cfg = SimpleNamespace(run=run, model=SimpleNamespace(path=None))
    beside, sft = checkpoint(home / "dpo"), checkpoint(home / "sft")
    with pytest.raises(ValueError, match=r"the sweep has no out/t/sweep/loss.beta=0.1/dpo"):
        program.checkpoint_folder(cfg, "dpo")
    assert program.checkpoint_folder(cfg, "sft") == sft  # where all runs of the sweep begin
    run.checkpoint = str(beside)
    assert program.checkpoint_folder(cfg, str(beside)) == beside
    run.checkpoint = "dpo"
    own = checkpoint(Path(run.dir, "dpo"))
    assert program.checkpoint_folder(cfg, "dpo") == own
    run.dir = run.home
    assert program.checkpoint_folder(cfg, "dpo") == beside


@pytest.fixture
def started(tmp_path):
    """started(body, *arguments) -> how a program ends that does this with its cfg."""

    def run(body: str, *arguments: str) -> subprocess.CompletedProcess:
        file = tmp_path / "started.py"
        file.write_text(
            f"from conf.program import program\n\n@program\ndef main(cfg):\n    {body}\n\nmain()\n"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, file, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_a_sweep_goes_on_after_a_combination_that_failed(started):
    done = started("print(4 // cfg.run.seed if cfg.run.seed != 3 else open('no'))", "-m", "run.seed=3,1,2")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["4", "2"]
    first, last = done.stderr.splitlines()
    assert first.startswith("error in out/default/sweep/run.seed=3: ")
    assert last == "error: 1 combinations failed, see above: out/default/sweep/run.seed=3"


def test_a_combination_of_a_sweep_hears_ctrl_c_after_one_that_noted_it(started):
    note = "signal.signal(signal.SIGINT, lambda *_: None)"
    body = f"import signal; print(cfg.run.seed); cfg.run.seed == 2 and signal.raise_signal(2) or {note}"
    done = started(body, "-m", "run.seed=1,2,3")
    assert done.returncode == 130
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["1", "2"]
    assert "interrupted" in done.stderr


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model.path=a=b", """model.path=a=b cannot be read; quote the value: 'model.path="a=b"'"""),
        ("data.pairs=a(1).jsonl", """quote the value: 'data.pairs="a(1).jsonl"'"""),
        ("data.pairs=~/pairs", f"""quote the value: 'data.pairs="{Path.home()}/pairs"'"""),
        ("--exp", "give it as +exp=..."),
        ("--exp=quickstart", "give it as +exp=quickstart"),
        ("--loss.beta=2", "give it as loss.beta=2"),
        ("run.name=", "run.name is '', expected a folder's name in out/"),
        ("run.name=/tmp/x", "run.name is '/tmp/x', expected"),
        ("run.name=../x", "run.name is '../x', expected"),
        ("run.name=file/x", "but out/file is a file"),
    ],
)
def test_arguments_that_hydra_answers_at_length_are_one_line(tmp_path, monkeypatch, argument, message):
    monkeypatch.chdir(tmp_path)
    checkpoint(Path("out")).joinpath("config.json").rename("out/file")
    with pytest.raises(SystemExit, match=f"^error: .*{re.escape(message)}") as left:
        program.check_arguments(["-m", "+exp=quickstart", argument])
    assert "\n" not in str(left.value)


def test_good_arguments_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = (
        "--multirun",
        "--run",
        "--cfg=job",
        "model.path='a=b'",
        "prompt=a b",
        "run.name=x/y",
        "run.name=a,b",
        "~loss.beta",
    )
    program.check_arguments(good)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+optim.learning_rate=1", "+optim.learning_rate: there is no such setting, expected "),
        (
            "+data.demonstrations.cuont=1",
            "+data.demonstrations.cuont: there is no such setting, expected count",
        ),
        ("+deviec=cpu", "+deviec: there is no such setting, expected device"),
    ],
)
def test_a_plus_makes_no_settings(run_program, capsys, override, message):
    assert run_program(program.program(lambda cfg: None), override) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.validation_share=-0.5", "data.validation_share is -0.5, expected a share from 0 to below 1"),
        ("data.validation_share=1", "data.validation_share is 1.0"),
        ("optim.microbatch=0", "optim.microbatch is 0, expected 1 token or more"),
        ("optim.clip=0", "optim.clip is 0.0, expected a number above 0"),
        ("optim.save_every=-1", "optim.save_every is -1, expected steps, or 0: never"),
        ("optim.log_every=-5", "optim.log_every is -5, expected"),
        ("optim.validate_every=-1", "optim.validate_every is -1, expected"),
        (
            "run.seed=99999999999999999999",
            "run.seed is 99999999999999999999, expected a whole number from 0 to",
        ),
        ("run.seed=-1", "run.seed is -1, expected"),
        ("data.demonstrations.bug_rate=7", "bug_rate is 7.0, expected a share from 0 to 1"),
        ("data.demonstrations.count=0", "data.demonstrations.count is 0, expected 1 or more"),
        ("model.lora.rank=-1", "model.lora.rank is -1, expected 1 or more, or 0: no adapters"),
        ("optim.warmup=2", "optim.warmup is 2.0, expected a share of all steps"),
        ("optim.betas=[0.9]", "optim.betas is [0.9], expected two"),
        ("optim.betas=[0.9,1]", "optim.betas is [0.9, 1.0], expected two"),
        ("optim.lr=nan", "optim.lr is nan, expected"),
    ],
)
def test_values_without_a_meaning_are_refused_by_name(run_program, capsys, override, message):
    reached = []
    assert run_program(program.program(lambda cfg: reached.append(cfg)), override) == 1
    assert message in capsys.readouterr().err
    assert run_program(program.program(lambda cfg: reached.append(cfg)), "optim.clip=inf") == 0
    assert len(reached) == 1
