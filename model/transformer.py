"""The decoder-only transformer: token ids to hidden states, one class for every supported family.

What differs between families is a field of ModelConfig (config.py); what published files call things is in
families.py. The output is the final norm's hidden states, not logits: losses/logprobs.py and generate.py
multiply by `lm_head.weight`, only where they need to.

A batch is one line of tokens without padding, pair after pair, each as prompt, chosen, rejected. Only
attention looks at where a pair ends (attention.py); every other layer treats tokens alike.

Letters: B pairs · T tokens of the batch, flattened · D width · H query heads · K key/value heads · E head
width · F inner width of the MLP · V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.attention import Cache, Pairs, pair_attention, pairs_apart, unshare
from model.config import ModelConfig
from model.fused import rms_norm, silu_gated
from model.half_products import linear
from model.rotary import Rope, Tables, rotary_tables, rotate


class Linear(nn.Linear):
    """Without values of its own: Transformer.initialize or a checkpoint gives all parameters theirs."""

    def reset_parameters(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Embedding(nn.Embedding):
    reset_parameters = Linear.reset_parameters


class Norm(nn.Module):
    """RMSNorm x / sqrt(mean(x^2) + eps) * w, or LayerNorm, over the last dimension.

    A 2-D shape [H, E] means one weight vector per head.
    """

    def __init__(self, config: ModelConfig, *shape: int, bias: bool | None = None):
        super().__init__()
        self.rms, self.eps, self.plus_one = config.norm == "rms", config.norm_eps, config.norm_plus_one
        bias = config.norm_bias if bias is None else bias
        self.weight = nn.Parameter(torch.empty(shape)) if config.norm_weight else None
        self.bias = nn.Parameter(torch.empty(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.plus_one:  # in float32: bfloat16 would round 1 + weight to 8 bits
            wide = torch.promote_types(x.dtype, torch.float32)
            return rms_norm(x.to(wide), self.weight.to(wide) + 1, self.eps).to(x.dtype)
        if self.rms:
            return rms_norm(x, self.weight, self.eps)
        if self.weight is not None and self.weight.dim() > 1:
            return F.layer_norm(x, x.shape[-1:], eps=self.eps) * self.weight
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class Attention(nn.Module):
    """Causal self-attention with grouped key/value heads. q, k and v come from one matrix product."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        heads, kv_heads, width = config.heads, config.kv_heads, config.head_width
        self.layer, self.attend = layer, pair_attention
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width
        self.sizes = [heads * width, kv_heads * width, kv_heads * width]
        self.clip, self.qk_norm = config.qkv_clip, config.qk_norm
        self.kind = {
            "scale": config.score_scale(layer),
            "window": config.window(layer),
            "softcap": config.attention_softcap,
        }
        self.qkv = Linear(config.width, sum(self.sizes), bias=config.qkv_bias)
        self.out = Linear(heads * width, config.width, bias=config.out_bias)
        if config.qk_norm:
            shapes = {"head": ((width,),) * 2, "heads": ((heads, width), (kv_heads, width))}
            shapes["full"] = ((heads * width,), (kv_heads * width,))
            q_shape, k_shape = shapes[config.qk_norm]
            self.q_norm = Norm(config, *q_shape, bias=False)
            self.k_norm = Norm(config, *k_shape, bias=False)

    def forward(self, x: Tensor, tables: Tables | None, pairs: Pairs | None, cache: Cache | None) -> Tensor:
        qkv = self.qkv(x)  # [T, (H + 2K) E]
        if self.clip:
            qkv = qkv.clamp(-self.clip, self.clip)
        if tables is None or self.qk_norm:
            q, k, v = self._split(qkv)
            q, k = (q, k) if tables is None else (rotate(q, tables), rotate(k, tables))
        else:  # q and k side by side still: one rotation for both
            both, v = qkv.split([sum(self.sizes[:2]), self.sizes[2]], dim=-1)
            both, v = (t.unflatten(1, (-1, self.head_width)) for t in (both, v))  # [T, heads, E], T may be 0
            q, k = rotate(both, tables).split([self.heads, self.kv_heads], dim=1)
        if pairs is None:
            mixed = cache.attend(self.layer, q, k, v, **self.kind)
        else:
            if cache is not None:
                cache.record(self.layer, k, v)
            mixed = pairs.select(self.attend(q, k, v, pairs, **self.kind))
        return self.out(mixed.flatten(1))

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[T, (H + 2K) E] -> q [T, H, E], k and v [T, K, E]; q and k normed where the family does."""
        q, k, v = qkv.split(self.sizes, dim=-1)
        if self.qk_norm == "full":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (t.unflatten(-1, (-1, self.head_width)) for t in (q, k, v))
        if self.qk_norm in ("head", "heads"):
            q, k = self.q_norm(q), self.k_norm(k)
        return q, k, v


ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class MLP(nn.Module):
    """down(act(gate x) * up x) with gate and up in one product, or down(act(up x))."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.activation, self.gated = ACTIVATIONS[config.activation], config.gated
        inner = config.mlp_width
        if self.gated:
            self.gate_up = Linear(config.width, 2 * inner, bias=config.mlp_bias)
        else:
            self.up = Linear(config.width, inner, bias=config.mlp_bias)
        self.down = Linear(inner, config.width, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        if not self.gated:
            return self.down(self.activation(self.up(x)))
        if self.activation is F.silu:
            return self.down(silu_gated(x, self.gate_up))
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x). A family may norm what comes out, or run both at once."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.parallel, self.scale = config.parallel, config.residual_scale

        def norm(present: bool) -> nn.Module:
            return Norm(config, config.width) if present else nn.Identity()

        self.attention_norm = norm(config.norm_inputs)
        self.attention = Attention(config, layer)
        self.attention_out_norm = norm(config.norm_outputs)
        self.mlp_norm = norm(config.norm_inputs and not config.parallel)
        self.mlp = MLP(config)
        self.mlp_out_norm = norm(config.norm_outputs)

    def forward(self, x: Tensor, tables: Tables | None, pairs: Pairs | None, cache: Cache | None) -> Tensor:
        normed = self.attention_norm(x)
        attended = self.attention_out_norm(self.attention(normed, tables, pairs, cache))
        if pairs is not None:
            x, normed = pairs.select(x), pairs.select(normed)
        if self.parallel:
            return x + self.scale * (attended + self.mlp(normed))
        x = x + self._scaled(attended)
        return x + self._scaled(self.mlp_out_norm(self.mlp(self.mlp_norm(x))))

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.scale == 1 else x * self.scale


class Transformer(nn.Module):
    """ids [T] -> hidden [T, D]; multiply by `lm_head.weight` [V, D] for logits.

    Set `checkpoint_activations` to keep only each block's input and recompute the rest in backward.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        self.embedding = Embedding(config.vocab_size, config.width)
        self.positions = Embedding(config.context, config.width) if config.learned_positions else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = Norm(config, config.width)
        self.lm_head = Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.embedding.weight
        self.initialize()

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Small random weights for training from nothing (GPT-2's scheme); nothing on the meta device."""
        if self.embedding.weight.is_meta:
            return
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(0.0 if self.config.norm_plus_one else 1.0)
            else:
                residual = name.endswith(("attention.out.weight", "mlp.down.weight"))
                parameter.normal_(
                    0.0, 0.02 / math.sqrt(2 * self.config.layers if residual else 1), generator=generator
                )

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        spans: Tensor | None = None,
        wanted: Tensor | None = None,
        *,
        cache: Cache | None = None,
    ) -> Tensor:
        """ids, positions [T] int64, spans [B, 4] int on the CPU -> hidden [T, D] after the final norm.

        Or [N, D] of the tokens at wanted [N]; in the last block the others are keys only. A prompt's token
        listed twice is wanted for chosen, then for rejected (attention.unshare). A span is start and lengths:
        shared, chosen's rest, rejected's rest; a plain sequence is shared alone. A cache records its keys and
        values; without spans attention is the cache's: the T tokens are the next of T rows it holds.
        """
        apart = pairs_apart(spans, self.config.ropes())
        if any(apart):
            index, spans, wanted = unshare(spans, apart, wanted)
            index, wanted = index.to(ids.device), wanted.to(ids.device)
            return self.forward(ids[index], positions[index], spans, wanted)
        x = self.embedding(ids)
        if self.config.embedding_scale != 1:
            x = x * torch.tensor(self.config.embedding_scale, dtype=x.dtype)
        if self.positions is not None:
            x = x + self.positions(positions)
        pairs = None if spans is None else Pairs(spans, len(ids))
        tables = self._tables(positions, pairs)
        for layer, block in enumerate(self.blocks):
            if wanted is not None and layer == self.config.layers - 1:
                pairs = pairs.only(wanted)
            arguments = (x, tables.get(self.config.layer_rope(layer)), pairs, cache)
            if self.checkpoint_activations and torch.is_grad_enabled():
                x = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x = block(*arguments)
        x = self.norm(x)
        return x if self.config.logit_scale == 1 else x * self.config.logit_scale

    def _tables(self, positions: Tensor, pairs: Pairs | None) -> dict[Rope, Tables]:
        """cos and sin for every rope in use."""
        ropes, lengths = self.config.ropes(), positions + 1
        if pairs is not None and any(rope.depends_on_length for rope in ropes):
            lengths = pairs.longest().to(positions.device, non_blocking=True)
        return {rope: rotary_tables(rope, positions, lengths) for rope in ropes}
