"""Packed linear layers compute what the layers compute, and leave the model as it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import packed_linear
from model.packed_linear import PackedLinears
from model.transformer import ModelConfig, Transformer


def two_layers(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 80), nn.Linear(80, 33, bias=False)).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_packed_layers_compute_the_same_products(dtype, tolerance):
    """bfloat16 keeps 8 bits: 2e-2 is a few roundings of values around 1."""
    layers = two_layers(dtype)
    packed, x = PackedLinears(layers), torch.randn(19, 48, dtype=dtype)
    with torch.inference_mode():
        plain = layers(x)
        with packed.in_use():
            torch.testing.assert_close(layers(x), plain, atol=tolerance, rtol=tolerance)


def test_bfloat16_is_left_alone_where_the_processor_has_no_instructions_for_it(monkeypatch):
    monkeypatch.setattr(packed_linear, "SLOW", frozenset({torch.bfloat16}))
    assert not PackedLinears(two_layers(torch.bfloat16)).forwards


def test_a_row_has_the_same_bits_among_any_number_of_rows():
    layers, x = two_layers(), torch.randn(300, 48)
    packed = PackedLinears(layers)
    if not packed.forwards:
        pytest.skip("no packed kernels on this machine")
    with torch.inference_mode(), packed.in_use():
        whole = layers(x)
        for rows in (1, 2, 3, 5, 8, 17, 64, 255):
            assert torch.equal(layers(x[:rows]), whole[:rows])


def test_outside_the_model_is_as_it_was():
    layers, x = two_layers(), torch.randn(5, 48)
    packed = PackedLinears(layers)

    def fail() -> None:
        with packed.in_use():
            assert not packed.forwards or "forward" in vars(layers[0])
            layers(x[:, :7])

    with pytest.raises(RuntimeError):  # the width is wrong
        fail()
    assert "forward" not in vars(layers[0])
    with torch.no_grad():
        layers[0].weight.zero_()
    torch.testing.assert_close(layers[0](x), layers[0].bias.expand(5, -1))
    layers(x).sum().backward()
    assert layers[0].bias.grad is not None


def test_every_product_of_a_transformer_is_packed():
    config = ModelConfig(50, 16, layers=2, heads=2, kv_heads=1, head_width=8, mlp_width=24, context=32)
    packed = PackedLinears(Transformer(config))
    if packed.forwards:
        assert len(packed.forwards) == 2 * 4 + 1  # qkv, out, gate and up, down; the head


def test_a_layer_that_computes_something_else_stays():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    assert not PackedLinears(nn.Sequential(Doubled(4, 4))).forwards


def test_what_cannot_be_packed_stays(monkeypatch):
    layers, x = two_layers(torch.float64), torch.randn(5, 48, dtype=torch.float64)
    assert not PackedLinears(layers).forwards
    monkeypatch.setattr("model.packed_linear.LIMIT_BYTES", 100)
    small = two_layers()
    packed = PackedLinears(small)
    assert not packed.forwards
    with packed.in_use():
        torch.testing.assert_close(layers[0](x), F.linear(x, layers[0].weight, layers[0].bias))
