"""sample.py: the file it writes, resuming, and a prompt on the terminal."""

import dataclasses
import importlib
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sample
from data.jsonl import as_record, read_jsonl
from data.tokenizer import load_tokenizer
from data.toy import toy_problems
from data.types import Completion
from model.checkpoint import load_model
from model.generate import DecodeConfig, Generation
from model.training import Compute
from tests.conftest import compose_config
from tests.data.test_jsonl import other_program

DECODE = DecodeConfig(n=3, temperature=0.9, greedy=True, max_new_tokens=12, batch_rows=4)
IDENTITY = {"weights": "w", "seed": 7}


@pytest.fixture(scope="module")
def policy(tiny_policy):
    return load_model(tiny_policy), load_tokenizer(tiny_policy)


@pytest.fixture
def prompts(policy):
    return {p.task_id: policy[1].prompt_ids(p.prompt) for p in toy_problems("test", 5)}


def write(policy, prompts, path, decode=DECODE, **more) -> list[Completion]:
    model, tokenizer = policy
    sample.write_completions(model, tokenizer, prompts, decode, 7, path, identity=IDENTITY, **more)
    return [as_record(Completion, row, str(path)) for row in read_jsonl(path)]


def test_every_sample_is_there_once_in_order_with_ids_that_spell_the_text(policy, prompts, tmp_path):
    rows = write(policy, prompts, tmp_path / "completions.jsonl")
    assert [(r.task_id, r.sample) for r in rows] == [(t, s) for t in prompts for s in (-1, 0, 1, 2)]
    tokenizer = policy[1]
    for row in rows:
        assert row.prompt_ids == prompts[row.task_id]
        assert row.temperature == (0.0 if row.sample == -1 else 0.9)
        assert row.seed == 7
        assert row.finished == (row.ids[-1] in tokenizer.stop_ids)
        assert tokenizer.completion_text(row.ids) == row.text
        assert set(row.ids) <= set(tokenizer.usable_ids)
    meta = json.loads((tmp_path / "completions.jsonl.meta.json").read_text())
    assert meta["identity"] == IDENTITY
    assert meta["counts"]["completions"] == 20
    assert meta["counts"]["truncated"] == sum(not row.finished for row in rows)


def test_the_file_does_not_depend_on_the_batch(policy, prompts, tmp_path):
    texts = []
    for rows in (1, 8, 32):
        path = tmp_path / f"{rows}.jsonl"
        write(policy, prompts, path, dataclasses.replace(DECODE, batch_rows=rows))
        texts.append(path.read_text())
    assert texts[0] == texts[1] == texts[2]


def test_the_file_does_not_depend_on_the_number_of_processes(policy, prompts, tmp_path, tiny_policy):
    alone, shared = tmp_path / "alone.jsonl", tmp_path / "shared.jsonl"
    write(policy, prompts, alone)
    apart = partial(sample.draw_apart, tiny_policy, Compute.choose("cpu", "fp32"), DECODE, 1)
    write(policy, prompts, shared, elsewhere=[apart])
    assert alone.read_text() == shared.read_text()


@pytest.mark.parametrize(
    ("processes", "threads", "samples", "others"),
    [
        (None, 4, 32 * 4, 3),
        (None, 4, 2 * 32, 1),
        (None, 4, 63, 0),
        (None, 1, 10**6, 0),
        (3, 1, 1, 2),
        (1, 4, 10**6, 0),
    ],
)
def test_a_small_model_is_sampled_by_a_process_per_core_when_there_is_enough_to_do(
    policy, processes, threads, samples, others, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    decode = dataclasses.replace(DECODE, processes=processes)
    assert sample.other_devices("auto", policy[0], decode, samples) == [torch.device("cpu")] * others


def test_a_large_model_is_sampled_by_one_process(policy, monkeypatch):
    monkeypatch.setattr(sample, "SMALL_BYTES", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert sample.other_devices("auto", policy[0], DECODE, 10**6) == []


def test_an_interrupted_file_goes_on_and_ends_the_same(policy, prompts, tmp_path, monkeypatch, capsys):
    whole = write(policy, prompts, tmp_path / "whole.jsonl")
    path, sampled = tmp_path / "completions.jsonl", []

    def stop_after_seven(*args, **kwargs):
        for generation in generate(*args, **kwargs):
            if len(sampled) == 7:
                raise KeyboardInterrupt
            sampled.append(generation)
            yield generation

    generate = sample.generate
    monkeypatch.setattr(sample, "generate", stop_after_seven)
    with pytest.raises(SystemExit) as stopped:
        write(policy, prompts, path)
    assert stopped.value.code == 130
    assert not path.exists()
    assert "goes on from there" in capsys.readouterr().out
    meta = path.with_name(path.name + ".meta.json")
    counts = json.loads(meta.read_text())["counts"]
    assert counts["tokens"] == sum(len(generation.ids) for generation in sampled)
    meta.write_text(json.dumps({"identity": IDENTITY, "counts": counts | {"seconds": 1000}}))
    partial = path.with_name(path.name + ".partial")
    with partial.open("a") as file:
        file.write('{"task_id": "torn')  # the power went off in the middle of a line

    again = []
    monkeypatch.setattr(sample, "generate", lambda *a, **k: (again.append(g) or g for g in generate(*a, **k)))
    assert write(policy, prompts, path) == whole
    assert len(again) == 20 - 7
    assert not partial.exists()
    counts = json.loads(meta.read_text())["counts"]
    assert counts["tokens"] == sum(len(generation.ids) for generation in (*sampled, *again))
    assert 1000 < counts["seconds"] < 1100


def test_ids_reach_just_beyond_a_stop_string(policy):
    tokenizer = policy[1]
    ids = tokenizer.completion_ids("    return 1\ndef g(): pass")[:-1]
    generation = Generation("t", 0, ids, "stop_string", "    return 1", None)
    kept = sample.spelling(generation, tokenizer)
    assert tokenizer.completion_text(kept).startswith("    return 1")
    assert not tokenizer.completion_text(kept[:-1]).startswith("    return 1")
    assert sample.spelling(generation._replace(text=""), tokenizer) == []
    finished = generation._replace(reason="stop_id")
    assert sample.spelling(finished, tokenizer) == ids


def config(tiny_policy: Path, home: Path, *more: str):
    return compose_config(
        f"model.path={tiny_policy}",
        f"run.home={home}",
        f"run.dir={home}",
        "data.test=3",
        "decode.n=2",
        "decode.max_new_tokens=8",
        "device=cpu",
        *more,
    )


@pytest.mark.parametrize(
    ("number", "says"),
    [("0", "nothing to sample: decode.n is 0"), ("-2", "decode.n is -2, expected 0 or more")],
)
def test_nothing_to_sample_is_an_error_before_the_model_is_read(
    tiny_policy, tmp_path, number, says, monkeypatch
):
    monkeypatch.setattr(sample, "load_model", lambda *arguments, **where: pytest.fail("read"))
    with pytest.raises(ValueError, match=says):
        sample.sample_completions(config(tiny_policy, tmp_path, f"decode.n={number}"))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("top_p=2", r"^decode.top_p is 2.0, expected above 0 and at most 1 \(off\)"),
        ("top_p=0", r"^decode.top_p is 0.0"),
        ("temperature=-1", r"^decode.temperature is -1.0, expected 0 \(the most likely token\) or more"),
        ("temperature=nan", r"^decode.temperature is nan"),
        ("top_k=-1", r"^decode.top_k is -1, expected 0 \(off\) or more"),
        ("max_new_tokens=0", r"^decode.max_new_tokens is 0, expected at least 1"),
        ("max_new_tokens=-4", r"^decode.max_new_tokens is -4"),
        ("max_new_tokens=100000", r"\d+ prompt tokens and 100000 new ones exceed the model's 512; lower"),
        ("batch_rows=0", r"^decode.batch_rows is 0, expected at least 1"),
        ("processes=0", r"^decode.processes is 0, expected at least 1, or null"),
    ],
)
def test_a_setting_that_nothing_can_be_sampled_with_costs_no_finished_file(
    tiny_policy, tmp_path, setting, says, monkeypatch
):
    cfg = config(tiny_policy, tmp_path, f"decode.{setting}")
    path = sample.samples_folder(cfg) / "completions.jsonl"
    path.parent.mkdir()
    path.write_text("rows of other settings\n")
    monkeypatch.setattr(sample, "load_model", lambda *arguments, **where: pytest.fail("read"))
    with pytest.raises(ValueError, match=says):
        sample.sample_completions(cfg)
    assert [file.name for file in path.parent.iterdir()] == ["completions.jsonl"]


@pytest.mark.parametrize(
    ("length", "says"),
    [
        (505, "^toy/test/1: 505 prompt tokens and 8 new ones exceed the model's 512"),
        (0, "^toy/test/1: an empty prompt"),
        (504, "^claimed$"),
    ],
)
def test_prompts_are_checked_before_a_finished_file_is_moved(
    tiny_policy, tmp_path, length, says, monkeypatch
):
    def claim(path, identity):
        raise ValueError("claimed")

    as_asked = sample.as_asked
    changed = {"toy/test/1": ("", [5] * length)}
    monkeypatch.setattr(sample, "as_asked", lambda *arguments: as_asked(*arguments) | changed)
    monkeypatch.setattr(sample, "claim", claim)
    with pytest.raises(ValueError, match=says):
        sample.sample_completions(config(tiny_policy, tmp_path))


def test_an_error_while_sampling_gets_a_line_of_its_own(tiny_policy, run_program, capsys, monkeypatch):
    def fails(*arguments, **settings):
        raise ValueError("the model's logits are not finite")
        yield

    monkeypatch.setattr(sample, "generate", fails)
    few = ("data.test=1", "decode.n=1", "device=cpu", "run.name=x")
    assert run_program(sample.main, f"model.path={tiny_policy}", *few) == 1
    assert "\nerror: the model's logits are not finite" in capsys.readouterr().err


def test_what_another_program_is_sampling_stays_where_it_is(tiny_policy, tmp_path):
    """Also under other settings, whose file would be moved aside if nobody wrote it."""
    cfg = config(tiny_policy, tmp_path)
    partial = sample.samples_folder(cfg) / "completions.jsonl.partial"
    partial.parent.mkdir()
    partial.write_text("rows of other settings\n")
    other = other_program(partial.with_suffix(""), "sys.stdin.read()")
    assert other.stdout.readline() == "mine\n"
    with pytest.raises(ValueError, match=rf"completions.jsonl is being written .*process {other.pid}"):
        sample.sample_completions(cfg)
    assert partial.read_text() == "rows of other settings\n"
    other.communicate()


def test_a_finished_file_is_kept_and_one_of_other_settings_moved_aside(tiny_policy, tmp_path, capsys):
    path = sample.sample_completions(config(tiny_policy, tmp_path))
    first = path.read_text()
    assert len(read_jsonl(path)) == 6
    capsys.readouterr()

    assert sample.sample_completions(config(tiny_policy, tmp_path, "decode.batch_rows=3")) == path
    assert "found" in capsys.readouterr().out

    sample.sample_completions(config(tiny_policy, tmp_path, "run.seed=5"))
    assert "it differs in seed" in capsys.readouterr().out
    assert path.with_name("completions.1.jsonl").read_text() == first
    assert path.read_text() != first


def test_a_file_of_other_weights_or_of_another_type_is_moved_aside(tiny_policy, tmp_path, capsys):
    folder = tmp_path / "policy"
    shutil.copytree(tiny_policy, folder)
    path = sample.sample_completions(config(folder, tmp_path))
    sample.sample_completions(config(folder, tmp_path, "model.dtype=bf16"))
    assert f"moved      {path} to completions.1.jsonl: it differs in dtype\n" in capsys.readouterr().out
    stored = load_file(folder / "model.safetensors")
    stored["model.norm.weight"] *= 2
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    sample.sample_completions(config(folder, tmp_path, "model.dtype=bf16"))
    assert f"moved      {path} to completions.2.jsonl: it differs in weights\n" in capsys.readouterr().out


def test_interrupted_files_of_other_settings_are_moved_aside_one_beside_the_other(tmp_path):
    """Each leaves what is finished and a note of its settings, but no completions.jsonl."""
    path = tmp_path / "completions.jsonl"
    for seed in (1, 2, 3):
        assert not sample.claim(path, {"seed": seed})
        path.with_name("completions.jsonl.partial").write_text(f"rows of seed {seed}\n")
        path.with_name("completions.jsonl.meta.json").write_text(json.dumps({"identity": {"seed": seed}}))
    for number, name in ((1, "completions.1.jsonl"), (2, "completions.2.jsonl"), (3, "completions.jsonl")):
        assert (tmp_path / f"{name}.partial").read_text() == f"rows of seed {number}\n"
        assert json.loads((tmp_path / f"{name}.meta.json").read_text()) == {"identity": {"seed": number}}


def test_files_that_were_moved_aside_come_back_when_they_are_wanted_again(tiny_policy, tmp_path, capsys):
    """Finished ones as they were; interrupted ones to go on from."""
    path, other = sample.sample_completions(config(tiny_policy, tmp_path)), "run.seed=5"
    first = path.read_text()
    second = sample.sample_completions(config(tiny_policy, tmp_path, other)).read_text()
    capsys.readouterr()

    assert sample.sample_completions(config(tiny_policy, tmp_path)).read_text() == first
    out = capsys.readouterr().out
    assert "completions.1.jsonl back to completions.jsonl\nfound" in out
    assert path.with_name("completions.2.jsonl").read_text() == second

    path.with_name("completions.2.jsonl").unlink()
    row = second.splitlines(keepends=True)[0]
    path.with_name("completions.2.jsonl.partial").write_text(row)
    assert sample.sample_completions(config(tiny_policy, tmp_path, other)).read_text() == second
    assert "going on   " in capsys.readouterr().out
    assert path.with_name("completions.1.jsonl").read_text() == first
    assert not path.with_name("completions.2.jsonl.meta.json").exists()

    path.with_name("completions.1.jsonl").unlink()
    assert sample.sample_completions(config(tiny_policy, tmp_path)).read_text() == first
    assert "back to" not in capsys.readouterr().out  # a note alone is nothing to go on from


def test_the_groups_are_a_greedy_answer_samples_or_both(tiny_policy, tmp_path):
    for group, numbers in (("greedy", [-1]), ("sample", range(16)), ("evaluation", range(-1, 8))):
        cfg = compose_config(
            f"model.path={tiny_policy}",
            f"run.home={tmp_path}",
            f"run.dir={tmp_path}",
            f"decode={group}",
            "decode.max_new_tokens=3",
            "data.test=1",
        )
        assert [row["sample"] for row in read_jsonl(sample.sample_completions(cfg))] == list(numbers)


def forbid_everything_but_seven(logits: torch.Tensor, ids: list[list[int]]) -> torch.Tensor:
    return logits.masked_fill(torch.arange(logits.shape[1]) != 7, float("-inf"))


def test_a_hook_is_named_in_the_configuration(tiny_policy, tmp_path):
    tokenizer = load_tokenizer(tiny_policy)
    assert 7 in tokenizer.usable_ids
    sys.modules["a_hook"] = sys.modules[__name__]
    cfg = config(tiny_policy, tmp_path, "decode.logits_hook=a_hook.forbid_everything_but_seven")
    for row in read_jsonl(sample.sample_completions(cfg)):
        assert row["ids"] == [7] * 8


def test_samples_of_a_hook_that_was_edited_are_moved_aside(tiny_policy, tmp_path, monkeypatch, capsys):
    """A comment more changes nothing."""
    monkeypatch.syspath_prepend(tmp_path)
    cfg = config(tiny_policy, tmp_path, "decode.logits_hook=edited_hook.hook")
    said = []
    for code in ("logits", "logits  # as it is", "logits / 2"):
        (tmp_path / "edited_hook.py").write_text(f"def hook(logits, ids):\n    return {code}\n")
        sys.modules.pop("edited_hook", None)
        importlib.invalidate_caches()
        sample.sample_completions(cfg)
        said.append(capsys.readouterr().out.split()[0])
    assert said == ["sampled", "found", "moved"]


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ("no.such.hook", r"no.such.hook cannot be loaded \(ModuleNotFoundError: No module named 'no'\)"),
        ("torn_hook.hook", r"cannot be loaded \(SyntaxError: .* \(torn_hook.py, line 1\)\); give module.f"),
        ("{_target_: os.path.nothing}", "cannot be loaded .*nothing"),
        ("{target: os.path.join}", "is no function"),
    ],
)
def test_a_hook_that_cannot_be_loaded_is_one_line_before_the_model_is_read(
    tiny_policy, tmp_path, monkeypatch, hook, says
):
    (tmp_path / "torn_hook.py").write_text("def hook(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sample, "load_model", lambda *arguments, **where: pytest.fail("read"))
    cfg = config(tiny_policy, tmp_path, f"decode.logits_hook={hook}")
    for program in (sample.sample_completions, lambda cfg: sample.print_completion(cfg, "def f(x):")):
        with pytest.raises(ValueError, match=says) as error:
            program(cfg)
        assert "\n" not in str(error.value)


def test_a_prompt_is_asked_and_stopped_as_the_protocol_says(tiny_policy, tmp_path, capsys):
    folder = tmp_path / "chat"
    shutil.copytree(tiny_policy, folder)
    sample.print_completion(config(tiny_policy, tmp_path, "decode.greedy=true"), "  def f(x):\n")
    plain = capsys.readouterr().out
    cfg = config(folder, tmp_path, "decode.greedy=true", "protocol=chat")
    with pytest.raises(ValueError, match="protocol chat needs a chat template"):
        sample.print_completion(cfg, "def f(x):")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = "<user>{{ messages[0]['content'] }}<answer>"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    sample.print_completion(cfg, "def f(x):")
    asked = capsys.readouterr().out
    assert asked.startswith("<user>Please provide a self-contained Python script")
    assert "```\ndef f(x):\n```\n<answer>" in asked

    stripped = "protocol=evalplus_base_humaneval"
    sample.print_completion(config(tiny_policy, tmp_path, "decode.greedy=true", stripped), "  def f(x):\n")
    assert plain.startswith("  def f(x):")
    assert capsys.readouterr().out.startswith("def f(x):\n")
    with pytest.raises(ValueError, match="prompt is no MBPP task; protocol mbpp_3shot needs"):
        sample.print_completion(config(tiny_policy, tmp_path, "protocol=mbpp_3shot"), "def f(x):")


def test_a_prompt_is_completed_on_the_terminal_as_in_a_file(tiny_policy, tmp_path, capsys, policy):
    cfg = config(tiny_policy, tmp_path, "decode.greedy=true")
    sample.print_completion(cfg, "def add(a, b):")
    printed = capsys.readouterr().out
    (row,) = write(
        policy,
        {"t": policy[1].prompt_ids("def add(a, b):")},
        tmp_path / "one.jsonl",
        dataclasses.replace(DECODE, n=0, max_new_tokens=8),
    )
    assert printed == "def add(a, b):" + row.text + "\n"


def test_a_prompt_that_cannot_be_served_is_not_begun(tiny_policy, tmp_path, capsys):
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        sample.print_completion(config(tiny_policy, tmp_path, "decode.max_new_tokens=0"), "def f(x):")
    assert not capsys.readouterr().out


def test_a_stop_string_never_reaches_the_terminal(tiny_policy, tmp_path, capsys):
    """Whatever the tokens are, what is shown is the text up to the string."""
    cfg = config(tiny_policy, tmp_path, "decode.max_new_tokens=40", "run.seed=3")
    sample.print_completion(cfg, "def f(x):")
    text = capsys.readouterr().out.removeprefix("def f(x):").removesuffix("\n")
    stop = text[len(text) // 2 :][:3]
    cfg.decode.stop_strings = [stop]
    sample.print_completion(cfg, "def f(x):")
    assert capsys.readouterr().out == "def f(x):" + text[: text.index(stop)] + "\n"
