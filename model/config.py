"""The shape of a transformer, and every way in which published families vary it."""

import math
from dataclasses import dataclass

from model.rotary import Rope


class ConfigError(ValueError):
    """A config.json that is not understood. The message names it and says what to do."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape and variations. The defaults are a Llama; families.py fills the rest from config.json."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    context: int  # longest sequence the model was made for
    family: str = "llama"  # model_type of the published layout that load and save use
    tied: bool = False  # lm_head.weight is embedding.weight
    rope: Rope | None = None
    local_rope: Rope | None = None  # of layers with a window, where it differs
    layers_without_rope: tuple[int, ...] = ()
    learned_positions: bool = False
    windows: tuple[int, ...] = ()  # per layer: keys a token sees, itself included; 0 or () = all
    norm: str = "rms"  # rms | layer
    norm_eps: float = 1e-6
    norm_weight: bool = True
    norm_bias: bool = False
    norm_plus_one: bool = False  # multiply by 1 + weight
    norm_inputs: bool = True  # normalise what goes into attention and MLP
    norm_outputs: bool = False  # normalise what comes out, before the residual sum
    parallel: bool = False  # attention and MLP both read the same normalised input
    qk_norm: str = ""  # head: one weight [E] | heads: one per head [H, E] | full: over all heads together
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qkv_clip: float = 0.0  # clamp q, k, v to this magnitude; 0 = none
    activation: str = "silu"  # silu | gelu | gelu_tanh | relu
    gated: bool = True  # down(act(gate x) * up x), else down(act(up x))
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0  # folded into the hidden states
    attention_scale: float = 0.0  # of the scores; 0 = 1/sqrt(E)
    attention_scale_by_depth: bool = False  # divided by the number of the layer, from 1
    attention_softcap: float = 0.0  # cap * tanh(score / cap); 0 = none
    logit_softcap: float = 0.0  # applied by whoever projects to logits

    def layer_rope(self, layer: int) -> Rope | None:
        if layer in self.layers_without_rope:
            return None
        return self.local_rope if self.local_rope and self.window(layer) else self.rope

    def ropes(self) -> set[Rope]:
        return {self.layer_rope(layer) for layer in range(self.layers)} - {None}

    @property
    def longest(self) -> int:
        """The longest text that can be written: `factor` times what a dynamic rope or YaRN starts from."""
        rope = self.rope
        if rope is None or rope.kind not in ("dynamic", "yarn"):
            return self.context
        return max(self.context, int(rope.factor * (rope.context if rope.kind == "yarn" else self.context)))

    def score_scale(self, layer: int) -> float:
        scale = self.attention_scale or 1 / math.sqrt(self.head_width)
        return scale / (layer + 1) if self.attention_scale_by_depth else scale

    def window(self, layer: int) -> int:
        return self.windows[layer] if self.windows else 0
