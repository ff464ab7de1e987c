"""evaluate.py as a program: files in, files and a table out; one line and exit code 1 for a mistake."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

import evaluate
from data.jsonl import read_jsonl, write_jsonl, write_provenance
from data.types import ExecutionResult, Verdict
from tests.data.test_jsonl import other_program

ROOT = Path(__file__).parent.parent
PROBLEMS = [
    {
        "task_id": f"own/{number}",
        "prompt": f"def add{number}(x):\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {1 + number}\n",
        "entry_point": f"add{number}",
        "canonical_solution": f"    return x + {number}\n",
    }
    for number in range(4)
]
RIGHT = [{"task_id": p["task_id"], "completion": p["canonical_solution"]} for p in PROBLEMS]
WRONG = [dict(row, completion="    return None\n") for row in RIGHT]


@pytest.fixture
def config(tmp_path):
    """Compose the configuration with overrides, as the command line does; paths lead to tmp_path."""
    write_jsonl(tmp_path / "problems.jsonl", PROBLEMS)
    fixed = [
        f"data.problems={tmp_path}/problems.jsonl",
        f"run.dir={tmp_path}/out",
        "run.name=x",
        "sandbox.workers=1",
    ]

    def composed(*overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("config", [*fixed, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        return cfg

    yield composed
    HydraConfig.instance().cfg = None


def samples(tmp_path, rows, name="samples.jsonl"):
    write_jsonl(tmp_path / name, rows)
    return f"samples={tmp_path / name}"


def test_a_file_of_samples_is_scored_without_a_model(config, tmp_path, capsys):
    rows = RIGHT[:2] + WRONG[2:] + [dict(RIGHT[0], solution="def add0(x):\n    return 1")]
    rows += [dict(WRONG[0]), *RIGHT[1:]]
    summary = evaluate.score_file(config(samples(tmp_path, rows)))
    assert summary["unstated"]["pass_at_1"] == pytest.approx((2 / 3 + 1 + 0.5 + 0.5) / 4)
    assert list(summary["unstated"]["pass_at_k"]) == ["1", "2"]
    assert summary["unstated"]["pass_at_k"]["2"]["mean"] == 1.0
    assert summary["verdicts"] == {"passed": 6, "wrong_answer": 3}
    assert summary["protocol"]["name"] == "plain"
    folder = tmp_path / "out" / "samples-problems"
    written = json.loads((folder / "summary.json").read_text())
    assert written["unstated"] == summary["unstated"]
    assert written["protocol"]["digest"] == summary["protocol"]["digest"]
    results = read_jsonl(folder / "results.jsonl")
    assert [(row["task_id"], row["sample"]) for row in results][-1] == ("own/3", 1)
    whole = read_jsonl(folder / "samples-unstated.jsonl")
    assert whole[0] == {"task_id": "own/0", "solution": "def add0(x):\n    return x + 0\n"}
    problems = read_jsonl(folder / "problems.jsonl")
    assert [(row["task_id"], row["samples"], row["passed"]) for row in problems] == [
        ("own/0", 3, 2), ("own/1", 2, 2), ("own/2", 2, 1), ("own/3", 2, 1),
    ]  # fmt: skip
    assert problems[2]["verdicts"] == {"wrong_answer": 1, "passed": 1}
    out = capsys.readouterr().out
    assert "unstated" in out
    assert "passed 6, wrong_answer 3" in out
    assert f"protocol    plain {summary['protocol']['digest']}" in out
    assert "seconds     judging" in out
    assert "pass@2   1.000 [0.510, 1.000]" in out


def test_files_of_one_name_keep_apart(config, tmp_path):
    for folder, rows in (("a", RIGHT), ("b", WRONG), ("a", RIGHT)):
        (tmp_path / folder).mkdir(exist_ok=True)
        evaluate.score_file(config(samples(tmp_path / folder, rows)))
    first, second = (tmp_path / "out" / name for name in ("samples-problems", "samples-problems.2"))
    assert json.loads((first / "summary.json").read_text())["verdicts"] == {"passed": 4}
    assert json.loads((second / "summary.json").read_text())["verdicts"] == {"wrong_answer": 4}
    assert not (tmp_path / "out" / "samples-problems.3").exists()


def test_scores_of_a_file_under_other_protocols_splits_or_problems_keep_apart(config, tmp_path):
    given = samples(tmp_path, RIGHT)
    (tmp_path / "b").mkdir()
    write_jsonl(tmp_path / "b" / "problems.jsonl", PROBLEMS)
    other = f"data.problems={tmp_path}/b/problems.jsonl"
    for _ in range(2):  # the same command again finds its folder
        for choice in ([], ["protocol=humaneval"], ["run.split=train"], [other]):
            evaluate.score_file(config(given, *choice))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "samples-problems", "samples-problems-humaneval", "samples-problems-train", "samples-problems.2",
    }  # fmt: skip


def test_a_score_that_takes_the_place_of_another_says_what_differs(config, tmp_path, capsys):
    given = samples(tmp_path, RIGHT)
    for seconds in (3, 3, 2):
        assert "replaces" not in capsys.readouterr().out
        evaluate.score_file(config(given, f"sandbox.seconds={seconds}"))
    printed = capsys.readouterr().out
    assert f"replaces   {tmp_path}/out/samples-problems/summary.json: judged with seconds 3.0," in printed


def test_the_time_limits_that_are_printed_are_those_that_programs_get(config, tmp_path, capsys):
    given = samples(tmp_path, RIGHT)
    evaluate.score_file(config(given, "protocol=humaneval", "sandbox.seconds=1"))
    assert " T=cpu 3s mem" in capsys.readouterr().out
    own = {"seconds": 7.0}
    write_jsonl(tmp_path / "problems.jsonl", [*PROBLEMS[:3], PROBLEMS[3] | {"meta": own}])
    summary = evaluate.score_file(config(given, "sandbox.seconds=1"))
    assert " T=cpu 1 to 7s mem" in capsys.readouterr().out
    assert " T=cpu 1 to 7s mem" in summary["sandbox"]["report"]


def test_nobody_else_writes_into_the_folder_until_the_score_is_written(config, tmp_path, monkeypatch):
    asked = []

    def look(path, **facts):
        asked.append(other_program(path).communicate()[1])

    monkeypatch.setattr(evaluate, "write_provenance", look)
    evaluate.score_file(config(samples(tmp_path, RIGHT)))
    assert "results.jsonl is being written by another program" in asked[0]


def test_results_are_never_compared_with_themselves(config, tmp_path):
    given = samples(tmp_path, RIGHT)
    evaluate.score_file(config(given))
    with pytest.raises(ValueError, match="where this evaluation writes its own results"):
        evaluate.score_file(config(given, f"compare={tmp_path}/out/samples-problems"))


def test_a_comparison_across_protocols_or_problems_says_so(config, tmp_path, capsys):
    evaluate.score_file(config(samples(tmp_path, RIGHT, "old.jsonl"), "protocol=humaneval"))
    write_jsonl(tmp_path / "problems.jsonl", [dict(p, test=p["test"] + "\n") for p in PROBLEMS])
    compare = f"compare={tmp_path}/out/old-problems-humaneval/results.jsonl"
    evaluate.score_file(config(samples(tmp_path, WRONG, "new.jsonl"), compare))
    out = capsys.readouterr().out
    assert "note: judged under protocol humaneval, this under plain" in out
    assert "note: other problems or tests" in out
    assert "fixed 0, broken 4 of 4" in out


def test_comparing_with_what_holds_no_verdicts_is_refused_before_anything_is_judged(
    config, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluate, "judge_answers", lambda *arguments: pytest.fail("judged"))
    given = samples(tmp_path, RIGHT)
    with pytest.raises(ValueError, match="line 1: no task_id or no verdict; give a results.jsonl"):
        evaluate.score_file(config(given, f"compare={tmp_path}/samples.jsonl"))
    with pytest.raises(FileNotFoundError, match="nothing to compare with"):
        evaluate.score_file(config(given, "compare=nowhere"))
    with pytest.raises(FileNotFoundError, match="is a file; give a results.jsonl or its folder as compare$"):
        evaluate.score_file(config(given, f"compare={tmp_path}"))
    write_jsonl(tmp_path / "results.jsonl", [{"task_id": "other/0", "verdict": "passed"}])
    with pytest.raises(
        ValueError, match=r"results.jsonl shares no problem under the same decoding with what"
    ):
        evaluate.score_file(config(given, f"compare={tmp_path}"))


def test_what_we_write_scores_the_same_when_read_back(config, tmp_path):
    first = evaluate.score_file(config(samples(tmp_path, RIGHT[:3] + WRONG[3:])))
    again = f"samples={tmp_path}/out/samples-problems/samples-unstated.jsonl"
    second = evaluate.score_file(config(again))
    assert first["unstated"] == second["unstated"]


def test_a_partial_file_needs_permission_and_says_what_is_missing(config, tmp_path, capsys):
    given = samples(tmp_path, RIGHT[:3])
    with pytest.raises(ValueError, match="no sample for 1 of 4 problems"):
        evaluate.score_file(config(given))
    summary = evaluate.score_file(config(given, "allow_missing=true"))
    assert summary["missing"] == ["own/3"]
    assert summary["unstated"]["n_problems"] == 3
    assert "missing    1 of 4 problems" in capsys.readouterr().out


def test_comparing_prints_the_paired_test_and_the_problems(config, tmp_path, capsys):
    evaluate.score_file(config(samples(tmp_path, WRONG[:3] + RIGHT[3:], "old.jsonl")))
    new = samples(tmp_path, RIGHT[:3] + WRONG[3:], "new.jsonl")
    summary = evaluate.score_file(config(new, f"compare={tmp_path}/out/old-problems"))
    difference = summary["difference"]["unstated"]
    assert (difference["mean"], difference["fixed"], difference["broken"]) == (0.5, 3, 1)
    assert difference["p_value"] == pytest.approx(0.625)
    out = capsys.readouterr().out
    assert "fixed own/0, own/1, own/2" in out
    assert "broken own/3" in out
    assert "note:" not in out


def test_extraction_failures_are_counted(config, tmp_path):
    rows = [dict(RIGHT[0], completion=None, solution="I cannot."), *RIGHT[1:]]
    rows[0].pop("completion")
    summary = evaluate.score_file(config(samples(tmp_path, rows)))
    assert summary["extraction_failed"] == 1
    assert summary["verdicts"]["syntax_error"] == 1


def test_the_reference_solutions_check_the_setup(config, tmp_path):
    assert evaluate.score_file(config("samples=canonical"))["greedy"]["pass_at_1"] == 1.0
    write_jsonl(tmp_path / "problems.jsonl", [*PROBLEMS[1:], PROBLEMS[0] | {"canonical_solution": ""}])
    with pytest.raises(ValueError, match=r"1 of 4 problems have no canonical_solution \(own/0\)"):
        evaluate.score_file(config("samples=canonical"))


def test_evaluations_with_one_verdict_file_run_equal_programs_once(config, tmp_path):
    shared = tmp_path / "verdicts.jsonl"
    evaluate.score_file(config(samples(tmp_path, RIGHT, "first.jsonl"), f"run.verdicts={shared}"))
    rows = read_jsonl(shared)
    assert [row["verdict"] for row in rows] == ["passed"] * 4
    write_jsonl(shared, [row | {"verdict": "timeout"} for row in rows])
    second = evaluate.score_file(config(samples(tmp_path, RIGHT, "second.jsonl"), f"run.verdicts={shared}"))
    assert second["verdicts"] == {"timeout": 4}


def fake_sampler(texts):
    """Writes a completions file as sample.py does: one greedy answer (sample -1) and two at a temperature."""

    def sample_completions(cfg):
        path = evaluate.samples_folder(cfg) / "completions.jsonl"
        right = texts[cfg.run.checkpoint]
        identity = {"weights": cfg.run.checkpoint, "seed": cfg.run.seed}
        identity["decode"] = {"n": 2, "temperature": cfg.decode.temperature}
        write_provenance(path, identity=identity)
        write_jsonl(
            path,
            [
                {
                    "task_id": p["task_id"],
                    "sample": sample,
                    "text": p["canonical_solution"] if number < right else "    return None\n",
                    "temperature": 0.0 if sample < 0 else 0.8,
                }
                for number, p in enumerate(PROBLEMS)
                for sample in (-1, 0, 1)
            ],
        )
        return path

    return sample_completions


@pytest.fixture
def sampler(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "sample_completions", fake_sampler({"base": 1, "dpo": 4}))
    monkeypatch.setattr(evaluate, "checkpoint_folder", lambda cfg, name: tmp_path / "checkpoint")
    monkeypatch.setattr(evaluate, "has_chat_template", lambda folder: False)


def test_a_checkpoint_is_scored_greedy_and_sampled_and_against_base(config, tmp_path, sampler):
    base = evaluate.score_checkpoint(config())
    assert base["greedy"]["pass_at_1"] == base["sampled"]["pass_at_1"] == 0.25
    assert (base["greedy"]["n_samples"], base["sampled"]["n_samples"]) == (1, 2)
    assert "difference" not in base
    dpo = evaluate.score_checkpoint(config("run.checkpoint=dpo"))
    assert dpo["greedy"]["pass_at_1"] == 1.0
    difference = dpo["difference"]
    assert difference["against"].endswith("base-test-sample/results.jsonl")
    for name in ("greedy", "sampled"):
        assert {"mean", "ci_low", "ci_high", "p_value", "fixed", "broken"} <= difference[name].keys()
        assert (difference[name]["mean"], difference[name]["fixed"]) == (0.75, 3)
    assert {path.name for path in (tmp_path / "out" / "dpo-test-sample").iterdir()} == {
        "completions.jsonl", "completions.jsonl.meta.json", "problems.jsonl", "results.jsonl",
        "results.jsonl.meta.json",
        "samples-greedy.jsonl", "samples-sampled.jsonl", "summary.json",
    }  # fmt: skip


def test_base_on_other_problems_costs_no_score(config, tmp_path, sampler, capsys):
    evaluate.score_checkpoint(config())
    path = tmp_path / "out" / "base-test-sample" / "results.jsonl"
    write_jsonl(path, [row | {"task_id": f"older/{row['task_id']}"} for row in read_jsonl(path)])
    summary = evaluate.score_checkpoint(config("run.checkpoint=dpo"))
    assert summary["greedy"]["pass_at_1"] == 1.0
    assert "difference" not in summary
    assert f"compare    with nothing: {path} shares no problem" in capsys.readouterr().out
    with pytest.raises(ValueError, match="shares no problem under the same decoding"):
        evaluate.score_checkpoint(config("run.checkpoint=dpo", "compare=base"))


def test_a_comparison_says_what_was_sampled_otherwise(config, tmp_path, sampler, monkeypatch):
    (tmp_path / "checkpoint").mkdir()
    monkeypatch.setattr(
        evaluate, "weights_digest", lambda folder: pytest.fail("read weights that are as then")
    )
    evaluate.score_checkpoint(config("sandbox.seconds=2"))
    same = evaluate.score_checkpoint(config("run.checkpoint=dpo", "sandbox.seconds=2"))
    assert same["difference"]["notes"] == []
    now = config("run.checkpoint=dpo", "decode.temperature=1", "run.seed=2", "sandbox.memory_mb=2048")
    time.sleep(0.05)  # file times may be as coarse as a tick
    (tmp_path / "checkpoint" / "config.json").touch()
    monkeypatch.setattr(evaluate, "weights_digest", lambda folder: "another base")
    assert evaluate.score_checkpoint(now)["difference"]["notes"] == [
        "judged with seconds 2.0, memory_mb 4096, this with seconds 3.0, memory_mb 2048",
        "sampled with temperature 0.8, seed 1, this with temperature 1.0, seed 2",
        f"sampled from other weights than {tmp_path}/checkpoint has now",
    ]


def test_comparing_with_a_checkpoint_that_was_never_scored_says_how_to(config, sampler, monkeypatch):
    monkeypatch.setattr(evaluate, "sample_completions", lambda cfg: pytest.fail("sampled"))
    with pytest.raises(FileNotFoundError, match=r"score that checkpoint first: run.checkpoint=sft without"):
        evaluate.score_checkpoint(config("run.checkpoint=dpo", "compare=sft"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("sandbox.seconds=-1", r"^sandbox.seconds is -1.0; a positive number expected"),
        ("sandbox.workers=-1", r"^sandbox.workers is -1; 0 \(one per core\) or more expected"),
        ("sandbox.require=[tmpf]", r"^sandbox.require names the layer 'tmpf'; known are "),
        (
            "sandbox.layers=[split,rlimits] sandbox.require=[split,seccomp]",
            "sandbox.require names seccomp, which this machine does not give",
        ),
    ],
)
def test_a_sandbox_that_cannot_be_is_an_error_before_anything_is_sampled(
    config, sampler, settings, says, monkeypatch
):
    monkeypatch.setattr(evaluate, "sample_completions", lambda cfg: pytest.fail("sampled"))
    with pytest.raises(ValueError, match=says):
        evaluate.run(config(*settings.split()))


def stops_after_one(jobs, config, cache):
    for number, job in enumerate(jobs):
        if number == 1:
            raise KeyboardInterrupt
        yield job.key, ExecutionResult(verdict=Verdict.PASSED)


def stopped_after(seconds, cfg, note, monkeypatch):
    """Judge a part of `cfg`, and let the `note` of it say that it took `seconds` more."""
    with monkeypatch.context() as changed:
        changed.setattr(evaluate, "judge", stops_after_one)
        with pytest.raises(SystemExit) as stopped:
            evaluate.run(cfg)
    assert stopped.value.code == 130
    noted = json.loads(note.read_text())
    noted["counts"]["seconds"] += seconds
    note.write_text(json.dumps(noted))


def test_the_seconds_of_judging_are_those_of_all_its_parts(config, tmp_path, monkeypatch):
    cfg, folder = config(samples(tmp_path, RIGHT)), tmp_path / "out" / "samples-problems"
    note = folder / "results.jsonl.partial.meta.json"
    stopped_after(1000, cfg, note, monkeypatch)
    stopped_after(1000, cfg, note, monkeypatch)
    evaluate.run(cfg)
    for _ in range(2):  # found again, they are as long
        assert 2000 < json.loads((folder / "summary.json").read_text())["seconds"]["judging"] < 2100
        assert not note.exists()
        evaluate.run(cfg)


def test_the_seconds_of_a_part_that_was_judged_otherwise_are_not_counted(config, tmp_path, monkeypatch):
    given, folder = samples(tmp_path, RIGHT), tmp_path / "out" / "samples-problems"
    note = folder / "results.jsonl.partial.meta.json"
    stopped_after(1000, config(given, "sandbox.seconds=2"), note, monkeypatch)
    assert evaluate.score_file(config(given))["seconds"]["judging"] < 100
    stopped_after(1000, config(given, "sandbox.seconds=2"), note, monkeypatch)
    (folder / "results.jsonl.partial").unlink()  # to begin again
    assert evaluate.score_file(config(given, "sandbox.seconds=2"))["seconds"]["judging"] < 100


def test_internal_errors_that_remain_stop_the_program(config, tmp_path, monkeypatch):
    asked = []

    def broken(jobs, config, cache):
        for job in jobs:
            asked.append(job.key)
            yield job.key, ExecutionResult(verdict=Verdict.INTERNAL_ERROR)

    monkeypatch.setattr(evaluate, "judge", broken)
    with pytest.raises(ValueError, match="4 samples could not be judged, twice"):
        evaluate.run(config(samples(tmp_path, RIGHT)))
    assert len(asked) == 8
    write_jsonl(tmp_path / "other.jsonl", [{"task_id": p["task_id"], "verdict": "passed"} for p in PROBLEMS])
    with pytest.raises(ValueError, match="4 samples could not be judged, twice"):
        evaluate.run(config(samples(tmp_path, RIGHT), f"compare={tmp_path}/other.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"task_id": "own/0", "comp', "samples.jsonl, line 2: not JSON"),
        (
            '{"task_id": "own/9", "completion": ""}',
            "samples.jsonl, line 2: own/9 is not among the 4 problems",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(tmp_path, line, message):
    write_jsonl(tmp_path / "problems.jsonl", PROBLEMS)
    (tmp_path / "samples.jsonl").write_text(json.dumps(RIGHT[0]) + "\n" + line + "\n")
    done = subprocess.run(
        [sys.executable, ROOT / "evaluate.py", f"samples={tmp_path}/samples.jsonl",
         f"benchmark={tmp_path}/problems.jsonl", "run.name=x", f"run.home={tmp_path}/out"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
