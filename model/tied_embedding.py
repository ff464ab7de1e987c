"""The gradient of an embedding that is also the head, without a matrix of zeros.

Both uses of such a weight [V, D] have a gradient. The head's is dense; the embedding's touches only the rows
of tokens that occur, but autograd makes a matrix of it, [V, D] zeros elsewhere, to add the two: for a
vocabulary of 152k more memory than all activations of a small batch. Here the rows are added to the weight's
gradient once backward() has finished it.
"""

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.autograd.function import once_differentiable


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, ids: Tensor) -> Tensor:
        ctx.weight, ctx.ids = weight, ids
        return weight[ids]

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        weight, ids = ctx.weight, ctx.ids

        def add() -> None:
            if weight.grad is None:
                raise RuntimeError(
                    "a tied embedding's gradient is complete only in weight.grad, after loss.backward(); "
                    "for torch.autograd.grad, or a loss that does not use the head, set model.embedding = "
                    "model.embedding.plain()"
                )
            weight.grad.index_add_(0, ids.flatten(), gradient.flatten(0, -2).to(weight.grad.dtype))

        Variable._execution_engine.queue_callback(add)
        return None, None


class TiedEmbedding(nn.Embedding):
    """An embedding of the same weight, for models whose head is trained with it by loss.backward()."""

    def __init__(self, embedding: nn.Embedding):
        super().__init__(*embedding.weight.shape, _weight=embedding.weight)
        self.weight = embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return _Rows.apply(self.weight, ids) if self.weight.requires_grad else super().forward(ids)

    def plain(self) -> nn.Embedding:
        """The ordinary embedding, whose gradient autograd composes."""
        embedding = nn.Embedding(*self.weight.shape, _weight=self.weight)
        embedding.weight = self.weight
        return embedding
