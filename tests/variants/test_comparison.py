"""The plan of a comparison: the same budget for every method, and commands that compose."""

import dataclasses
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
    Preparations,
    best_of,
    commands,
    final_trials,
    first_round,
    run_method,
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
        "validation": ["decode.n=2"], "test": [], "prepare": [], "learning_rates": [1e-5, 1e-4],
        "strengths": 2, "seeds": [1, 2, 3], "tuning_seed": 7, "workers": 2,
        "threads": 1, "dry_run": False, "only": None,
        "methods": {"dpo": Method(train=["loss=dpo"], strength=["loss.beta=0.03", "loss.beta=0.3"])},
    }  # fmt: skip
    return ComparisonSettings(**values | changes)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Programs that only write scores: the higher the learning rate and beta, the better; lr 1e-3 fails."""
    monkeypatch.chdir(tmp_path)
    ran = []

    def run(arguments, log, threads, cost=None):
        ran.append(arguments)
        given = dict(word.split("=", 1) for word in arguments if "=" in word)
        home = Path("out", given.get("run.name", "none"))
        if arguments[0].startswith("train"):
            if float(given["optim.lr"]) == 1e-3:
                return "exit code 1: error: loss nan"
            if not (home / "dpo").exists():
                score = {"score": float(given.get("loss.beta", 0.1))}
                write_json(home / "dpo" / "training" / "position.json", score)
                write_json(home / "dpo.meta.json", {"made by": given["run.name"]})
        elif arguments[0] == "evaluate.py" and given["run.checkpoint"] == "dpo":
            rate = json.loads((home / "dpo" / "training" / "position.json").read_text())["score"]
            summary = {"sampled": {"pass_at_1": rate}, "verdicts": {"passed": 1}}
            write_json(home / f"dpo-{given['run.split']}-evaluation" / "summary.json", summary)
        return None

    monkeypatch.setattr(comparison, "run", run)
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
    train, score = commands(first, plan())
    assert train[0] == "train_dpo.py"
    assert {"run.name=c/tune/dpo/0", "run.seed=7", "optim.lr=1e-05", "loss=dpo"} <= set(train)
    assert {"run.name=c/tune/dpo/0", "run.checkpoint=dpo", "run.split=validation", "decode.n=2"} <= set(score)
    measured = plan(methods={"dpo": Method(program="-m variants.x")})
    assert commands(first, measured)[0][:3] == ["-m", "variants.x", "+exp=quickstart"]
    likelihood = plan(methods={"dpo": Method(program="train_sft.py")})
    assert "run.checkpoint=sft" in commands(first, likelihood)[1]


def test_every_method_gets_one_trial_per_rate_and_per_strength(fake):
    winner = tune(plan(), "dpo")
    assert len(fake) == 2 * 4
    assert {"optim.lr=1e-05", "loss.beta=0.3"} <= set(winner.overrides)  # rates tie: the earlier one
    report = json.loads(Path("out/c/tune/dpo.json").read_text())
    assert [trial["pass_at_1"] for trial in report["trials"]] == [0.1, 0.1, 0.03, 0.3]


def test_the_number_of_strengths_is_the_plans(fake):
    winner = tune(plan(strengths=1), "dpo")
    assert len(fake) == 2 * 3
    assert winner.overrides[-1] == "optim.lr=1e-05"


def test_what_has_finished_is_not_run_again(fake):
    run_method(plan(), "dpo", Preparations(plan()))
    count = len(fake)
    run_method(plan(), "dpo", Preparations(plan()))
    assert len(fake) == count


def test_a_failed_trial_is_reported_and_loses(fake, capsys):
    winner = tune(plan(learning_rates=[1e-3, 1e-4]), "dpo")
    assert "optim.lr=0.0001" in winner.overrides
    assert "failed     c/tune/dpo/0: exit code 1: error: loss nan" in capsys.readouterr().out
    assert json.loads(Path("out/c/tune/dpo.json").read_text())["trials"][0]["pass_at_1"] is None


def test_final_runs_use_every_seed_on_the_test_problems_and_keep_their_weights(fake):
    run_method(plan(), "dpo", Preparations(plan()))
    trials = final_trials(plan(), tune(plan(), "dpo"))
    assert [(t.name, t.seed, t.split) for t in trials] == [(f"c/dpo/{s}", s, "test") for s in (1, 2, 3)]
    assert [score_of(trial) for trial in trials] == [0.3] * 3
    assert Path("out/c/dpo/1/dpo").exists()
    assert not Path("out/c/dpo/1/dpo/training").exists()
    assert not Path("out/c/tune/dpo/0/dpo").exists()  # trials leave scores, not weights


def test_the_winner_of_tuning_is_the_test_run_of_its_seed(fake):
    run_method(plan(tuning_seed=2), "dpo", Preparations(plan()))
    made = [json.loads(Path(f"out/c/dpo/{s}/dpo.meta.json").read_text())["made by"] for s in (1, 2, 3)]
    assert made == ["c/dpo/1", "c/tune/dpo/3", "c/dpo/3"]


def test_a_method_with_one_setting_is_not_tuned(fake):
    alone = plan(methods={"high": Method(learning_rates=[3e-3])})
    run_method(alone, "high", Preparations(alone))
    assert {words[4] for words in fake} == {f"run.name=c/high/{seed}" for seed in (1, 2, 3)}
    assert {"optim.lr=0.003"} <= set(fake[0])


def test_a_preparation_runs_once_for_all_that_need_it(fake):
    steps = ["-m variants.x +exp=a", "-m variants.y +exp=b"]
    preparations = Preparations(plan())
    assert preparations.ready(steps) is None
    assert preparations.ready([*reversed(steps), "-m variants.z +exp=c"]) is None
    assert [words[1] for words in fake] == ["variants.x", "variants.y", "variants.z"]
    assert "data.pairs=p" in fake[0]


def test_a_method_whose_preparation_fails_is_left_out_and_says_why(fake, capsys):
    broken = plan(methods={"a": Method(prepare=["train_sft.py +exp=quickstart optim.lr=1e-3"])})
    run_method(broken, "a", Preparations(broken))
    assert len(fake) == 1
    assert "failed     a: train_sft.py" in capsys.readouterr().out


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
    run_method(plan(dry_run=True), "dpo", Preparations(plan(dry_run=True)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 4 + 2 * 3
    assert lines[0].startswith("python train_dpo.py +exp=quickstart data.pairs=p")
    assert fake == []


def overrides(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


def test_every_method_sets_keys_that_exist():
    """Two strengths each, and every key is one that the quickstart or the method's loss has."""
    cfg = compose_config("+exp=quickstart")
    for name, method in chosen().methods.items():
        assert len(method.strength) == 2 or len(method.learning_rates) == 1, name
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


@pytest.mark.parametrize("experiment", ["claims", "failures"])
def test_claims_and_failures_are_runs_of_the_comparison_and_name_methods_that_exist(experiment):
    part, whole = chosen(experiment), chosen()
    assert {"dpo"} < set(part.only) <= set(whole.methods)
    assert dataclasses.replace(part, only=None) == whole


def test_every_loss_is_compared():
    """sft_token is rft: the chosen completion's likelihood, every token counting the same."""
    used = {overrides(method.train).get("loss", "dpo") for method in chosen().methods.values()}
    assert used == {path.stem for path in LOSSES.glob("*.yaml")} - {"sft_token"}
