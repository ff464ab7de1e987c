"""Whatever Hydra says about a config that does not come about is one line; bugs keep their tracebacks."""

import errno
import os
import re
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conf import program
from conf.composition import expected_at
from tests.conftest import compose_config


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """launch(main, *arguments): what such a command does, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(main, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["started.py", *arguments])
        program.program(main)()

    return run


@pytest.fixture
def refused(launch):
    """refused(*arguments) -> the one line that a program leaves with before its main has begun."""

    def run(*arguments: str) -> str:
        begun = []
        with pytest.raises(SystemExit) as left:
            launch(begun.append, *arguments)
        assert not begun
        assert "\n" not in str(left.value)
        return str(left.value)

    return run


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.batc=3", "optim.batc: there is no such setting, expected batch, microbatch, "),
        (
            "model.lora.ran=3",
            "model.lora.ran: there is no such setting, expected rank, alpha, targets in model",
        ),
        ("los=dpo", "los: there is no such setting, expected loss, "),
        ("optim={batc: 3}", "optim.batc: there is no such setting, expected batch, "),
        ("los.beta=1", "los: there is no such setting, expected loss, "),
        ("loss.bta=1", "loss.bta: there is no such setting, expected beta, "),
        ("loss.bta=1", "; +loss.bta=... adds it ("),
        ("optim.lr=abc", "optim.lr is 'abc', expected a number ("),
        ("optim.lr=null", "optim.lr is null, expected a number ("),
        ("run.seed=1.5", "run.seed is 1.5, expected a whole number ("),
        ("optim.max_steps=x", "optim.max_steps is 'x', expected a whole number or null ("),
        ("model.compile=maybe", "model.compile is 'maybe', expected true or false ("),
        ("optim.betas=3", "optim.betas is 3, expected a list of numbers ("),
        ("optim.betas=[1,b]", "optim.betas[1] is 'b', expected a number ("),
        ("model.lora=8", "model.lora is 8, expected settings named rank, alpha, targets ("),
        ("optim=dpo2", "optim=dpo2: there is no such option, expected dpo, sft ("),
        ("loss=dppo", "loss=dppo: there is no such option, expected dpo, cdpo, dpop, "),
        ("loss=dppo", " or 32 more ("),
        ("+exp=quick", "exp=quick: there is no such option, expected quickstart, "),
        ("exp=quickstart", "use +exp=quickstart"),
        ("+loss=ipo", "loss is chosen twice, expected one loss=..."),
        ("+optim.lr=1", "An item is already at 'optim.lr'"),
        ("run.home=${run.nope}", "Interpolation key 'run.nope' not found"),
        ("optim=dpo,sft", "To sweep over it, add --multirun"),
    ],
)
def test_an_override_that_cannot_be_taken_is_one_line(refused, override, message):
    line = refused("optim.clip=1", override)
    assert line.startswith("error: ")
    assert message in line
    assert "To append to your config" not in line


def test_the_line_names_the_command_that_shows_what_there_is(refused):
    assert re.search(r"\(`python .* --cfg job` shows all\)$", refused("optim.batc=3"))
    assert re.search(r"\(`python .* --cfg job` shows all\)$", refused("optim.lr=abc"))
    assert re.search(r"\(`python .* --help` shows all\)$", refused("loss=nope"))


@pytest.mark.parametrize("asked", ["--cfg=job", "--help", "-m"])
def test_whatever_is_asked_a_wrong_override_is_one_line(refused, asked):
    assert "optim.batc: there is no such setting" in refused(asked, "optim.batc=3")
    assert "loss=nope: there is no such option" in refused(asked, "loss=nope")


def test_a_sweep_of_which_one_combination_cannot_be_composed_does_not_begin(refused):
    assert "loss=nope: there is no such option" in refused("-m", "loss=dpo,nope")
    assert "optim.lr is 'x', expected a number" in refused("-m", "optim.lr=1,x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {batc: 3}", "conf/exp/mine.yaml: optim.batc: there is no such setting, expected batch, "),
        ("optim: {lr: abc}", "conf/exp/mine.yaml: optim.lr is 'abc', expected a number ("),
        ("defaults: [override /loss: nope]", "loss=nope: there is no such option, expected "),
        ("defaults: [nope]", "In 'exp/mine': Could not load 'exp/nope'."),
        ("optim: {lr: [", "mine.yaml"),
    ],
)
def test_an_experiment_that_cannot_be_taken_is_one_line(refused, text, message):
    folder = Path("own/exp")
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    assert message in refused("--config-dir=own", "+exp=mine")


def test_a_place_where_hydra_cannot_write_is_one_line(refused, monkeypatch):
    place = " (outputs go below run.home; set another one, or make room there)"
    Path("file").touch()
    for more in ((), ("-m", "run.seed=1,2")):
        line = refused(*more, "run.home=file/x")
        assert line.startswith("error: [Errno 20] Not a directory: 'file/x/")
        assert line.endswith(place)
    Path("x/hydra/log/log.log").mkdir(parents=True)  # where the log goes, which is opened by logging
    assert refused("run.home=x", "hydra.job.name=log").startswith("error: [Errno 21] Is a directory: ")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hydra.core.utils._save_config", full)
    assert refused() == f"error: [Errno 28] No space left on device{place}"


def test_an_interpolation_that_only_the_program_looks_at_is_one_line(launch, capsys):
    with pytest.raises(SystemExit):
        launch(lambda cfg: cfg.run.seed, "run.seed=${oc.env:NOWHERE}")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: run.seed: ")
    assert "'NOWHERE' not found" in line


def test_help_and_config_are_printed(launch, capsys):
    launch(print, "--cfg=job", "optim.lr=3")
    assert "lr: 3.0" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        launch(print, "--help")
    assert left.value.code == 0
    assert "key=value" in capsys.readouterr().out


def test_a_bug_keeps_its_traceback_without_hydras_part(launch):
    def main(cfg):
        return cfg.nope  # an error of OmegaConf, but none of composition

    with pytest.raises(AttributeError) as raised:
        launch(main)
    names = [entry.name for entry in raised.traceback]
    assert names.index("guarded") == names.index("started") + 1
    assert "main" in names


def test_a_bug_in_what_composition_calls_is_not_taken_for_a_users_mistake(launch, monkeypatch):
    monkeypatch.setattr(program, "sweeping", lambda: None.nope)
    with pytest.raises(Exception, match="'NoneType' object has no attribute 'nope'") as raised:
        launch(print)
    assert any(entry.name == "run_dir" for entry in raised.traceback)


def test_a_bug_in_hydra_is_not_taken_for_a_users_mistake(launch, monkeypatch):
    monkeypatch.setattr("hydra._internal.hydra.Hydra.run", lambda *_, **__: None.nope)
    with pytest.raises(AttributeError):
        launch(print)


def test_the_users_own_switch_is_what_programs_and_their_children_see(launch, monkeypatch):
    seen = []
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    launch(lambda cfg: seen.append(os.environ.get("HYDRA_FULL_ERROR")))
    monkeypatch.setattr(program, "FULL_ERROR", "1")
    launch(lambda cfg: seen.append(os.environ.get("HYDRA_FULL_ERROR")))
    assert seen == ["", "1"]
    with pytest.raises(Exception, match="Could not override"):
        launch(print, "optim.batc=3")


def test_every_setting_with_a_type_of_its_own_has_it_in_words():
    cfg = compose_config()
    nodes = ("run", "model", "model.lora", "data", "data.demonstrations", "optim", "decode", "sandbox")
    keys = [f"{node}.{key}" for node in (*nodes, "pairing") for key in OmegaConf.select(cfg, node)]
    free = {"model.architecture", "decode.logits_hook"}
    assert {key for key in keys if expected_at(key) is None} == free
    assert expected_at("loss.beta") is expected_at("nope.nope") is None
