"""The plan of a comparison: the same budget for every method, and commands that compose."""

import json
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data.jsonl import write_json
from tests.conftest import compose_config
from variants import comparison
from variants.comparison import (
    ComparisonSettings,
    Method,
    best_of,
    commands,
    final_trials,
    first_round,
    run_all,
    score_of,
    second_round,
    tune,
    with_common,
)
from variants.settings import settings

LOSSES = Path(comparison.__file__).parent.parent / "conf" / "loss"


def chosen(experiment: str = "comparison") -> ComparisonSettings:
    """The comparison that ships."""
    return settings(compose_config(f"+exp={experiment}"), ComparisonSettings)


def plan(**changes) -> ComparisonSettings:
    values = {
        "folder": "c", "exp": "quickstart", "common": ["data.pairs=p"], "trial": ["optim.save_every=0"],
        "prepare": [], "learning_rates": [1e-5, 1e-4], "seeds": [1, 2, 3], "tuning_seed": 7, "workers": 2,
        "threads": 1, "dry_run": False, "only": None,
        "methods": {"dpo": Method(train=["loss=dpo"], strength=["loss.beta=0.03", "loss.beta=0.3"])},
    }  # fmt: skip
    return ComparisonSettings(**values | changes)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Programs that only write scores: the higher the learning rate and beta, the better; lr 1e-3 fails."""
    monkeypatch.chdir(tmp_path)
    ran = []

    def python(arguments, log, threads):
        ran.append(arguments)
        given = dict(word.split("=", 1) for word in arguments if "=" in word)
        home = Path("out", given["run.name"])
        if arguments[0] != "evaluate.py":
            if float(given["optim.lr"]) == 1e-3:
                return "exit code 1: error: loss nan"
            write_json(
                home / "dpo" / "training" / "position.json", {"score": float(given.get("loss.beta", 0.1))}
            )
            return None
        rate = json.loads((home / "dpo" / "training" / "position.json").read_text())["score"]
        summary = {"sampled": {"pass_at_1": rate}, "verdicts": {"passed": 1}}
        write_json(home / f"dpo-{given['run.split']}-evaluation" / "summary.json", summary)
        return None

    monkeypatch.setattr(comparison, "python", python)
    return ran


def test_common_overrides_stand_before_a_commands_own():
    words = with_common(
        "-m variants.x +exp=mrpo data.pairs=own 'variant.references=[base,rft/sft]'", ["data.pairs=p"]
    )
    assert words == [
        "-m", "variants.x", "+exp=mrpo", "data.pairs=p", "data.pairs=own",
        "variant.references=[base,rft/sft]",
    ]  # fmt: skip


def test_a_trial_trains_and_scores_the_checkpoint_its_program_makes():
    (first, *_) = first_round(plan(), "dpo")
    train, score = commands(first, plan().methods["dpo"], plan())
    assert train[0] == "train_dpo.py"
    assert {"run.name=c/tune/dpo/0", "run.seed=7", "optim.lr=1e-05", "loss=dpo"} <= set(train)
    assert {"run.name=c/tune/dpo/0", "run.checkpoint=dpo", "run.split=validation"} <= set(score)
    method = Method(program="train_sft.py")
    assert "run.checkpoint=sft" in commands(first, method, plan())[1]


def test_every_method_gets_one_trial_per_rate_and_per_strength(fake):
    winners = tune(plan(), ["dpo"])
    assert len(fake) == 2 * 4
    assert {"optim.lr=1e-05", "loss.beta=0.3"} <= set(winners["dpo"].overrides)  # rates tie: the earlier one
    report = json.loads(Path("out/c/tuning.json").read_text())["dpo"]
    assert [trial["pass_at_1"] for trial in report["trials"]] == [0.1, 0.1, 0.03, 0.3]
    assert not Path("out/c/tune/dpo/0/dpo").exists()  # trials leave scores, not weights


def test_what_has_finished_is_not_run_again(fake):
    tune(plan(), ["dpo"])
    count = len(fake)
    tune(plan(), ["dpo"])
    assert len(fake) == count


def test_a_failed_trial_is_reported_and_loses(fake, capsys):
    winners = tune(plan(learning_rates=[1e-3, 1e-4]), ["dpo"])
    assert "optim.lr=0.0001" in winners["dpo"].overrides
    assert "failed     c/tune/dpo/0: exit code 1: error: loss nan" in capsys.readouterr().out
    assert json.loads(Path("out/c/tuning.json").read_text())["dpo"]["trials"][0]["pass_at_1"] is None


def test_final_runs_use_every_seed_on_the_test_problems_and_keep_their_weights(fake):
    winners = tune(plan(), ["dpo"])
    trials = list(final_trials(plan(), winners))
    assert [(t.name, t.seed, t.split) for t in trials] == [(f"c/dpo/{s}", s, "test") for s in (1, 2, 3)]
    run_all(trials, plan(), keep=True, title="test")
    assert score_of(trials[0]) == 0.3
    assert Path("out/c/dpo/1/dpo").exists()
    assert not Path("out/c/dpo/1/dpo/training").exists()


def test_the_second_round_keeps_the_best_rate():
    best = first_round(plan(), "dpo")[1]
    names = [(t.name, t.overrides[-2:]) for t in second_round(plan(), "dpo", best, 2)]
    assert names == [
        ("c/tune/dpo/2", ("optim.lr=0.0001", "loss.beta=0.03")),
        ("c/tune/dpo/3", ("optim.lr=0.0001", "loss.beta=0.3")),
    ]


@pytest.mark.parametrize(
    "summary",
    [{"verdicts": {"internal_error": 9}}, {"sampled": {"pass_at_1": 1}, "verdicts": {"internal_error": 1}}],
)
def test_a_score_the_judge_failed_on_does_not_count(tmp_path, monkeypatch, summary):
    monkeypatch.chdir(tmp_path)
    (first, *_) = first_round(plan(), "dpo")
    write_json(Path("out", first.name, "dpo-validation-evaluation", "summary.json"), summary)
    assert score_of(first) is None


def test_a_method_may_have_its_own_learning_rate():
    collapse = plan(methods={"high": Method(learning_rates=[3e-3])})
    assert [trial.overrides for trial in first_round(collapse, "high")] == [("optim.lr=0.003",)]


def test_without_scores_nothing_wins(fake):
    assert best_of(first_round(plan(), "dpo")) is None


def test_a_dry_run_prints_commands_and_runs_none(fake, capsys):
    tune(plan(dry_run=True), ["dpo"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 4
    assert lines[0].startswith("python train_dpo.py +exp=quickstart data.pairs=p")
    assert fake == []


def overrides(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


def test_every_method_sets_keys_that_exist():
    """Two strengths each, and every key is one that the quickstart or the method's loss has."""
    cfg = compose_config("+exp=quickstart")
    for name, method in chosen().methods.items():
        assert len(method.strength) == 2, name
        given = overrides(method.train)
        loss = OmegaConf.load(LOSSES / f"{given.pop('loss', 'dpo')}.yaml")
        known = OmegaConf.create({"loss": loss, **{key: cfg[key] for key in ("data", "optim", "run")}})
        for key in [*given, *(key for strength in method.strength for key in overrides([strength]))]:
            assert OmegaConf.select(known, key, default="?") != "?", (name, key)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["comparison", "claims", "failures"])
def test_every_preparation_composes(experiment):
    plan = chosen(experiment)
    for step in {step for method in plan.methods.values() for step in method.prepare} | set(plan.prepare):
        compose_config(*(word for word in shlex.split(step) if "=" in word))


def test_every_loss_that_runs_from_the_cache_is_compared():
    losses = {path.stem for path in LOSSES.glob("*.yaml")}
    need_distributions = {
        "wpo",
        "tdpo1",
        "tdpo2",
        "tis_dpo",
        "sft_token",
    }  # the last is rft with another mean
    assert losses - need_distributions <= set(chosen().methods)
