"""The likelihood program: builds a tokenizer and a model, learns, resumes, fine-tunes."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_sft
from data.jsonl import write_jsonl
from data.pairs import collate, split_by_problem
from data.tokenizer import load_tokenizer
from data.types import PreferencePair
from model.checkpoint import load_model
from model.training import Compute, Metrics
from tests.conftest import compose_config
from tests.test_train_dpo import interrupt_after
from train_dpo import completion_logps

SMALL = (
    "device=cpu",
    "run.name=t",
    "optim=sft",
    "optim.batch=8",
    "optim.epochs=1",
    "optim.log_every=1",
    "data.validation_share=0.1",
    "data.demonstrations.count=100",
    "data.demonstrations.vocabulary=400",
    "model.architecture.hidden_size=32",
    "model.architecture.intermediate_size=64",
    "model.architecture.num_hidden_layers=2",
    "model.architecture.num_attention_heads=4",
)


def metrics() -> list[dict]:
    return [json.loads(row) for row in Path("out/t/sft.metrics.jsonl").read_text().splitlines()]


def test_a_new_model_and_tokenizer_learn(run_program):
    assert run_program(train_sft.main, *SMALL) == 0
    rows = [row for row in metrics() if "loss" in row]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.1
    assert any("validation/loss" in row for row in metrics())
    assert load_model("out/t/sft").config.vocab_size == load_tokenizer("out/t/sft").size == 400


@pytest.fixture
def resumed(run_program, monkeypatch):
    """resumed(*overrides) -> the weights of an interrupted run, which are those of a straight one."""

    def run(*overrides: str) -> dict[str, torch.Tensor]:
        assert run_program(train_sft.main, *SMALL, "run.name=straight", *overrides) == 0
        with monkeypatch.context() as patch:
            patch.setattr(train_sft, "Interrupt", interrupt_after(3))
            assert run_program(train_sft.main, *SMALL, *overrides) == 128 + 15
        assert run_program(train_sft.main, *SMALL, *overrides) == 0
        straight = load_file("out/straight/sft/model.safetensors")
        weights = load_file("out/t/sft/model.safetensors")
        assert all(torch.equal(tensor, straight[name]) for name, tensor in weights.items())
        return weights

    return run


def test_a_resumed_run_from_nothing_is_bit_identical(resumed):
    assert resumed("model.architecture.tie_word_embeddings=true")


def test_a_step_follows_the_mean_over_all_tokens_of_its_batches(tiny_policy):
    sizes = [(3, 9), (5, 2), (2, 4)]  # of prompt and completion
    examples = [PreferencePair("", "", "", "", [*range(p)], [*range(c)], []) for p, c in sizes]
    batches = [collate(examples, index) for index in ([0, 1], [2])]
    model, metrics = load_model(tiny_policy), Metrics()
    loss = -torch.cat([completion_logps(model, batch) for batch in batches]).mean()
    gradients = torch.autograd.grad(loss, [*model.parameters()])
    settings = Compute.choose("cpu", "fp32"), math.inf, metrics
    train_sft.train_step(model, torch.optim.SGD(model.parameters()), batches, *settings)
    noted = metrics.means()
    assert noted["loss"] == pytest.approx(loss.item())
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    assert noted["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_rows_of_one_task_stay_on_one_side_of_the_split(tiny_policy, tmp_path):
    rows = [
        {"task_id": f"t{i}", "prompt": f"def f{i}():\n", "completion": f"    return {side}\n"}
        for side in (0, 1)
        for i in range(10)
    ]
    write_jsonl(tmp_path / "passing.jsonl", rows)
    cfg = compose_config(f"data.demonstrations.path={tmp_path / 'passing.jsonl'}")
    examples, _ = train_sft.tokenise(train_sft.read_demonstrations(cfg), load_tokenizer(tiny_policy), cfg)
    train, held_out = ({examples[i].prompt for i in side} for side in split_by_problem(examples, 0.5, seed=1))
    assert train
    assert held_out
    assert not train & held_out


def test_adapters_need_a_checkpoint(run_program, capsys):
    assert run_program(train_sft.main, *SMALL, "model.lora.rank=2") == 1
    assert "there is no checkpoint to adapt" in capsys.readouterr().err


def test_another_vocabulary_is_another_tokenizer_and_another_run(run_program, capsys, monkeypatch):
    assert run_program(train_sft.main, *SMALL) == 0
    made = []
    monkeypatch.setattr(
        train_sft,
        "train_tokenizer",
        lambda *given, real=train_sft.train_tokenizer: made.append(1) or real(*given),
    )
    assert run_program(train_sft.main, *SMALL) == 0
    assert not made
    assert run_program(train_sft.main, *SMALL, "data.demonstrations.vocabulary=390") == 0
    assert "moved      out/t/sft to out/t/sft.1" in capsys.readouterr().out
    assert load_tokenizer("out/t/tokenizer").size == load_tokenizer("out/t/sft").size == 390
    assert load_tokenizer("out/t/sft.1").size == 400

    Path("out/t/tokenizer.meta.json").unlink()  # somebody's own: taken as it is
    assert run_program(train_sft.main, *SMALL, "data.demonstrations.vocabulary=395") == 0
    assert made == [1]


@pytest.mark.parametrize("lora", [(), ("model.lora.rank=2",)])
def test_a_resumed_run_is_bit_identical(resumed, tiny_policy, lora):
    weights = resumed(f"model.path={tiny_policy}", *lora)
    base = load_file(tiny_policy / "model.safetensors")
    changed = [name for name in base if not torch.equal(base[name], weights[name])]
    assert changed
    assert not lora or all("_proj" in name for name in changed)
    assert Path("out/t/sft/adapter/adapter_model.safetensors").exists() == bool(lora)


def test_fine_tuning_starts_from_a_checkpoint_and_a_file(run_program, tiny_policy, tmp_path):
    rows = [{"prompt": f"def f{i}():\n", "completion": "    return 1\n"} for i in range(40)]
    write_jsonl(tmp_path / "passing.jsonl", rows)
    overrides = (f"model.path={tiny_policy}", f"data.demonstrations.path={tmp_path / 'passing.jsonl'}")
    assert run_program(train_sft.main, *SMALL, *overrides) == 0
    losses = [row["loss"] for row in metrics() if "loss" in row]
    assert losses[-1] < losses[0]


def test_bad_demonstrations_are_named_with_their_line(run_program, tiny_policy, tmp_path, capsys):
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "a"}])
    overrides = (f"model.path={tiny_policy}", f"data.demonstrations.path={tmp_path / 'bad.jsonl'}")
    assert run_program(train_sft.main, *SMALL, *overrides) == 1
    assert "bad.jsonl, line 2: prompt and completion must be text" in capsys.readouterr().err
