"""model/tied_embedding.py against the gradients that autograd composes."""

import pytest
import torch
from torch import nn

from losses.logprobs import token_logps
from model.tied_embedding import TiedEmbedding
from model.training import Compute, load_policy

IDS = torch.tensor([3, 1, 3, 9, 0, 3])
TARGET = torch.tensor([1, 3, 9, 0, 3, 2])


def loss_of(embedding: nn.Module) -> torch.Tensor:
    return -token_logps(embedding(IDS).square(), embedding.weight, TARGET).sum()


def embeddings(dtype: torch.dtype = torch.float32) -> tuple[nn.Embedding, TiedEmbedding]:
    torch.manual_seed(0)
    plain = nn.Embedding(12, 8, dtype=dtype)
    tied = TiedEmbedding(nn.Embedding.from_pretrained(plain.weight.detach().clone(), freeze=False))
    return plain, tied


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gradients_equal_those_of_an_ordinary_embedding(dtype):
    plain, tied = embeddings(dtype)
    for _ in range(2):  # the second time they are added
        loss_of(plain).backward()
        loss_of(tied).backward()
        difference = (tied.weight.grad - plain.weight.grad).abs().max()
        assert difference <= 4 * torch.finfo(dtype).eps * plain.weight.grad.abs().max()


def test_a_gradient_that_would_lack_the_rows_is_an_error():
    plain, tied = embeddings()
    with pytest.raises(RuntimeError, match=r"model.embedding.plain\(\)"):
        torch.autograd.grad(loss_of(tied), tied.weight)
    ours = torch.autograd.grad(loss_of(tied.plain()), tied.weight)
    torch.testing.assert_close(ours, torch.autograd.grad(loss_of(plain), plain.weight))


def test_a_frozen_one_has_no_gradient():
    _, tied = embeddings()
    assert not TiedEmbedding(tied.requires_grad_(False))(IDS).requires_grad


def test_a_tied_policy_on_a_cpu_is_trained_with_it(tiny_policy):
    model = load_policy(tiny_policy, None, Compute.choose("cpu", "fp32"))
    assert model.config.tied == isinstance(model.embedding, TiedEmbedding)
    assert not model.config.tied or model.embedding.weight is model.lm_head.weight
