"""Statistics and divergences of whole distributions against their definitions."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from losses import distribution
from losses.distribution import token_kl, token_statistics
from losses.wpo import log_weights

N, D, V = 7, 4, 11


def example(seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, D, generator=generator, dtype=torch.float64) * scale
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), weight.requires_grad_(), torch.arange(N) % V


@pytest.mark.parametrize("tile", [(1, 1), (3, 4), (64, 64)])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_statistics_are_their_definitions(tile, softcap, scale):
    hidden, weight, target = example(scale=scale)
    logits = hidden.detach() @ weight.detach().T
    log_p = (softcap * (logits / softcap).tanh() if softcap else logits).log_softmax(-1)
    got = token_statistics(hidden, weight, target, softcap=softcap, tile=tile)
    torch.testing.assert_close(got.logps, log_p.gather(1, target[:, None]).squeeze(1))
    torch.testing.assert_close(got.log_collision, (2 * log_p).logsumexp(-1))
    torch.testing.assert_close(got.entropy, -(log_p.exp() * log_p).sum(-1))
    assert not got.logps.requires_grad


def test_statistics_of_no_tokens():
    hidden, weight, target = example()
    assert all(field.shape == (0,) for field in token_statistics(hidden[:0], weight, target[:0]))


def test_aligned_weight_is_one_for_a_uniform_distribution():
    """pi(y) / sum pi^2 = (1/V) / (V / V^2) = 1."""
    _, weight, target = example()
    got = token_statistics(torch.zeros(N, D).double(), weight, target)
    row, lengths = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([3.0, 4.0]).double()
    torch.testing.assert_close(
        log_weights(got.logps, got.log_collision, row, lengths), torch.zeros(1).double()
    )


def test_aligned_weight_is_one_for_a_certain_distribution_and_can_exceed_it_between():
    logits = torch.tensor([[800.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).double()  # certain; likelier than 1/3
    got = token_statistics(torch.eye(2).double(), logits.T.contiguous(), torch.tensor([0, 0]))
    aligned = got.logps - got.log_collision
    assert aligned[0].item() == pytest.approx(0, abs=1e-12)
    p = torch.softmax(logits[1], 0)
    assert aligned[1].exp().item() == pytest.approx((p[0] / p.square().sum()).item())
    assert aligned[1] > 0


def test_aligned_weights_are_means_over_each_completion():
    """Two tokens of -0.5 and -1.5, three of -2, -3 and -4: means -1 and -3."""
    logps, collision = torch.tensor([-1.0, -2, -3, -4, -5]), torch.tensor([-0.5, -0.5, -1, -1, -1])
    got = log_weights(logps, collision, torch.tensor([0, 0, 1, 1, 1]), torch.tensor([2.0, 3.0]))
    assert got.tolist() == [-1.0 - 3.0]


@pytest.mark.parametrize("policy_first", [True, False])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
@pytest.mark.parametrize("rows", [1, 3, 64, None])
def test_divergence_and_gradients_are_the_definition(policy_first, softcap, rows):
    hidden, weight, _ = example()
    other, other_weight, _ = example(seed=1)

    def log_p(hidden, weight):
        logits = hidden @ weight.T
        return (softcap * (logits / softcap).tanh() if softcap else logits).log_softmax(-1)

    policy, reference = log_p(hidden, weight), log_p(other, other_weight).detach()
    first, second = (policy, reference) if policy_first else (reference, policy)
    expected = (first.exp() * (first - second)).sum(-1)
    got = token_kl(hidden, other, weight, other_weight, policy_first=policy_first, softcap=softcap, rows=rows)
    torch.testing.assert_close(got, expected)
    grad = torch.linspace(-1, 1, N).double()
    for mine, want in zip(
        torch.autograd.grad(got, (hidden, weight), grad),
        torch.autograd.grad(expected, (hidden, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(mine, want)


def test_divergence_of_a_policy_from_itself_is_zero_and_never_reaches_the_reference():
    hidden, weight, _ = example()
    other, other_weight, _ = example()
    kl = token_kl(hidden, other, weight, other_weight, policy_first=False)
    torch.testing.assert_close(kl, torch.zeros(N).double(), atol=1e-14, rtol=0)
    kl.sum().backward()
    assert other.grad is None
    assert other_weight.grad is None


def test_different_vocabularies_are_named():
    hidden, weight, _ = example()
    with pytest.raises(ValueError, match="11 and 10"):
        token_kl(hidden, hidden, weight, weight[:10], policy_first=True)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_logits_exist_for_a_few_rows_at_a_time_forward_and_backward(monkeypatch):
    """200 positions, 5 at a time: nothing is larger than 5 rows of logits or than the head itself."""
    hidden, weight = torch.randn(200, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    with LargestTensor() as largest:
        kl = token_kl(hidden, torch.randn(200, 4), weight, torch.randn(50, 4), policy_first=True, rows=5)
        kl.sum().backward()
        assert 5 * 50 <= largest.elements <= 200 * 4  # hidden is 800 elements, all logits would be 10,000
    monkeypatch.setattr(distribution, "LOGITS", 5 * 50)  # the default for a vocabulary of 50
    with LargestTensor() as largest:
        token_kl(hidden, torch.randn(200, 4), weight, torch.randn(50, 4), policy_first=True).sum().backward()
    assert largest.elements <= 200 * 4
    with LargestTensor() as largest:
        token_statistics(hidden, weight, torch.zeros(200, dtype=torch.int64), tile=(5, 50))
    assert largest.elements <= 200 * 4
