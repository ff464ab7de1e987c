"""token_logps against log_softmax + gather in float64: values, gradients, memory."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from losses.logprobs import token_logps

N, D, V = 7, 5, 23
TILES = [(1, 1), (3, 5), (2, 23), (64, 1024)]


def example(n=N, d=D, v=V, dtype=torch.float64, scale=1.0, seed=0):
    """hidden [n, d], weight [v, d] (leaves), target [n] that visits the first and last id, grad [n]."""
    generator = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(n, d, generator=generator, dtype=torch.float64) * scale).to(dtype).requires_grad_()
    weight = torch.randn(v, d, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    target = torch.randint(v, (n,), generator=generator)
    target[:2] = torch.tensor([0, v - 1])[:n]
    return hidden, weight, target, torch.randn(n, generator=generator, dtype=torch.float64)


def oracle(hidden, weight, target, softcap=0.0):
    """The definition, in float64."""
    logits = hidden.double() @ weight.double().T
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    return logits.log_softmax(-1).gather(1, target[:, None]).squeeze(1)


def gradients(logps, grad, *inputs):
    return torch.autograd.grad(logps, inputs, grad.to(logps.dtype))


@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("budget", [0, 2**30], ids=["recomputed", "kept"])
@pytest.mark.parametrize("tile", TILES)
def test_values_and_gradients_equal_the_definition(tile, budget, softcap):
    hidden, weight, target, grad = example()
    logps = token_logps(hidden, weight, target, softcap=softcap, budget_bytes=budget, tile=tile)
    expected = oracle(hidden, weight, target, softcap)
    torch.testing.assert_close(logps, expected, rtol=1e-10, atol=1e-10)
    for got, want in zip(
        gradients(logps, grad, hidden, weight), gradients(expected, grad, hidden, weight), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("budget", [0, 2**30], ids=["recomputed", "kept"])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_gradcheck(budget, softcap):
    hidden, weight, target, _ = example()

    def logps(hidden, weight):
        return token_logps(hidden, weight, target, softcap=softcap, budget_bytes=budget, tile=(3, 4))

    assert torch.autograd.gradcheck(logps, (hidden, weight))
