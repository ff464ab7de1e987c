"""model/half_products.py: what bfloat16 instructions compute, on CPUs with and without them."""

import pytest
import torch
import torch.nn.functional as F

from losses import logprobs
from losses.logprobs import token_logps
from model import half_products
from model.half_products import linear, widened

HALF = frozenset({torch.bfloat16, torch.float16})


@pytest.fixture(params=[True, False], ids=["with instructions", "without"])
def instructions(request, monkeypatch):
    monkeypatch.setattr(half_products, "SLOW", frozenset() if request.param else HALF)
    monkeypatch.setattr(logprobs, "SLOW_BFLOAT16", not request.param)
    return request.param


def operands(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 20, 48), (40, 48), (40,))
    return [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]


def with_gradients(layer, tensors, autocast):
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = layer(*tensors)
    pushed = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y.dtype)
    return [y, *torch.autograd.grad(y, tensors, pushed)]


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False), (torch.float16, False)],
)
def test_a_linear_layer_and_its_gradients_are_those_of_rounded_operands(instructions, dtype, autocast):
    tensors = operands(dtype)
    product = torch.bfloat16 if autocast else dtype
    exact = with_gradients(F.linear, [t.to(product).double() for t in tensors], False)
    found = with_gradients(linear, tensors, autocast)
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.2e-2}[product]
    assert found[0].dtype == product
    for got, want, given in zip(found[1:], exact[1:], tensors, strict=True):
        assert got.dtype == given.dtype
        assert (got.double() - want).abs().max() <= tolerance * want.abs().max()
    assert (found[0].double() - exact[0]).abs().max() <= tolerance * exact[0].abs().max()


@pytest.mark.parametrize("instructions", [False], indirect=True)
def test_a_result_is_rounded_once(instructions):
    x, weight, bias = operands(torch.bfloat16)
    exact = F.linear(x.float(), weight.float(), bias.float()).bfloat16()
    assert torch.equal(linear(x, weight, bias), exact)


def test_only_what_a_cpu_cannot_multiply_is_widened(instructions):
    x = torch.tensor([1.001])
    half = widened(x, torch.bfloat16)
    assert half.dtype == (torch.bfloat16 if instructions else torch.float32)
    assert half.item() == x.bfloat16().item() != x.item()
    assert widened(x, torch.float32) is x


def test_log_probs_are_those_of_rounded_operands(instructions):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(30, 16, generator=generator)
    weight = torch.randn(70, 16, generator=generator)
    target = torch.randint(0, 70, (30,), generator=generator)

    def run(dtype, tensors):
        a, b = (t.to(dtype).requires_grad_() for t in tensors)
        logps = token_logps(a, b, target, tile=(8, 32))
        return [logps, *torch.autograd.grad(logps.sum(), (a, b))]

    found = run(torch.bfloat16, (hidden, weight))
    exact = run(torch.float64, (hidden.bfloat16(), weight.bfloat16()))
    for got, want in zip(found, exact, strict=True):
        assert (got.double() - want).abs().max() <= 2e-2 * want.abs().max()
