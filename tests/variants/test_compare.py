"""The comparison's table: what its intervals are, on runs whose numbers are known."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import train_dpo
from data.jsonl import write_json, write_jsonl
from variants import compare
from variants.compare import Interval, compare_rates, markdown, read_runs, replicates, summarise


def fake_run(folder: Path, sampled: list[float], greedy: list[int], length: int = 10, n: int = 4) -> None:
    """A finished run whose problem i passed in `sampled[i]` of its n samples and `greedy[i]` of one."""
    evaluation = folder / "dpo-test-evaluation"
    rows = []
    for i, (rate, first) in enumerate(zip(sampled, greedy, strict=True)):
        passes = [first, *(k < rate * n for k in range(n))]
        rows += [
            {
                "task_id": f"t/{i}",
                "sample": sample - 1,
                "verdict": "passed" if passed else "wrong_answer",
                "temperature": 0.8 if sample else 0.0,
                "ids": [0] * length,
            }
            for sample, passed in enumerate(passes)
        ]
    write_jsonl(evaluation / "results.jsonl", rows)
    write_jsonl(evaluation / "completions.jsonl", rows)
    write_json(evaluation / "summary.json", {})
    write_json(folder / "dpo.meta.json", {"seconds": 12.0})


def test_without_variance_the_interval_is_the_number():
    rates = np.full((20, 3), 0.25)
    found = compare_rates({"dpo": rates, "other": rates + 0.5}, "dpo")
    assert found["other"]["pass_at_1"] == (0.75, 0.75, 0.75)
    assert found["other"]["difference"] == pytest.approx((0.5, 0.5, 0.5))
    assert "difference" not in found["dpo"]


def test_a_shift_on_every_problem_is_certain_although_problems_differ():
    """Differences are paired by problem: the variance between problems cancels."""
    rates = np.repeat(np.random.default_rng(0).uniform(0, 0.8, (30, 1)), 3, axis=1)
    found = compare_rates({"dpo": rates, "other": rates + 0.1}, "dpo")["other"]
    assert found["difference"] == pytest.approx((0.1, 0.1, 0.1))
    assert found["pass_at_1"].high - found["pass_at_1"].low > 0.1


def test_seeds_widen_the_interval():
    """Seeds at 0 and 1 on every problem: with two seeds the mean is 0, 1/2 or 1, at 1/4, 1/2, 1/4."""
    draws = replicates(np.tile([0.0, 1.0], (50, 1)), seed=0, count=4000)
    assert set(np.unique(draws)) == {0.0, 0.5, 1.0}
    assert (draws == 0.5).mean() == pytest.approx(0.5, abs=0.05)


def test_the_interval_covers_what_a_binomial_would():
    """One seed, one answer each: about 1.96 sqrt(p (1 - p) / n) on either side."""
    rates = (np.arange(200) % 2).astype(float)[:, None]
    found = compare_rates({"dpo": rates}, "dpo")["dpo"]["pass_at_1"]
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 200**0.5, rel=0.08)


def test_runs_are_read_and_unfinished_ones_left_out(tmp_path):
    fake_run(tmp_path / "dpo" / "1", [0.5, 1.0], [0, 1])
    fake_run(tmp_path / "dpo" / "2", [0.0, 1.0], [0, 1])
    (tmp_path / "dpo" / "2" / "dpo.meta.json").unlink()
    fake_run(tmp_path / "ipo" / "1", [0.25, 1.0], [1, 1], length=20)
    runs = read_runs(tmp_path, "test", "evaluation")
    assert {method: list(seeds) for method, seeds in runs.items()} == {"dpo": ["1"], "ipo": ["1"]}
    assert runs["dpo"]["1"].rates == {"greedy": {"t/0": 0, "t/1": 1}, "sampled": {"t/0": 0.5, "t/1": 1}}
    assert (runs["ipo"]["1"].length, runs["ipo"]["1"].seconds) == (20, 12)


def test_the_table_is_sorted_and_complete(tmp_path):
    fake_run(tmp_path / "dpo" / "1", [0.5, 0.5], [0, 1])
    fake_run(tmp_path / "ipo" / "1", [1.0, 1.0], [1, 1], length=20)
    write_json(tmp_path / "ipo" / "1" / "cpu.json", {"train_dpo": 11.9, "evaluate": 99})
    metrics = [{compare.ACCURACY: 0.75}, {"loss": 0.5}]
    write_jsonl(tmp_path / "ipo" / "1" / "dpo.metrics.jsonl", metrics)
    rows = summarise(read_runs(tmp_path, "test", "evaluation"), None, "dpo", {"ipo": (-1.5, -9.25)})
    rows["ipo"]["settings"] = "lr=0.0003, beta=0.3"
    table = markdown(rows, "dpo").splitlines()
    assert [line.split(" | ")[0] for line in table] == [
        "| method",
        "|---" + "|---:" * 11 + "|",
        "| ipo",
        "| dpo",
    ]
    cells = table[2].strip("| ").split(" | ")
    assert cells == [
        "ipo", "1", "1.000 [1.000, 1.000]", "+0.500 [+0.500, +0.500]", "1.000 [1.000, 1.000]",
        "+0.500 [+0.000, +1.000]", "0.75", "-1.50", "-9.25", "20.0", "12", "lr=0.0003, beta=0.3",
    ]  # fmt: skip


@pytest.mark.parametrize("settings", [["optim.lr=0.0003"], ["optim.lr=0.0003", "loss.beta=0.3"]])
def test_the_settings_are_what_tuning_chose_less_what_makes_the_method(tmp_path, settings):
    trials = [{"overrides": ["loss=ipo", "optim.lr=0.0001"], "pass_at_1": 0.5}]
    write_json(tmp_path / "ipo.json", {"chosen": ["loss=ipo", *settings], "trials": trials})
    expected = ", ".join(setting.split(".", 1)[1] for setting in settings)
    assert compare.tuned_settings(tmp_path / "ipo.json") == expected
    assert compare.tuned_settings(tmp_path / "dpo.json") == ""


def test_only_the_methods_asked_for_are_read(tmp_path):
    for method in ("dpo", "ipo", "kto"):
        fake_run(tmp_path / method / "1", [0.5], [1])
    assert set(read_runs(tmp_path, "test", "evaluation", {"dpo", "kto"})) == {"dpo", "kto"}


def test_runs_on_other_problems_are_refused(tmp_path):
    fake_run(tmp_path / "dpo" / "1", [0.5, 0.5], [0, 1])
    fake_run(tmp_path / "ipo" / "1", [0.5], [1])
    with pytest.raises(ValueError, match="ipo: a run's greedy results are of other problems"):
        summarise(read_runs(tmp_path, "test", "evaluation"), None, "dpo", {})


def test_an_interval_prints_with_its_sign():
    assert Interval(0.1, -0.05, 0.25).text("+") == "+0.100 [-0.050, +0.250]"


@pytest.fixture
def run(run_program, tiny_policy, tiny_pairs):
    def start(main, *overrides: str) -> int:
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}", "device=cpu")
        return run_program(main, "+exp=quickstart", *paths, *overrides)

    return start


def test_drift_is_the_change_of_log_prob_on_held_out_pairs(run, capsys):
    """It is what training logged: rewards on the validation pairs, divided by beta."""
    name = ("run.name=comparison/dpo/3", "run.seed=3")
    assert run(train_dpo.main, *name, "optim.lr=1e-2", "data.validation_share=0.3", "loss.beta=0.2") == 0
    fake_run(Path("out/comparison/dpo/3"), [0.5, 0.5], [0, 1])
    assert run(compare.main, "+variant=compare", "data.validation_share=0.3", "variant.output=table.md") == 0
    (row,) = json.loads(Path("table.json").read_text()).values()
    logged = Path("out/comparison/dpo/3/dpo.metrics.jsonl").read_text().splitlines()
    last = next(json.loads(line) for line in reversed(logged) if "validation/loss" in line)
    assert row["chosen_drift"] == pytest.approx(last["validation/rewards/chosen"] / 0.2, abs=1e-3)
    assert row["rejected_drift"] == pytest.approx(last["validation/rewards/rejected"] / 0.2, abs=1e-3)
    assert abs(row["chosen_drift"]) > 0.01
    assert Path("table.md").read_text() in capsys.readouterr().out


def test_mistakes_are_one_line(run, capsys):
    assert run(compare.main, "+variant=compare") == 1
    assert re.search("no finished run below out/comparison", capsys.readouterr().err)
    fake_run(Path("out/comparison/ipo/1"), [0.5], [1])
    assert run(compare.main, "+variant=compare") == 1
    assert "no run of the baseline 'dpo' in out/comparison; there are ipo" in capsys.readouterr().err
