"""row_logps, the GPU's way to token_logps, against the definition, on the CPU and on CUDA."""

from functools import partial

import pytest
import torch

from losses.logprobs import token_logps
from losses.row_logps import SOME, SURE, _normalisers, row_logps
from tests.losses.test_logprobs import example, gradients, oracle

KEPT, RECOMPUTED = 2**30, 0
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def both(dtype=torch.float64, budget=KEPT, rows=3, columns=5, softcap=0.0):
    return partial(row_logps, dtype=dtype, budget_bytes=budget, rows=rows, columns=columns, softcap=softcap)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("budget", [RECOMPUTED, KEPT], ids=["recomputed", "kept"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (64, 1024)])
def test_values_and_gradients_equal_the_definition(rows, columns, budget, softcap, device):
    hidden, weight, target, grad = (t.to(device) for t in example())
    logps = both(budget=budget, rows=rows, columns=columns, softcap=softcap)(hidden, weight, target)
    expected = oracle(hidden, weight, target, softcap)
    torch.testing.assert_close(logps, expected, rtol=1e-10, atol=1e-10)
    for got, want in zip(
        gradients(logps, grad, hidden, weight), gradients(expected, grad, hidden, weight), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("softcap", [0.0, 2.0])
@pytest.mark.parametrize("budget", [RECOMPUTED, KEPT], ids=["recomputed", "kept"])
def test_gradcheck(budget, softcap):
    hidden, weight, target, _ = example()
    logps = both(budget=budget, softcap=softcap)
    assert torch.autograd.gradcheck(lambda h, w: logps(h, w, target), (hidden, weight))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("budget", [RECOMPUTED, KEPT], ids=["recomputed", "kept"])
def test_bfloat16_errs_by_the_rounding_of_its_logits(budget, device):
    """The bounds of the same test of token_logps: 2^-4 nats, gradients 2 % of the largest entry."""
    hidden, weight, target, grad = (
        t.detach().to(device) for t in example(n=70, d=64, v=500, dtype=torch.bfloat16, scale=0.25)
    )
    hidden.requires_grad_()
    weight.requires_grad_()
    logps = both(torch.bfloat16, budget, rows=32, columns=128)(hidden, weight, target)
    expected = oracle(hidden, weight, target)
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps.double(), expected, rtol=0, atol=2**-4)
    for got, want in zip(
        gradients(logps, grad, hidden, weight), gradients(expected, grad, hidden, weight), strict=True
    ):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), want.double(), rtol=0, atol=0.02 * want.abs().max().item())


def test_the_recomputed_head_gradient_makes_up_for_its_rounded_normalisers():
    """Without the factor that the rounding leaves out, tokens that are no target err by 2 %."""
    hidden, weight, target, grad = example(n=64, d=64, v=3000, dtype=torch.bfloat16, scale=0.25)
    logps = both(torch.bfloat16, RECOMPUTED, rows=32, columns=1024)(hidden, weight, target)
    (got,), (want,) = (gradients(x, grad, weight) for x in (logps, oracle(hidden, weight, target)))
    others = torch.ones(3000, dtype=torch.bool).index_fill(0, target, False)
    error = (got.double() - want.double())[others].norm() / want.double()[others].norm()
    assert error < 0.013


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("lift", [0.0, 40.0, 300.0], ids=["among others", "above others", "alone"])
def test_a_normaliser_is_read_from_the_softmax_to_a_hundredth_of_its_rounding(lift, dtype):
    torch.manual_seed(0)
    logits = (3 * torch.randn(50, SOME + 200)).to(dtype)
    logits[:, SOME + 100] += lift  # behind the columns that are looked at first
    error = _normalisers(logits, torch.softmax(logits, -1)) - logits.double().logsumexp(1, keepdim=True)
    # float32 adds what its logarithms and differences of numbers up to 300 lose
    bound = {torch.bfloat16: 2**-8 / 10, torch.float32: 1e-4, torch.float64: 1e-12}[dtype]
    assert error.abs().max() < bound


def test_what_is_left_of_a_sure_token_keeps_its_digits_in_bfloat16():
    """1 - p from 0.1 to 0.001, most of it one other token's: on both sides of SURE."""
    torch.manual_seed(0)
    margins = torch.linspace(2.3, 7.0, 60)
    hidden = torch.stack([margins, torch.ones_like(margins)], 1).bfloat16().requires_grad_()
    weight = torch.stack([torch.zeros(5000), -14 - 6 * torch.rand(5000)], 1)
    weight[0], weight[1] = torch.eye(2)[0], 0.0
    weight = weight.bfloat16()
    target = torch.zeros(60, dtype=torch.int64)
    logps = row_logps(hidden, weight, target, torch.bfloat16)
    expected = oracle(hidden, weight, target)
    assert (expected > -SURE).any()
    assert (expected < -SURE).any()
    torch.testing.assert_close(logps.double(), expected, rtol=2**-7, atol=0)
    (got,), (want,) = (torch.autograd.grad(x.sum(), hidden, retain_graph=True) for x in (logps, expected))
    torch.testing.assert_close(got, want, rtol=2**-6, atol=1e-5)


@pytest.mark.parametrize("budget", [RECOMPUTED, KEPT], ids=["recomputed", "kept"])
def test_backward_twice_gives_the_same_gradient(budget):
    hidden, weight, target, grad = example()
    logps = both(budget=budget)(hidden, weight, target)
    first = torch.autograd.grad(logps, (hidden, weight), grad, retain_graph=True)
    assert all(map(torch.equal, first, gradients(logps, grad, hidden, weight)))


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_a_frozen_side_gets_no_gradient_and_does_not_change_the_other(frozen):
    hidden, weight, target, grad = example()
    logps = both()
    want_hidden, want_weight = gradients(logps(hidden, weight, target), grad, hidden, weight)
    if frozen == "weight":
        (got,) = gradients(logps(hidden, weight.detach(), target), grad, hidden)
        assert torch.equal(got, want_hidden)
    else:
        (got,) = gradients(logps(hidden.detach(), weight, target), grad, weight)
        assert torch.equal(got, want_weight)


@pytest.mark.parametrize("budget", [RECOMPUTED, KEPT], ids=["recomputed", "kept"])
def test_weights_of_another_dtype_are_multiplied_in_the_stated_one(budget):
    """Autocast: float32 weights, bfloat16 products, float32 gradients."""
    hidden, weight, target, grad = example(n=70, d=64, v=500, dtype=torch.float32, scale=0.25)
    logps = both(torch.bfloat16, budget, rows=32, columns=128)(hidden, weight, target)
    torch.testing.assert_close(logps.double(), oracle(hidden, weight, target), rtol=0, atol=0.1)
    assert [t.dtype for t in gradients(logps, grad, hidden, weight)] == [torch.float32] * 2


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_token_logps_on_cuda_is_as_near_to_the_definition_as_on_the_cpu(dtype):
    inputs = example(n=70, d=64, v=500, dtype=dtype, scale=0.25)
    expected = oracle(*inputs[:3])
    errors = [
        (token_logps(*(t.to(device) for t in inputs[:3])).double().cpu() - expected).abs().max()
        for device in ("cpu", "cuda")
    ]
    assert errors[1] <= 2 * errors[0] + 1e-6
