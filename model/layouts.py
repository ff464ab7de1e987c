"""What each published layout calls its tensors, and how they are put together here.

One table per layout: our module -> their module, or the several that are joined along rows into one of ours
(q, k and v; gate and up), so that a block needs four matrix products and not seven.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from model.transformer import ModelConfig, Transformer

Names = dict[str, str | tuple[str, ...]]
LAYER = "model.layers.{i}."
LLAMA: Names = {
    "embedding": "model.embed_tokens",
    "blocks.{i}.attention_norm": LAYER + "input_layernorm",
    "blocks.{i}.attention.qkv": tuple(LAYER + f"self_attn.{x}_proj" for x in "qkv"),
    "blocks.{i}.attention.q_norm": LAYER + "self_attn.q_norm",
    "blocks.{i}.attention.k_norm": LAYER + "self_attn.k_norm",
    "blocks.{i}.attention.out": LAYER + "self_attn.o_proj",
    "blocks.{i}.mlp_norm": LAYER + "post_attention_layernorm",
    "blocks.{i}.mlp.gate_up": (LAYER + "mlp.gate_proj", LAYER + "mlp.up_proj"),
    "blocks.{i}.mlp.down": LAYER + "mlp.down_proj",
    "norm": "model.norm",
    "lm_head": "lm_head",
}
PHI3 = LLAMA | {
    "blocks.{i}.attention.qkv": LAYER + "self_attn.qkv_proj",
    "blocks.{i}.mlp.gate_up": LAYER + "mlp.gate_up_proj",
}
STARCODER2 = LLAMA | {
    "blocks.{i}.mlp.up": LAYER + "mlp.c_fc",
    "blocks.{i}.mlp.down": LAYER + "mlp.c_proj",
}
STABLELM = LLAMA | {
    "blocks.{i}.attention.q_norm": LAYER + "self_attn.q_layernorm.norms.{h}",
    "blocks.{i}.attention.k_norm": LAYER + "self_attn.k_layernorm.norms.{h}",
}
GEMMA2 = LLAMA | {
    "blocks.{i}.attention_out_norm": LAYER + "post_attention_layernorm",
    "blocks.{i}.mlp_norm": LAYER + "pre_feedforward_layernorm",
    "blocks.{i}.mlp_out_norm": LAYER + "post_feedforward_layernorm",
}
OLMO2 = LLAMA | {
    "blocks.{i}.attention_out_norm": LAYER + "post_attention_layernorm",
    "blocks.{i}.mlp_out_norm": LAYER + "post_feedforward_layernorm",
}
GPT2: Names = {
    "embedding": "transformer.wte",
    "positions": "transformer.wpe",
    "blocks.{i}.attention_norm": "transformer.h.{i}.ln_1",
    "blocks.{i}.attention.qkv": "transformer.h.{i}.attn.c_attn",
    "blocks.{i}.attention.out": "transformer.h.{i}.attn.c_proj",
    "blocks.{i}.mlp_norm": "transformer.h.{i}.ln_2",
    "blocks.{i}.mlp.up": "transformer.h.{i}.mlp.c_fc",
    "blocks.{i}.mlp.down": "transformer.h.{i}.mlp.c_proj",
    "norm": "transformer.ln_f",
    "lm_head": "lm_head",
}


def grouped_rows(config: ModelConfig) -> Tensor:
    """qkv published as [its q heads | k | v] per key/value head: where each of our rows is in theirs."""
    group = config.heads // config.kv_heads
    rows = torch.arange((config.heads + 2 * config.kv_heads) * config.head_width)
    rows = rows.view(config.kv_heads, group + 2, config.head_width)
    return torch.cat([rows[:, :group].flatten(), rows[:, group].flatten(), rows[:, group + 1].flatten()])


def interleaved_rows(config: ModelConfig) -> Tensor:
    """q and k published for rotary over neighbours 2i, 2i + 1, where here i goes with i + E/2. Not v."""
    heads = config.heads + config.kv_heads
    rows = torch.arange((heads + config.kv_heads) * config.head_width).view(-1, config.head_width)
    turned = torch.cat([rows[:heads, 0::2], rows[:heads, 1::2]], dim=1)
    return torch.cat([turned, rows[heads:]]).flatten()


@dataclass(frozen=True)
class Layout:
    names: Names = field(default_factory=lambda: LLAMA)
    transposed: bool = False  # the matrices of the blocks are stored [in, out]
    order: Callable[[ModelConfig], Tensor | None] = lambda config: (
        None
    )  # qkv: where our row r is among theirs


LAYOUTS = {  # model_type -> layout; that of Llama where it is not listed
    "cohere": Layout(order=interleaved_rows),
    "gemma2": Layout(GEMMA2),
    "gemma3_text": Layout(GEMMA2),
    "gpt2": Layout(GPT2, transposed=True),
    "gpt_bigcode": Layout(GPT2, order=lambda config: None if config.kv_heads == 1 else grouped_rows(config)),
    "olmo2": Layout(OLMO2),
    "olmo3": Layout(OLMO2),
    "phi3": Layout(PHI3),
    "stablelm": Layout(STABLELM),
    "starcoder2": Layout(STARCODER2),
}


class Part(NamedTuple):
    """One published tensor: its name and shape. It holds `rows` rows of ours."""

    name: str
    shape: tuple[int, ...]
    rows: int


class Published(NamedTuple):
    """Where a parameter lives in a checkpoint: `parts` along rows, in that order, after undoing the rest."""

    parts: tuple[Part, ...]
    transposed: bool = False
    order: Tensor | None = None


def published_tensors(model: Transformer) -> dict[str, Published]:
    """Parameter name -> its published place, for every parameter of the model (a tied head is not listed)."""
    config = model.config
    layout = LAYOUTS.get(config.family, Layout())
    with torch.device("cpu"):
        order = layout.order(config)
    return {
        name: _place(config, layout, name, tuple(parameter.shape), order)
        for name, parameter in model.named_parameters()
        if ".adapters." not in name  # model/lora.py publishes those
    }


def _place(
    config: ModelConfig, layout: Layout, name: str, shape: tuple[int, ...], order: Tensor | None
) -> Published:
    module, kind = name.rsplit(".", 1)
    layer = module.split(".")[1] if module.startswith("blocks.") else ""
    theirs = layout.names[module.replace(f"blocks.{layer}.", "blocks.{i}.")]
    theirs = (theirs,) if isinstance(theirs, str) else theirs
    if "{h}" in theirs[0]:  # a vector per head, stacked here
        names = [f"{theirs[0].format(i=layer, h=head)}.{kind}" for head in range(shape[0])]
        return Published(tuple(Part(name, shape[1:], 1) for name in names))
    transposed = layout.transposed and bool(layer) and len(shape) == 2
    parts = []
    for their, rows in zip(theirs, _rows(config, shape[0], len(theirs)), strict=True):
        part_shape = (rows, *shape[1:])
        parts.append(
            Part(f"{their.format(i=layer)}.{kind}", part_shape[::-1] if transposed else part_shape, rows)
        )
    return Published(tuple(parts), transposed, order if module.endswith("attention.qkv") else None)


def _rows(config: ModelConfig, total: int, parts: int) -> list[int]:
    if parts == 3:  # q, k, v
        return [config.head_width * heads for heads in (config.heads, config.kv_heads, config.kv_heads)]
    return [total // parts] * parts
