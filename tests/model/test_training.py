"""model/training.py: compiled blocks compute what they computed before; metrics reach the disk; what cannot
work is named."""

import json
import sys
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from model.rotary import Rope
from model.training import (
    MetricsLog,
    Plan,
    choose_device,
    compile_blocks,
    load_state,
    progress,
    read_position,
    save_checkpoint,
)
from model.transformer import ModelConfig, Transformer


def tiny() -> Transformer:
    config = ModelConfig(
        vocab_size=31, width=16, layers=2, heads=4, kv_heads=2, head_width=4, mlp_width=24, context=64,
        tied=True, rope=Rope(4),
    )  # fmt: skip
    model = Transformer(config)
    model.initialize(torch.Generator().manual_seed(0))
    return model


def batch(pairs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ids, positions, spans and wanted tokens of so many pairs, of other lengths for every number of them."""
    lengths = [(3 + pairs + b, 2 + pairs, 4 + b) for b in range(pairs)]
    total = sum(map(sum, lengths))
    ids = torch.randint(0, 31, (total,), generator=torch.Generator().manual_seed(pairs))
    wanted = torch.arange(1, total, 2)
    places = [[*range(p + c), *range(p, p + r)] for p, c, r in lengths]
    starts = torch.tensor([0, *(sum(row) for row in lengths)]).cumsum(0)[:-1]
    spans = torch.cat([starts[:, None], torch.tensor(lengths)], dim=1)
    return ids, torch.tensor(sum(places, [])), spans, wanted


def hidden_and_gradients(model: Transformer, pairs: int) -> list[Tensor]:
    model.zero_grad()
    hidden = model(*batch(pairs))
    hidden.square().sum().backward()
    return [hidden.detach(), *(p.grad for p in model.parameters())]


@pytest.mark.slow
def test_compiled_blocks_compute_the_same_and_are_compiled_once_for_all_lengths():
    from torch._dynamo.utils import counters

    plain = tiny().double()  # in float32 small gradients are what large ones leave when they cancel
    compiled = deepcopy(plain)
    compile_blocks(compiled, backend="aot_eager")
    assert [name for name, _ in compiled.named_parameters()] == [name for name, _ in plain.named_parameters()]
    counters.clear()
    graphs = []
    for pairs in (1, 2, 3, 5):
        found, expected = (hidden_and_gradients(model, pairs) for model in (compiled, plain))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert len(set(graphs)) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch": 0}, "optim.batch is 0, expected 1 or more"),
        ({"epochs": 0}, "optim.epochs is 0"),
        ({"max_steps": -1}, "optim.max_steps is -1"),
        ({"schedule": "step"}, "schedule is 'step', expected one of"),
        ({"warmup": 1.5}, "warmup_steps <= total_steps"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_at_once(changed, words):
    settings = {"batch": 4, "epochs": 1, "max_steps": None, "lr": 1.0, "warmup": 0.1, "schedule": "linear"}
    assert Plan.of(SimpleNamespace(**settings), 10).last == 3
    with pytest.raises(ValueError, match=words):
        Plan.of(SimpleNamespace(**settings | changed), 10)


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps", "cuda:0"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device is '{name}'; this machine and this torch have cpu"):
        choose_device(name)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cpu:x", "cpu:1", "cpu:", "cuda:9", "cuda:x", "cuda:-1"])
def test_a_device_of_another_number_is_refused_with_those_there_are(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    there = "cuda, cuda:0, cuda:1" if name.startswith("cuda") else "cpu, cpu:0"
    with pytest.raises(ValueError, match=f"device is '{name}', expected one of {there}$"):
        choose_device(name)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu:0") == torch.device("cpu", 0)


class Writer:
    """As TensorBoard's: scalars wait in a thread that a process which ends at once takes along."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.waiting, self.written = folder, purge_step, [], []
        Writer.latest = self

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.waiting.append((step, name, value))

    def flush(self) -> None:
        self.written += self.waiting
        self.waiting = []


def test_tensorboard_has_every_step_that_metrics_jsonl_has_also_after_resuming(tmp_path, monkeypatch):
    """What TensorBoard hides of an earlier run are the steps from `purge_step` on."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    path = tmp_path / "dpo.metrics.jsonl"
    log, first = MetricsLog(path, 0), Writer.latest
    for step in (1, 2, 3):
        log.write(step, {"loss": 1.0 / step})
        assert (step, "loss", 1.0 / step) in first.written
    assert first.folder == str(tmp_path / "dpo.metrics")

    log, second = MetricsLog(path, 2), Writer.latest
    log.write(3, {"loss": 0.5})
    shown = [row for row in first.written if row[0] < second.purge_step] + second.written
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [step for step, _, _ in shown] == [row["step"] for row in lines] == [1, 2, 3]
    assert lines[-1]["loss"] == shown[-1][2] == 0.5


def test_a_damaged_position_is_named(tmp_path):
    path = tmp_path / "dpo" / "training" / "position.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"step": ')
    with pytest.raises(ValueError, match=r"position.json is damaged \(.*\); delete .*/dpo to train anew"):
        read_position(tmp_path / "dpo")


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PK\3\4half")])
def test_a_damaged_state_is_named(tmp_path, damage):
    path = tmp_path / "dpo" / "training" / "state.pt"
    path.parent.mkdir(parents=True)
    path.touch()
    damage(path)
    with pytest.raises(ValueError, match=r"state.pt cannot be read \(.*\); delete .*/dpo to train anew"):
        load_state(tmp_path / "dpo", None, torch.device("cpu"))


def test_a_damaged_line_of_the_log_does_not_keep_a_run_from_going_on(tmp_path):
    path = tmp_path / "dpo.metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\0\n[]\n{"step": 2}\n{"step": 3}\n')
    MetricsLog(path, 2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1}, {"step": 2}]


def test_what_killed_saves_left_does_not_hinder_the_next(tmp_path):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters())
    for step in (1, 2):
        for left in (".dpo.saving", ".dpo.previous"):
            (tmp_path / left).mkdir()
            (tmp_path / left / "torn.json").write_text("{")
        save_checkpoint(model, tmp_path / "dpo", tokenizer_from=tmp_path, optimizer=optimizer, step=step)
        assert read_position(tmp_path / "dpo") == {"step": step}
        assert [path.name for path in tmp_path.iterdir()] == ["dpo"]
        assert not [*tmp_path.rglob("torn.json")]


def test_where_there_is_nothing_to_do_there_is_no_progress_bar(capsys):
    assert [*progress([], desc="nothing")] == []
    assert [*progress(range(2), desc="something")] == [0, 1]
    assert "nothing" not in (shown := capsys.readouterr().err)
    assert "something" in shown
