"""token_logps against log_softmax + gather in float64: values, gradients, memory."""

import pytest
import torch
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


@pytest.mark.parametrize("budget", [0, 2**30], ids=["recomputed", "kept"])
def test_float32_is_accurate_to_rounding(budget):
    hidden, weight, target, grad = example(n=70, d=64, v=500, dtype=torch.float32)
    logps = token_logps(hidden, weight, target, budget_bytes=budget, tile=(32, 128))
    expected = oracle(hidden, weight, target)
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps.double(), expected, rtol=1e-5, atol=1e-5)
    for got, want in zip(
        gradients(logps, grad, hidden, weight), gradients(expected, grad, hidden, weight), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("budget", [0, 2**30], ids=["recomputed", "kept"])
def test_bfloat16_errs_by_the_rounding_of_its_logits(budget):
    """Inputs are bf16 numbers, taken as exact by the oracle. A logit below 16 in size is rounded by at most
    2^-5 (8 bits), so log-probs differ by at most 2^-4; gradients are sums of ~500 rounded terms, whose
    errors partly cancel: 2 % of the largest entry."""
    hidden, weight, target, grad = example(n=70, d=64, v=500, dtype=torch.bfloat16, scale=0.25)
    assert (hidden @ weight.T).abs().max() < 16
    logps = token_logps(hidden, weight, target, budget_bytes=budget, tile=(32, 128))
    expected = oracle(hidden, weight, target)
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps.double(), expected, rtol=0, atol=2**-4)
    for got, want in zip(
        gradients(logps, grad, hidden, weight), gradients(expected, grad, hidden, weight), strict=True
    ):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), want.double(), rtol=0, atol=0.02 * want.abs().max().item())


def test_kept_and_recomputed_tiles_agree_when_products_are_exact():
    hidden, weight, target, grad = example()
    kept, recomputed = (
        gradients(token_logps(hidden, weight, target, budget_bytes=b, tile=(3, 5)), grad, hidden, weight)
        for b in (2**30, 0)
    )
    torch.testing.assert_close(kept, recomputed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("budget", [0, 2**30], ids=["recomputed", "kept"])
def test_backward_twice_gives_the_same_gradient(budget):
    hidden, weight, target, grad = example()
    logps = token_logps(hidden, weight, target, budget_bytes=budget)
    first = torch.autograd.grad(logps, (hidden, weight), grad, retain_graph=True)
    assert all(map(torch.equal, first, gradients(logps, grad, hidden, weight)))


def test_a_tied_weight_receives_both_gradients():
    """The embedding table is also the head: its gradient is the sum of both uses."""
    _, table, target, grad = example(d=4)
    ids = torch.arange(N) % V
    (got,) = gradients(token_logps(table[ids].tanh(), table, target), grad, table)
    (want,) = gradients(oracle(table[ids].tanh(), table, target), grad, table)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


class Watch(TorchDispatchMode):
    """Counts matrix products and remembers the largest tensor any operation returns."""

    def __init__(self):
        super().__init__()
        self.products, self.largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.products += "mm" in func.overloadpacket.__name__
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.largest = max([self.largest, *sizes])
        return result


@pytest.mark.parametrize(
    ("hidden_grad", "weight_grad", "budget", "products"),
    [
        (True, True, 2**30, 3),
        (True, True, 0, 4),
        (True, False, 0, 2),
        (False, True, 2**30, 2),
        (False, False, 0, 1),
    ],
    ids=["kept", "recomputed", "frozen head", "frozen body", "nothing to train"],
)
def test_number_of_matrix_products(hidden_grad, weight_grad, budget, products):
    hidden, weight, target, grad = example()
    hidden.requires_grad_(hidden_grad)
    weight.requires_grad_(weight_grad)
    inputs = [tensor for tensor in (hidden, weight) if tensor.requires_grad]
    with Watch() as watch:
        logps = token_logps(hidden, weight, target, budget_bytes=budget)
        got = gradients(logps, grad, *inputs) if inputs else ()
    assert watch.products == products
    want = gradients(oracle(hidden, weight, target), grad, *inputs) if inputs else ()
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("budget", "recomputed"),
    [(2240, 0), (2239, 1), (1120, 5), (1119, 12)],
    ids=["all fit", "all but one", "half", "less than half: only those in the gradient"],
)
@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_tiles_beyond_the_budget_are_computed_again(budget, recomputed, softcap):
    """Of twelve tokens five fit the gradient, three of them a whole row of tiles; 7 * 40 numbers do not."""
    hidden, weight, target, grad = example(n=12, d=5, v=40)
    with Watch() as watch:
        logps = token_logps(hidden, weight, target, softcap=softcap, budget_bytes=budget, tile=(3, 10))
        got = gradients(logps, grad, hidden, weight)
    assert watch.products == 3 * 16 + recomputed
    want = gradients(oracle(hidden, weight, target, softcap), grad, hidden, weight)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_does_not_change_a_bit(dtype):
    hidden, weight, target, grad = example(n=40, d=16, v=300, dtype=torch.float32)

    def computed(budget):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logps = token_logps(hidden, weight, target, budget_bytes=budget, tile=(8, 64))
        return logps, *gradients(logps, grad.float(), hidden, weight)

    for budget in (40 * 300 * 2, 2**30):
        assert all(map(torch.equal, computed(0), computed(budget)))


def test_without_gradients_there_is_one_product_and_the_same_value():
    hidden, weight, target, _ = example()
    with torch.no_grad(), Watch() as watch:
        logps = token_logps(hidden, weight, target)
    assert watch.products == 1
    assert not logps.requires_grad
    torch.testing.assert_close(logps, oracle(hidden, weight, target))


@pytest.mark.parametrize("budget", [0, 2**30], ids=["recomputed", "kept"])
def test_no_tensor_of_the_size_of_the_logits_exists(budget):
    hidden, weight, target, grad = example(n=64, d=8, v=4000, dtype=torch.float32)
    with Watch() as watch:
        logps = token_logps(hidden, weight, target, budget_bytes=budget, tile=(32, 256))
        gradients(logps, grad, hidden, weight)
    assert watch.largest <= 4000 * 8 < 64 * 4000  # the weight gradient is the largest


def test_autocast_computes_in_its_type_and_returns_gradients_in_the_parameters():
    hidden, weight, target, grad = example(n=40, d=32, v=300, dtype=torch.float32, scale=0.3)
    half_hidden, half_weight = (t.detach().bfloat16().requires_grad_() for t in (hidden, weight))
    expected = token_logps(half_hidden, half_weight, target, tile=(16, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logps = token_logps(hidden, weight, target, tile=(16, 64))
        got = gradients(logps, grad, hidden, weight)
    assert logps.dtype == got[0].dtype == got[1].dtype == torch.float32
    torch.testing.assert_close(logps, expected)
    for mine, want in zip(got, gradients(expected, grad, half_hidden, half_weight), strict=True):
        torch.testing.assert_close(mine, want.float(), rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("budget", [0, 2**30], ids=["recomputed", "kept"])
@pytest.mark.parametrize("scale", [1e3, 1e4, 1e-4])
def test_large_and_small_logits(scale, budget):
    hidden, weight, target, grad = example(scale=scale)
    logps = token_logps(hidden, weight, target, budget_bytes=budget, tile=(3, 5))
    expected = oracle(hidden, weight, target)
    torch.testing.assert_close(logps, expected, rtol=1e-10, atol=1e-10)
    for got, want in zip(
        gradients(logps, grad, hidden, weight), gradients(expected, grad, hidden, weight), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


def test_a_sure_token_keeps_its_small_gradient_in_float32():
    """p_target = 1 - 2e-9: softmax - onehot in float32 would round the whole row to zero."""
    hidden = torch.tensor([[20.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0]], requires_grad=True)
    logps = token_logps(hidden, weight, torch.tensor([0]))
    assert logps.item() == pytest.approx(-2.0611536e-9, rel=1e-5)
    assert gradients(logps, torch.ones(1), hidden)[0].item() == pytest.approx(2.0611536e-9, rel=1e-5)


def test_a_vocabulary_of_one_is_certain():
    hidden, weight, target, grad = example(v=1)
    logps = token_logps(hidden, weight, torch.zeros_like(target))
    assert torch.equal(logps, torch.zeros_like(logps))
    assert all((g == 0).all() for g in gradients(logps, grad, hidden, weight))


def test_no_tokens_is_an_empty_result_with_zero_gradients():
    hidden, weight, target, grad = example(n=0)
    logps = token_logps(hidden, weight, target)
    assert logps.shape == (0,)
    hidden_grad, weight_grad = gradients(logps, grad, hidden, weight)
    assert hidden_grad.shape == (0, D)
    assert torch.equal(weight_grad, torch.zeros_like(weight))


def test_against_torch_linear_cross_entropy():
    fused = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if fused is None:
        pytest.skip("this torch has no linear_cross_entropy")
    hidden, weight, target, _ = example()
    torch.testing.assert_close(
        token_logps(hidden, weight, target), -fused(hidden, weight, target, reduction="none")
    )


@pytest.mark.parametrize(("bad", "found"), [(-1, "-1.."), (V, f"..{V}")])
def test_a_target_outside_the_vocabulary_is_named(bad, found):
    hidden, weight, target, _ = example()
    target[3] = bad
    with pytest.raises(ValueError, match="outside the vocabulary") as error:
        token_logps(hidden, weight, target)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("shapes", "named"), [(((3, 4), (9, 5), (3,)), "weight"), (((3, 4), (9, 4), (2,)), "target")]
)
def test_shapes_that_do_not_match_are_named(shapes, named):
    hidden, weight = torch.zeros(shapes[0]), torch.zeros(shapes[1])
    with pytest.raises(ValueError, match=named):
        token_logps(hidden, weight, torch.zeros(shapes[2], dtype=torch.int64))
