"""Recorded decode steps compute what the model computes, for any family, and hold on to no weights."""

import gc
import weakref

import pytest
import torch
from torch import nn

from model import traced_step
from model.generate import Request, generate
from model.lora import add_adapters
from model.packed_linear import PackedLinears
from model.rotary import Rope
from model.traced_step import TracedSteps
from tests.model.test_generate import by_sample, ragged_requests, small_transformer

FAMILIES = {
    "llama": {},
    "one head each": {"kv_heads": 6},
    "windows": {"windows": (0, 7), "local_rope": Rope(base=100.0, width=4)},
    "softcap": {"attention_softcap": 2.0, "logit_softcap": 3.0, "embedding_scale": 1.5, "logit_scale": 0.5},
    "learned positions": {"learned_positions": True, "rope": None},
    "layers without rope": {"layers_without_rope": (1,), "residual_scale": 0.7},
    "norms": {"qk_norm": "head", "norm_plus_one": True, "norm_outputs": True},
    "parallel": {"parallel": True, "norm": "layer", "norm_bias": True, "gated": False, "activation": "gelu"},
    "biases": {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "qkv_clip": 1.0, "qk_norm": "full"},
    "partial": {"rope": Rope(base=10000.0, width=4), "attention_scale_by_depth": True, "tied": True},
    "long rope": {"rope": Rope(width=8, kind="dynamic", factor=4.0, context=40)},
}


@pytest.fixture
def records(monkeypatch) -> dict:
    """Those of this test."""
    model = small_transformer()
    if not TracedSteps(model, PackedLinears(model)).usable:
        pytest.skip("no packed kernels on this machine, so nothing is recorded")
    monkeypatch.setattr(traced_step, "RECORDS", {})
    return traced_step.RECORDS


def samples(model: nn.Module, requests: list[Request], batch: int = 16) -> dict:
    return by_sample(generate(model, requests, batch_size=batch, stop_ids={0, 1}, logps=True))


def unrecorded(model: nn.Module, requests: list[Request], batch: int = 16) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traced_step, "RECORDS", {})
        patch.setattr(traced_step, "FIRST", 10**9)
        return samples(model, requests, batch)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("changes", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("mkl", [True, False], ids=["mkl", "onednn"])
def test_records_have_the_bits_of_the_model(records, monkeypatch, mkl, changes):
    """Ragged prompts, rows that end at any time and are refilled; then one prompt alone."""
    if not mkl:
        monkeypatch.setattr("model.packed_linear.mkl_keeps_bits", lambda: False)
    model = small_transformer(**changes)
    model.blocks[0].attention.qkv.weight.requires_grad_(False)  # as it may be
    for requests in (ragged_requests(11, samples=4), ragged_requests(1, samples=16)):
        assert samples(model, requests) == unrecorded(model, requests)
    assert records


def test_one_record_serves_all_steps_with_as_many_rows(records):
    model = small_transformer(windows=(0, 7))
    samples(model, ragged_requests(40, samples=3, max_new_tokens=60), batch=24)
    plans = {plan for *_, plan in records}
    assert {plan.rows for plan in plans} <= {8, 16, 24}
    assert len(records) == len(plans) <= 12


def test_records_serve_models_of_the_same_shape_and_later_weights(records):
    requests = ragged_requests(3, samples=8)
    samples(small_transformer(), requests)
    made = dict(records)
    other = small_transformer()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    assert samples(other, requests) == unrecorded(other, requests)
    with torch.no_grad():
        other.blocks[1].mlp.down.weight.zero_()
        other.norm.weight.mul_(2)
    assert samples(other, requests) == unrecorded(other, requests)
    assert all(records[key] is record for key, record in made.items())


def test_a_prompt_of_one_token_needs_no_record_made_before(records):
    model, request = small_transformer(), Request("a", [5], tuple(range(8)), max_new_tokens=20)
    assert samples(model, [request]) == samples(model, [request]) == unrecorded(model, [request])


def test_bfloat16_has_records_of_its_own(records):
    model = small_transformer()
    samples(model, ragged_requests(3))
    half, made = small_transformer().bfloat16(), len(records)
    assert samples(half, ragged_requests(3)) == unrecorded(half, ragged_requests(3))
    if PackedLinears(half).forwards:
        assert len(records) > made


def test_afterwards_the_model_is_as_it_was(records):
    model = small_transformer()
    before = dict(model.named_parameters())
    samples(model, ragged_requests(2, samples=8))
    assert records
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    ids = torch.arange(9)
    model(ids, ids, torch.tensor([[0, 9, 0, 0]], dtype=torch.int32)).sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "lm_head" not in name)


def test_so_it_is_when_recording_fails(records, monkeypatch):
    def fail(function, inputs, **_):
        function(*inputs)
        raise RuntimeError("no")

    model = small_transformer()
    before = dict(model.named_parameters())
    monkeypatch.setattr(torch.jit, "trace", fail)
    with pytest.raises(RuntimeError, match="no"):
        samples(model, ragged_requests(2, samples=8))
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_records_do_not_keep_a_model_alive(records):
    model = small_transformer()
    samples(model, ragged_requests(2, samples=8))
    weights = [weakref.ref(parameter) for parameter in model.parameters()]
    del model
    gc.collect()
    assert records
    assert not any(weight() is not None for weight in weights)


def test_what_may_do_other_operations_at_another_step_is_not_recorded(records):
    """Adapters, a forward of the user's, a hook, another class of layer: all run as they are."""
    adapted, replaced, hooked, prepared, changed = (small_transformer() for _ in range(5))
    add_adapters(adapted, 2, 4.0, ["q_proj"])
    replaced.blocks[1].mlp.forward = lambda x: x if float(x.sum()) > 0 else -x
    hooked.blocks[0].register_forward_hook(lambda *_: None)
    prepared.blocks[1].register_forward_pre_hook(lambda *_: None)
    changed.norm = nn.LayerNorm(48)
    for model in (adapted, replaced, hooked, prepared, changed):
        assert samples(model, ragged_requests(2, samples=8)) == unrecorded(
            model, ragged_requests(2, samples=8)
        )
    assert not records
