"""The DPO program: starts at log 2, resumes bit for bit, never leaves half a checkpoint."""

import errno
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import ConfigCompositionException
from safetensors.torch import load_file, save_file

import train_dpo
from conf.loss_function import loss_function
from data.columns import write_columns
from data.pairs import collate, read_pairs, token_count
from data.reference_cache import read_shard, write_shard
from data.tokenizer import load_tokenizer
from data.types import PreferencePair
from losses.aot import aot_loss
from losses.bco import bco_loss
from losses.contract import couples_pairs
from losses.types import PairLogps
from model.checkpoint import save_model
from model.families import parse_config
from model.training import Compute, Metrics
from model.transformer import Transformer
from tests.conftest import compose_config

SMALL = ("optim.lr=3e-3", "optim.batch=4", "optim.epochs=2", "optim.warmup=0", "data.validation_share=0.2")


@pytest.fixture
def train(run_program, tiny_policy, tiny_pairs):
    """train(*overrides) -> exit code of a short run on the tiny policy."""

    def run(*overrides: str) -> int:
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}", "run.name=t")
        return run_program(train_dpo.main, "device=cpu", *paths, *SMALL, *overrides)

    return run


def metrics(name: str = "t") -> list[dict]:
    return [json.loads(row) for row in Path("out", name, "dpo.metrics.jsonl").read_text().splitlines()]


def weights(name: str = "t") -> dict[str, torch.Tensor]:
    return load_file(Path("out", name, "dpo", "model.safetensors"))


def interrupt_after(steps: int) -> type:
    """An Interrupt that reports SIGTERM to the first step after `steps - 1` others."""

    class Stop:
        def __init__(self) -> None:
            self.looks = 0

        def signal(self) -> int | None:
            self.looks += 1
            return 15 if self.looks >= steps else None

    return Stop


def test_the_first_loss_is_log_2_and_training_lowers_it(train):
    assert train() == 0
    rows = [row for row in metrics() if "loss" in row]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["rewards/chosen"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["loss"] < 0.6
    assert rows[-1]["rewards/margins"] > 0
    held_out = [row for row in metrics() if "validation/loss" in row]
    assert len(held_out) == 1
    assert {
        "logps/chosen",
        "logps/rejected",
        "lengths/chosen",
        "end_probability/chosen",
        "grad_norm",
        "lr",
    } <= set(rows[0])


def test_every_step_is_taken_at_the_logged_learning_rate(train, monkeypatch):
    """Two epochs of four steps, half of all for the warm-up."""
    taken = []

    def watched(*settings, adamw=train_dpo.adamw):
        optimizer = adamw(*settings)
        optimizer.register_step_pre_hook(lambda *_: taken.append({g["lr"] for g in optimizer.param_groups}))
        return optimizer

    monkeypatch.setattr(train_dpo, "adamw", watched)
    assert train("optim.warmup=0.5", "optim.schedule=linear") == 0
    expected = [3e-3 * share for share in (0.2, 0.4, 0.6, 0.8, 1, 0.75, 0.5, 0.25)]
    assert [rate for (rate,) in taken] == pytest.approx(expected)
    assert [row["lr"] for row in metrics() if "loss" in row] == pytest.approx(expected)


def test_microbatches_do_not_change_the_step(train):
    assert train("run.name=whole") == 0
    assert train("run.name=single", "optim.microbatch=1") == 0
    for name, tensor in weights("whole").items():
        torch.testing.assert_close(weights("single")[name], tensor, atol=2e-5, rtol=1e-3)
    whole, single = metrics("whole"), metrics("single")
    assert [row["step"] for row in whole] == [row["step"] for row in single]
    assert single[0]["grad_norm"] == pytest.approx(whole[0]["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_best_checkpoint_is_the_same_after_an_interruption(train, monkeypatch, steps):
    """Before and after the first of four validations, whose losses are given: the first is the best."""

    def validations(name: str, *stops: int) -> tuple[list[float], dict[str, torch.Tensor]]:
        losses = iter([0.3, 0.5, 0.4, 0.6])
        monkeypatch.setattr(train_dpo, "validate", lambda *_: {"validation/loss": next(losses)})
        for stop in stops:
            with monkeypatch.context() as patch:
                patch.setattr(train_dpo, "Interrupt", interrupt_after(stop))
                assert train(f"run.name={name}", "optim.validate_every=2") == 128 + 15
        assert train(f"run.name={name}", "optim.validate_every=2") == 0
        found = [row["validation/loss"] for row in metrics(name) if "validation/loss" in row]
        return found, load_file(f"out/{name}/dpo-best/model.safetensors")

    (straight, best), (stopped, best_of_stopped) = validations("straight"), validations("stopped", steps)
    assert stopped == straight == [0.3, 0.5, 0.4, 0.6]
    assert all(torch.equal(tensor, best[name]) for name, tensor in best_of_stopped.items())
    assert not torch.equal(best["model.norm.weight"], weights("straight")["model.norm.weight"])


@pytest.mark.parametrize(("steps", "loss"), [(1, "dpo"), (5, "dpo"), (1, "beta_dpo"), (3, "bco")])
def test_a_resumed_run_is_bit_identical(train, monkeypatch, steps, loss):
    assert train("run.name=straight", f"loss={loss}") == 0
    with monkeypatch.context() as patch:
        patch.setattr(train_dpo, "Interrupt", interrupt_after(steps))
        assert train(f"loss={loss}") == 128 + 15
    assert train(f"loss={loss}") == 0
    straight = weights("straight")
    assert all(torch.equal(tensor, straight[name]) for name, tensor in weights().items())
    drop = ("seconds",)
    assert [{k: v for k, v in row.items() if k not in drop} for row in metrics() if "loss" in row] == [
        {k: v for k, v in row.items() if k not in drop} for row in metrics("straight") if "loss" in row
    ]


def test_a_run_killed_between_the_two_renames_of_a_save_goes_on(train, capsys):
    assert train("optim.max_steps=3") == 0
    Path("out/t/dpo").rename("out/t/.dpo.previous")
    assert train("optim.max_steps=5") == 0
    assert "going on from step 3" in capsys.readouterr().out
    assert not Path("out/t/.dpo.previous").exists()
    assert [row["step"] for row in metrics() if "loss" in row] == [1, 2, 3, 4, 5]


def test_a_finished_run_is_found_and_another_objective_moves_it_aside(train, capsys):
    assert train() == 0
    before = weights()
    assert train() == 0
    assert "found      out/t/dpo: finished" in capsys.readouterr().out
    assert train("loss.beta=0.5") == 0
    assert "moved      out/t/dpo to out/t/dpo.1" in capsys.readouterr().out
    kept = load_file("out/t/dpo.1/model.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in before.items())


def test_what_belongs_to_a_run_is_moved_aside_with_it(train):
    assert train("optim.validate_every=2") == 0
    logged = metrics()
    assert train("loss.beta=0.5") == 0
    moved = Path("out/t/dpo.1.metrics.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in moved] == logged
    made_by = json.loads(Path("out/t/dpo.1.meta.json").read_text())["objective"]
    assert made_by["loss"]["beta"] == 0.1
    assert Path("out/t/dpo.1-best/model.safetensors").exists()
    assert not Path("out/t/dpo-best").exists()


def test_seconds_of_an_interrupted_run_are_those_of_all_its_parts(train, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(train_dpo, "Interrupt", interrupt_after(3))
        assert train() == 128 + 15
    position = Path("out/t/dpo/training/position.json")
    saved = json.loads(position.read_text())
    saved["made_by"]["seconds"] += 1000
    position.write_text(json.dumps(saved))
    assert train() == 0
    meta = Path("out/t/dpo.meta.json")
    found = json.loads(meta.read_text())
    assert 1000 < found["seconds"] < 1100
    assert 1000 < metrics()[-2]["seconds"] < 1100

    meta.unlink()  # as if killed right after the last save
    assert train() == 0
    again = json.loads(meta.read_text())
    assert {name: again[name] for name in found if name != "created"} == {
        name: value for name, value in found.items() if name != "created"
    }


def test_an_unfinished_run_with_another_objective_is_refused(train, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(train_dpo, "Interrupt", interrupt_after(1))
        train()
    assert train("loss.beta=0.5", "optim.lr=1e-2") == 1
    error = capsys.readouterr().err
    assert "unfinished run (step 1 of" in error
    assert (
        "{'loss': {'beta': 0.1}, 'optim': {'lr': 0.003}}, now {'loss': {'beta': 0.5}, 'optim': {'lr': 0.01}}"
        in error
    )
    assert "set run.name" in error


def test_ctrl_c_before_the_first_step_and_a_full_disk_are_one_line_each(train, monkeypatch, capsys):
    full = OSError(errno.ENOSPC, "No space left on device")
    for error, code, words in (
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (
            full,
            1,
            "No space left on device (outputs go to out/t, reference log-probs to out/reference_logps)",
        ),
    ):
        monkeypatch.setattr(train_dpo, "fill", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert train() == code
        assert words in capsys.readouterr().err


def test_beta_and_learning_rate_reuse_the_reference(train, capsys):
    assert train() == 0
    assert "20 pairs scored, 0 found" in capsys.readouterr().out
    assert train("run.name=other", "loss.beta=0.5", "optim.lr=1e-4") == 0
    assert "0 pairs scored, 20 found" in capsys.readouterr().out


def test_a_wrong_cache_stops_the_run(train, capsys):
    assert train() == 0
    (shard,) = Path("out/reference_logps").rglob("*.safetensors")
    write_shard(shard, {key: values - 1 for key, values in read_shard(shard).items()})
    assert train("run.name=other") == 1
    assert "disagrees with its model by 1 nats" in capsys.readouterr().err
    assert not Path("out/other/dpo").exists()


def test_another_reference_is_scored_instead(train, tiny_policy):
    assert train("run.name=first") == 0
    assert train(f"run.init={Path('out/first/dpo')}", f"run.reference={tiny_policy}") == 0
    assert metrics()[0]["loss"] < 0.6  # the trained policy is already ahead of that reference


def test_another_reference_of_the_same_name_is_another_objective(train, tiny_policy, tiny_pairs, capsys):
    pairs, _ = read_pairs(tiny_pairs, load_tokenizer(tiny_policy), max_prompt=512, max_completion=512)
    sizes = [(len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs]
    for moved, value in enumerate((-1, -2)):
        columns = [tuple(np.full(size, value, np.float32) for size in both) for both in sizes]
        write_columns("out/mixed.safetensors", pairs, columns)
        assert train("run.reference=out/mixed.safetensors") == 0
        assert capsys.readouterr().out.count("a finished run with other reference") == moved
        assert train("run.reference=out/mixed.safetensors") == 0
        assert "out/t/dpo: finished" in capsys.readouterr().out


def test_what_the_first_process_lacks_is_scored_by_all_though_it_was_found_meanwhile(
    train, monkeypatch, capsys
):
    assert train() == 0
    monkeypatch.setattr(
        train_dpo,
        "on_first",
        lambda f, *given, **more: [0, 2] if f.__name__ == "lacking" else f(*given, **more),
    )
    assert train("run.name=late") == 0
    assert ": 2 pairs scored" in capsys.readouterr().out


def test_the_check_of_the_reference_reads_no_more_tokens_at_a_time_than_training(train, monkeypatch):
    real, tokens = train_dpo.score, []

    def counting(model, compute, pairs):
        tokens.append(sum(map(token_count, pairs)))
        return real(model, compute, pairs)

    monkeypatch.setattr(train_dpo, "score", counting)
    assert train("optim.microbatch=400", "optim.max_steps=1") == 0
    assert 200 < max(tokens) <= 400


def test_without_a_reference_the_margin_is_the_policys_and_nothing_is_scored(train):
    assert train("run.reference=none", "loss.beta=0.01") == 0
    first = metrics()[0]
    assert first["rewards/chosen"] == pytest.approx(0.01 * first["logps/chosen"], rel=1e-5)
    assert first["rewards/rejected"] == pytest.approx(0.01 * first["logps/rejected"], rel=1e-5)
    assert first["loss"] != pytest.approx(math.log(2), abs=1e-3)
    assert not Path("out/reference_logps").exists()


def test_a_loss_without_a_reference_trains_the_same_with_none(train):
    assert train("loss=simpo") == 0
    assert train("loss=simpo", "run.name=none", "run.reference=none") == 0
    none = weights("none")
    assert all(torch.equal(tensor, none[name]) for name, tensor in weights().items())


def test_nan_stops_before_anything_is_saved_and_names_the_problems(train, monkeypatch, capsys):
    real = train_dpo.completion_logps
    calls = iter(range(100))

    def broken(model, batch):
        logps = real(model, batch)
        return logps * float("nan") if torch.is_grad_enabled() and next(calls) == 2 else logps

    monkeypatch.setattr(train_dpo, "completion_logps", broken)
    assert train("optim.save_every=1", "optim.microbatch=100000") == 1
    error = capsys.readouterr().err
    assert "loss nan" in error
    assert "at step 3" in error
    assert "toy/train/" in error
    assert all(torch.isfinite(tensor).all() for tensor in weights().values())  # step 2's checkpoint
    assert json.loads(Path("out/t/dpo/training/position.json").read_text())["step"] == 2


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("[enforce fail] . unexpected pos 9 vs 8")]
)
def test_a_full_disk_leaves_the_last_checkpoint_whole(train, monkeypatch, capsys, error):
    """The second is what torch.save says when only a part of the file could be written."""
    real, calls = train_dpo.save_checkpoint.__globals__["torch"].save, iter(range(9))

    def full(*arguments):
        if next(calls) == 1:
            raise error
        real(*arguments)

    monkeypatch.setattr(torch, "save", full)
    assert train("optim.save_every=2") == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said or "dpo cannot be saved, probably the disk is full" in said
    assert {path.name for path in Path("out/t").iterdir()} == {"dpo", "dpo.metrics.jsonl"}
    assert json.loads(Path("out/t/dpo/training/position.json").read_text())["step"] == 2
    assert weights()


def test_bf16_trains_through_master_weights(train):
    assert train("model.dtype=bf16", "optim.lr=1e-4") == 0
    assert all(tensor.dtype == torch.bfloat16 for tensor in weights().values())
    assert metrics()[0]["loss"] == pytest.approx(math.log(2), abs=0.05)


def test_best_checkpoint_follows_the_validation_loss(train):
    assert train("optim.validate_every=1") == 0
    assert Path("out/t/dpo-best/model.safetensors").exists()
    assert len([row for row in metrics() if "validation/loss" in row]) == metrics()[-1]["step"]


def test_a_policy_whose_loss_is_not_a_number_is_never_the_best_one(train, monkeypatch):
    losses, best = iter([math.nan, 0.6, math.nan, 0.7, 0.5, 0.5, math.nan, 0.9]), []
    seen = []

    def validate(*arguments):
        seen.append(next(losses))
        return {"validation/loss": seen[-1]}

    monkeypatch.setattr(train_dpo, "validate", validate)
    monkeypatch.setattr(train_dpo, "save_policy", lambda *a, **more: best.append(seen[-1]))
    assert train("optim.validate_every=1") == 0
    assert best == [0.6, 0.5]


@pytest.mark.parametrize(
    "override", ["loss.betta=1", "optim.lr=fast", "optim.learning_rate=1", "run.seed=x", "loss=nothing"]
)
def test_a_misspelt_key_or_wrong_type_stops_composition(override):
    with pytest.raises((ConfigCompositionException, ValueError)):
        loss_function(compose_config("+exp=quickstart", override).loss)


@pytest.mark.parametrize(
    "override", ["loss.beta=-1", "loss.beta=0", "loss.beta=x", "loss.label_smoothing=0.5"]
)
def test_a_loss_turned_around_is_refused(override):
    with pytest.raises(ValueError, match=override.partition("=")[0]):
        loss_function(compose_config("+exp=quickstart", override).loss)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("loss=mpo", "+loss.parts.0.betta=0.3"),
            r"loss\.parts\.0 losses\.dpo\.dpo_loss: .*betta.* it takes beta",
        ),
        (("loss=mpo", "loss.parts.0.beta=-1"), r"loss\.parts\.0\.beta is -1"),
        (("loss=mpo", "loss.weights=[1.0]"), r"loss has 3 parts and 1 weights"),
        (("loss=wpo", "+loss.loss.betta=0.3"), r"loss\.loss losses\.dpo\.dpo_loss: .*betta"),
        (("loss=wpo", "loss.loss.beta=-0.3"), r"loss\.loss\.beta is -0.3"),
    ],
)
def test_a_mistake_in_a_loss_inside_another_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        loss_function(compose_config(*overrides).loss)


def test_every_experiment_and_loss_composes():
    conf = Path(train_dpo.__file__).parent / "conf"
    for path in sorted((conf / "exp").glob("*.yaml")):
        assert compose_config(f"+exp={path.stem}").run.name
    for path in sorted((conf / "loss").glob("*.yaml")):
        assert callable(loss_function(compose_config(f"loss={path.stem}").loss))


TWO_PAIRS = [
    PreferencePair("a", "", "", "", [1, 2], [3, 4], [5]),
    PreferencePair("b", "", "", "", [1], [2], [3, 4]),
]


def test_pair_sums_are_weighted_sums_over_each_completion(tiny_policy):
    batch = collate(TWO_PAIRS, [0, 1])
    sums = train_dpo.pair_sums(torch.arange(1.0, 7.0) * batch.weights, batch)
    assert isinstance(sums, PairLogps)
    assert sums.chosen.tolist() == [3, 4]
    assert sums.rejected.tolist() == [3, 11]
    assert sums.chosen_length.tolist() == [2, 1]


def test_the_noted_probability_of_the_end_is_that_of_chosen_completions(monkeypatch):
    probabilities = torch.tensor([0.9, 0.1, 0.8, 0.3, 0.9, 0.7])  # chosen, rejected; chosen, rejected
    monkeypatch.setattr(train_dpo, "completion_logps", lambda *_: probabilities.log())
    reference = [
        tuple(np.zeros(len(ids), np.float32) for ids in (p.chosen_ids, p.rejected_ids)) for p in TWO_PAIRS
    ]
    batch, metrics = collate(TWO_PAIRS, [0, 1], reference=reference), Metrics()
    loss_fn = loss_function(compose_config("loss=dpo").loss)
    train_dpo.pair_losses(None, batch, loss_fn, Compute.choose("cpu", "fp32"), metrics)
    assert metrics.means()["end_probability/chosen"] == pytest.approx((0.1 + 0.3) / 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.path=nowhere",), "nowhere"),
        (("data.pairs=nowhere.jsonl",), "nowhere.jsonl does not exist"),
        (("data.max_prompt=1",), "holds no pair to train on .* prompt longer than data.max_prompt=1"),
        (("model.dtype=int8",), "model.dtype is 'int8', expected one of"),
        (("run.init=missing",), "no checkpoint 'missing'"),
        (("run.reference=no.safetensors",), "no.safetensors does not exist; a program in variants/"),
        (("model.path=org/model",), "there is no folder org/model"),
        (("model.path=???",), r"model\.path is not set; give it as model\.path="),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(train, capsys, overrides, message):
    assert train(*overrides) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert "Traceback" not in error
    assert not Path("out/t/dpo").exists()


def test_adapters_train_alone_and_the_reference_is_the_base(train, tiny_policy, monkeypatch):
    lora = ("model.lora.rank=4", "run.name=lora")
    with monkeypatch.context() as patch:
        patch.setattr(train_dpo, "Interrupt", interrupt_after(2))
        assert train(*lora) == 128 + 15
    assert train(*lora) == 0
    rows = [row for row in metrics("lora") if "loss" in row]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["rewards/margins"] > rows[0]["rewards/margins"]
    base, trained = load_file(tiny_policy / "model.safetensors"), weights("lora")
    changed = {name for name in base if not torch.equal(base[name], trained[name])}
    assert changed
    assert all("_proj" in name for name in changed)
    assert Path("out/lora/dpo/adapter/adapter_config.json").exists()


def test_a_loss_that_couples_pairs_needs_the_whole_batch_and_says_how_much_before_it_starts(train, capsys):
    assert train("loss=aot", "optim.microbatch=1") == 1
    error = capsys.readouterr().err
    needed = int(re.search(r"has (\d+) tokens: raise optim.microbatch \(1\)", error)[1])
    assert not Path("out/reference_logps").exists()
    assert train("loss=aot", f"optim.microbatch={needed - 1}") == 1
    assert train("loss=aot", f"optim.microbatch={needed}") == 0


def test_the_guard_stays_for_who_calls_the_step_alone():
    with pytest.raises(ValueError, match="couples the pairs of a step"):
        train_dpo.train_step(None, None, [None, None], aot_loss, None, 1.0, None)


def test_validation_of_a_coupled_loss_is_that_of_whole_steps_and_of_the_runs_memory(train, monkeypatch):
    seen = []

    def noted(policy, reference, *, state=None, **settings):
        seen.append((torch.is_grad_enabled(), len(policy.chosen), state))
        return bco_loss(policy, reference, state=state, **settings)

    monkeypatch.setattr("losses.bco.bco_loss", couples_pairs(noted))
    assert train("loss=bco", "data.validation_share=0.5", "optim.validate_every=1") == 0
    # the first call was the loss on trial
    training, validation = ([row[1:] for row in seen[1:] if row[0] is which] for which in (True, False))
    held_out = sum(size for size, _ in validation) // len(training)
    per_step = [4] * (held_out // 4) + [held_out % 4] * (held_out % 4 > 0)
    assert [size for size, _ in validation] == per_step * len(training)
    assert held_out > 4
    for step, (_, state) in enumerate(training):
        for _, given in validation[step * len(per_step) : (step + 1) * len(per_step)]:
            assert given is state or torch.equal(given, state)


def test_validation_changes_nothing_in_the_training_of_a_loss_that_draws(train):
    for name, every in (("often", 1), ("never", 0)):
        assert train("loss=beta_dpo", f"run.name={name}", f"optim.validate_every={every}") == 0
    never = weights("never")
    assert all(torch.equal(tensor, never[name]) for name, tensor in weights("often").items())


def test_a_run_goes_on_with_another_microbatch_and_further_than_first_meant(train, capsys):
    assert train("optim.max_steps=3") == 0
    assert train("optim.max_steps=5", "optim.microbatch=100") == 0
    assert "going on from step 3" in capsys.readouterr().out
    assert train() == 0
    assert train("run.name=straight") == 0
    straight = weights("straight")
    for name, tensor in weights().items():
        torch.testing.assert_close(tensor, straight[name], atol=2e-5, rtol=1e-3)
    assert [row["step"] for row in metrics() if "loss" in row] == [
        row["step"] for row in metrics("straight") if "loss" in row
    ]


@pytest.mark.parametrize("option", ["run.reference", "data.weights"])
def test_a_model_given_as_columns_is_not_to_be_deleted(train, tiny_policy, capsys, option):
    assert train(f"{option}={tiny_policy}/model.safetensors") == 1
    error = capsys.readouterr().err
    assert "model.safetensors is damaged or no columns" in error
    assert "delete" not in error


def test_a_shorter_run_is_another_one(train, monkeypatch, capsys):
    assert train("optim.max_steps=5") == 0
    assert train("optim.max_steps=3") == 0
    assert "a finished run with other last_step" in capsys.readouterr().out
    assert json.loads(Path("out/t/dpo/training/position.json").read_text())["step"] == 3
    assert metrics()[-1]["step"] == 3
    with monkeypatch.context() as patch:
        patch.setattr(train_dpo, "Interrupt", interrupt_after(3))
        assert train("run.name=stopped") == 128 + 15
    assert train("run.name=stopped", "optim.max_steps=2") == 1
    assert "other settings: {'last_step': 8}, now {'last_step': 2}" in capsys.readouterr().err


def test_a_run_cannot_start_from_where_it_would_be_saved(train, capsys):
    assert train() == 0
    before = weights()
    assert train("run.init=dpo", "loss.beta=0.5") == 1
    assert "out/t/dpo is where this run begins and where it would be saved" in capsys.readouterr().err
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights().items())


def test_a_line_of_the_log_that_was_cut_off_does_not_stop_a_resumed_run(train, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(train_dpo, "Interrupt", interrupt_after(3))
        assert train() == 128 + 15
    logged = metrics()
    with Path("out/t/dpo.metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert train() == 0
    assert metrics()[: len(logged)] == logged
    assert metrics()[-1]["step"] > 3


def test_weights_that_are_not_finite_are_refused_when_asked(train, tiny_policy, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_policy, damaged)
    stored = load_file(damaged / "model.safetensors")
    stored["model.norm.weight"][3] = math.nan
    save_file(stored, damaged / "model.safetensors", metadata={"format": "pt"})
    assert train(f"model.path={damaged}", "model.check_weights=true") == 1
    assert "model.norm.weight holds values that are not finite" in capsys.readouterr().err
    assert not Path("out/t/dpo").exists()


def test_a_pair_that_is_longer_than_learned_positions_is_refused(
    train, tiny_policy, tiny_pairs, tmp_path, capsys
):
    tokenizer = load_tokenizer(tiny_policy)
    pairs, _ = read_pairs(tiny_pairs, tokenizer, max_prompt=512, max_completion=512)
    longest = max(len(p.prompt_ids) + max(len(p.chosen_ids), len(p.rejected_ids)) - 1 for p in pairs)
    shape = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": tokenizer.size}
    for positions in (longest - 1, longest):
        model = Transformer(parse_config(shape | {"n_positions": positions}))
        save_model(model, tmp_path / str(positions), tokenizer_from=tiny_policy)
    assert train(f"model.path={tmp_path}/{longest - 1}") == 1
    said = rf"toy/train/\d+ has {longest} tokens in a row, the model positions for {longest - 1}: lower data"
    assert re.search(said, capsys.readouterr().err)
    assert not Path("out/reference_logps").exists()
    assert train(f"model.path={tmp_path}/{longest}", "optim.max_steps=1") == 0
