"""The plan of a comparison: the same budget for every method, and commands that compose."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from data.jsonl import write_json, write_text
from tests.conftest import compose_config
from variants import compare, comparison
from variants.comparison import (
    ComparisonSettings,
    Method,
    Preparations,
    best_of,
    commands,
    final_trials,
    first_round,
    first_steps,
    made_by,
    run_method,
    run_trial,
    score_of,
    second_round,
    tune,
    with_common,
)
from variants.settings import settings

LOSSES = Path(comparison.__file__).parent.parent / "conf" / "loss"
PARTS = ("claims", "failures")  # runs of the comparison's plan with some of its methods


@functools.cache
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


def one_setting(**changes) -> ComparisonSettings:
    """Two runs, not tuned: seeds 1 and 2 at the learning rate 1e-4."""
    method = {"train": ["loss.beta=0.2"], "learning_rates": [1e-4]} | changes.pop("method", {})
    return plan(**{"seeds": [1, 2], "methods": {"dpo": Method(**method)}} | changes)


def trained(fake: list[list[str]]) -> list[str]:
    """The run names of the training commands so far."""
    return [overrides(words)["run.name"] for words in fake if words[0].startswith("train")]


def test_a_score_of_another_learning_rate_is_not_taken(fake, capsys):
    """A trial's folder is its number; what it was trained with decides whether its score counts."""
    run_method(plan(learning_rates=[2e-4], strengths=0), "dpo", Preparations(plan()))
    other = plan(learning_rates=[1e-4], strengths=0)
    count = len(fake)
    assert score_of(first_round(other, "dpo")[0], other) is None
    run_method(other, "dpo", Preparations(other))
    assert trained(fake[count:]) == ["c/tune/dpo/0", "c/dpo/1", "c/dpo/2", "c/dpo/3"]
    said = "moved      out/c/tune/dpo/0 to out/c/tune/dpo/0.1: made with optim.lr=0.0002 where the plan has "
    assert said + "optim.lr=0.0001\n" in capsys.readouterr().out
    assert json.loads(Path("out/c/tune/dpo/0.1/dpo-validation-evaluation/summary.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"method": {"train": ["loss.beta=0.4"]}},
        {"method": {"learning_rates": [2e-4]}},
        {"method": {"program": "train_measured.py"}},
        {"common": ["data.pairs=q"]},
        {"trial": ["optim.epochs=2"]},
        {"test": ["decode.n=8"]},
        {"exp": "other"},
    ],
)
def test_a_change_of_the_plan_makes_the_test_runs_anew_and_keeps_the_old(fake, change):
    run_method(one_setting(), "dpo", Preparations(plan()))
    old = {seed: Path(f"out/c/dpo/{seed}/commands.json").read_text() for seed in (1, 2)}
    run_method(one_setting(**change), "dpo", Preparations(plan()))
    assert trained(fake) == ["c/dpo/1", "c/dpo/2"] * 2
    for seed in (1, 2):
        assert Path(f"out/c/dpo/{seed}.1/commands.json").read_text() == old[seed]
        assert Path(f"out/c/dpo/{seed}.1/dpo").exists()


def test_every_strength_that_is_edited_is_tried_again(fake):
    """And nothing else: the learning rates' trials and the winner stay."""
    run_method(plan(), "dpo", Preparations(plan()))
    count = len(fake)
    edited = plan(methods={"dpo": Method(train=["loss=dpo"], strength=["loss.beta=0.02", "loss.beta=0.3"])})
    run_method(edited, "dpo", Preparations(edited))
    assert trained(fake[count:]) == ["c/tune/dpo/2"]
    assert json.loads(Path("out/c/tune/dpo.json").read_text())["trials"][2]["pass_at_1"] == 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"common": ["data.pairs=p", "run.cache=elsewhere", "run.verdicts=v.jsonl", "sandbox.workers=8"]},
        {"trial": ["optim.save_every=5", "decode.processes=3"]},
        {"validation": ["decode.n=9"]},  # of tuning alone
        {"workers": 8, "threads": 8, "learning_rates": [3e-3]},
    ],
)
def test_what_does_not_change_a_score_makes_nothing_anew(fake, change):
    run_method(one_setting(), "dpo", Preparations(plan()))
    run_method(one_setting(**change), "dpo", Preparations(plan()))
    assert trained(fake) == ["c/dpo/1", "c/dpo/2"]


def test_other_pairs_under_the_same_name_make_the_runs_anew(fake, capsys):
    write_text("p", "one pair\n")
    run_method(one_setting(), "dpo", Preparations(plan()))
    write_text("p", "another pair\n")
    run_method(one_setting(), "dpo", Preparations(plan()))
    assert trained(fake) == ["c/dpo/1", "c/dpo/2"] * 2
    assert "out/c/dpo/1.1: made with data.pairs=p (" in capsys.readouterr().out


def test_a_folder_without_a_note_is_moved_aside(fake, capsys):
    run_method(one_setting(), "dpo", Preparations(plan()))
    Path("out/c/dpo/2/commands.json").unlink()
    run_method(one_setting(), "dpo", Preparations(plan()))
    assert trained(fake) == ["c/dpo/1", "c/dpo/2", "c/dpo/2"]
    assert "moved      out/c/dpo/2 to out/c/dpo/2.1: no commands.json" in capsys.readouterr().out
    assert Path("out/c/dpo/2.1/dpo").exists()


def test_a_number_that_is_taken_is_not_used_again(fake):
    for rate in (1e-4, 2e-4, 4e-4):
        run_method(one_setting(method={"learning_rates": [rate]}), "dpo", Preparations(plan()))
    rates = [json.loads(Path(f"out/c/dpo/{name}/commands.json").read_text()) for name in ("1.1", "1.2", "1")]
    assert [overrides(train)["optim.lr"] for train, _ in rates] == ["0.0001", "0.0002", "0.0004"]


def test_a_run_that_was_stopped_goes_on_in_its_folder(fake):
    (trial, _) = final_trials(one_setting(), first_round(one_setting(), "dpo")[0])
    run_trial(trial, one_setting())
    (summary,) = trial.home.glob("*/summary.json")
    summary.unlink()
    run_trial(trial, one_setting())
    assert [path.name for path in trial.home.parent.iterdir()] == ["1"]
    assert score_of(trial, one_setting()) == 0.2


def test_seeds_of_other_settings_do_not_stay_beside_new_ones(fake):
    """Seed 2 is not asked for again, but the table would average it with the new seed 1."""
    run_method(one_setting(), "dpo", Preparations(plan()))
    fewer = one_setting(seeds=[1], method={"learning_rates": [2e-4]})
    run_method(fewer, "dpo", Preparations(fewer))
    assert trained(fake) == ["c/dpo/1", "c/dpo/2", "c/dpo/1"]
    assert Path("out/c/dpo/2.1/dpo").exists()
    assert not Path("out/c/dpo/2/dpo").exists()


def test_a_stop_after_a_change_leaves_no_seed_of_the_old_settings(fake, monkeypatch):
    def stopped(*arguments, **more):
        raise KeyboardInterrupt

    run_method(one_setting(), "dpo", Preparations(plan()))
    monkeypatch.setattr(comparison, "run", stopped)
    other = one_setting(method={"learning_rates": [2e-4]})
    with pytest.raises(KeyboardInterrupt):
        run_method(other, "dpo", Preparations(other))
    assert sorted(str(path) for path in Path("out/c/dpo").glob("*/dpo")) == [
        "out/c/dpo/1.1/dpo",
        "out/c/dpo/2.1/dpo",
    ]


def test_the_policy_of_another_trial_is_not_adopted(fake):
    """A method that is no longer tuned finds its first trial's folder, trained at another rate."""
    tuned = plan(tuning_seed=1, learning_rates=[2e-4], strengths=0)
    run_trial(first_round(tuned, "dpo")[0], tuned)
    write_json(Path("out/c/tune/dpo.json"), {"chosen": [], "trials": []})
    alone = one_setting(tuning_seed=1)
    run_method(alone, "dpo", Preparations(alone))
    assert json.loads(Path("out/c/dpo/1/dpo.meta.json").read_text()) == {"made by": "c/dpo/1"}
    assert not Path("out/c/tune/dpo.json").exists()  # nor are its settings said to be tuned


def test_weights_that_were_moved_aside_are_kept(fake):
    tuned = plan(learning_rates=[2e-4], strengths=0)
    run_trial(first_round(tuned, "dpo")[0], tuned)
    run_method(plan(), "dpo", Preparations(plan()))
    assert Path("out/c/tune/dpo/0.1/dpo").exists()
    assert not Path("out/c/tune/dpo/0/dpo").exists()


def test_a_dry_run_changes_nothing(fake):
    tuned = plan(learning_rates=[2e-4], strengths=0)
    run_trial(first_round(tuned, "dpo")[0], tuned)
    before = sorted(Path("out").rglob("*"))
    run_method(plan(dry_run=True), "dpo", Preparations(plan(dry_run=True)))
    assert sorted(Path("out").rglob("*")) == before


def test_the_note_is_of_words_and_digests_only(fake):
    """Of a trial's two commands; its name and where verdicts are kept are left out."""
    write_text("p", "one pair\n")
    noting = plan(common=["data.pairs=p", "run.verdicts=p"])
    pairs = "data.pairs=p (422c7fe86f26eb5e)"  # printf 'one pair\\n' | sha256sum
    assert made_by(first_round(noting, "dpo")[0], noting) == [
        ["train_dpo.py", "+exp=quickstart", pairs, "run.seed=7", "loss=dpo", "optim.lr=1e-05"],
        [
            "evaluate.py", "+exp=quickstart", pairs, "run.seed=7", "decode.n=2", "run.checkpoint=dpo",
            "run.split=validation",
        ],
    ]  # fmt: skip


def test_a_failed_trial_is_reported_and_loses(fake, capsys):
    winner = tune(plan(learning_rates=[1e-3, 1e-4]), "dpo")
    assert "optim.lr=0.0001" in winner.overrides
    assert "failed     c/tune/dpo/0: exit code 1: error: loss nan" in capsys.readouterr().out
    assert json.loads(Path("out/c/tune/dpo.json").read_text())["trials"][0]["pass_at_1"] is None


def test_final_runs_use_every_seed_on_the_test_problems_and_keep_their_weights(fake):
    run_method(plan(), "dpo", Preparations(plan()))
    trials = final_trials(plan(), tune(plan(), "dpo"))
    assert [(t.name, t.seed, t.split) for t in trials] == [(f"c/dpo/{s}", s, "test") for s in (1, 2, 3)]
    assert [score_of(trial, plan()) for trial in trials] == [0.3] * 3
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
    path = first.home / "dpo-validation-evaluation" / "summary.json"
    comparison.claim(first, plan())
    write_json(path, {"sampled": {"pass_at_1": 1}, "verdicts": {}})
    assert score_of(first, plan()) == 1
    write_json(path, summary)
    assert score_of(first, plan()) is None


def test_a_method_may_have_its_own_learning_rate():
    collapse = plan(methods={"high": Method(learning_rates=[3e-3])})
    assert [trial.overrides for trial in first_round(collapse, "high")] == [("optim.lr=0.003",)]


def test_without_scores_nothing_wins(fake):
    assert best_of(first_round(plan(), "dpo"), plan()) is None


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


def preparations_of(plan: ComparisonSettings) -> set[tuple[str, ...]]:
    """The overrides of every command that any of its methods may need beforehand."""
    steps = [*first_steps(plan), *(step for method in plan.methods.values() for step in method.prepare)]
    return {tuple(word for word in with_common(step, plan.common) if "=" in word) for step in steps}


@pytest.mark.slow
def test_every_preparation_composes():
    """Of all three runs, each distinct one once: they are parts of one plan and share most."""
    for words in set.union(*(preparations_of(chosen(run)) for run in ("comparison", *PARTS))):
        compose_config(*words)


@pytest.mark.parametrize("experiment", PARTS)
def test_claims_and_failures_are_runs_of_the_comparison_and_name_methods_that_exist(experiment):
    part, whole = chosen(experiment), chosen()
    assert {"dpo"} < set(part.only) <= set(whole.methods)
    assert dataclasses.replace(part, only=None) == whole


def test_every_loss_is_compared():
    """sft_token is rft: the chosen completion's likelihood, every token counting the same."""
    used = {overrides(method.train).get("loss", "dpo") for method in chosen().methods.values()}
    assert used == {path.stem for path in LOSSES.glob("*.yaml")} - {"sft_token"}


def test_the_table_leaves_out_what_was_moved_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "read_run", lambda folder, split, decode: folder.name)
    for name in ("dpo/1", "dpo/1.1", "dpo/2.13", "dpo/12", "dpo/plus"):
        Path(tmp_path, name).mkdir(parents=True)
    assert compare.read_runs(tmp_path, "test", "evaluation") == {"dpo": {"1": "1", "12": "12"}}


@pytest.fixture
def drift(tmp_path, monkeypatch, tiny_policy, tiny_pairs):
    """The drift of one run, whose chosen completions change by `level` nats, rejected ones by twice that."""
    monkeypatch.chdir(tmp_path)
    base, folder = Path("base"), Path("out/c/dpo/3/dpo")
    shutil.copytree(tiny_policy, base)
    folder.mkdir(parents=True)
    write_json(f"{folder}.meta.json", {"created": "today"})

    def scored(cfg, checkpoint, pairs):
        drift.scored.append(str(checkpoint))
        value = np.array([0.0 if checkpoint == base else drift.level], np.float32)
        return [(value, 2 * value)] * len(pairs)

    def drift(*overrides):
        paths = (f"model.path={base}", f"data.pairs={tiny_pairs}", "data.validation_share=0.3")
        cfg = compose_config("+exp=quickstart", *paths, *overrides)
        found = compare.drifts(cfg, {"dpo": {"3": compare.Run(folder, {}, 0.0, 0.0, None)}})
        return found["dpo"]

    monkeypatch.setattr(compare, "cached_logps", scored)
    drift.folder, drift.base, drift.scored, drift.level = folder, base, [], -0.5
    return drift


def test_a_drift_is_kept_when_the_weights_are_gone(drift):
    assert drift() == (-0.5, -1.0)
    drift.folder.rmdir()
    assert drift() == (-0.5, -1.0)
    assert drift.scored == [str(drift.folder), "base"]


def train_again(drift) -> None:
    write_json(f"{drift.folder}.meta.json", {"created": "tomorrow"})


def change_base(drift) -> None:
    path = drift.base / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def forget_inputs(drift) -> None:
    """As a drift.json that holds two numbers and no inputs."""
    write_json(drift.folder.with_name("drift.json"), [-0.5, -1.0])


CHANGES = {
    "checkpoint": (train_again, ()),
    "base": (change_base, ()),
    "pairs": (lambda drift: None, ("data.validation_share=0.6",)),
    "no inputs": (forget_inputs, ()),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_drift_of_other_weights_or_pairs_is_not_taken(drift, changed):
    change, overrides = CHANGES[changed]
    drift()
    change(drift)
    drift.level = -2.0
    assert drift(*overrides) == (-2.0, -4.0)
    assert drift(*overrides) == (-2.0, -4.0)
    assert len(drift.scored) == 4


@pytest.mark.parametrize("changed", CHANGES)
def test_a_drift_that_cannot_be_computed_again_is_refused(drift, changed):
    change, overrides = CHANGES[changed]
    drift()
    change(drift)
    drift.folder.rmdir()
    with pytest.raises(ValueError, match=r"out/c/dpo/3/dpo is gone and .*variant\.drift=false$"):
        drift(*overrides)
