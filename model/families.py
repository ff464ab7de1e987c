"""Published model families: config.json to ModelConfig and back, and what each family calls its tensors.

A family is one entry of FAMILIES: which config key fills which field, the values its class assumes when a key is
absent, what is fixed for the family, and a table of names. Both spellings of config.json are read (transformers 4:
rope_theta, rope_scaling, torch_dtype; transformers 5: rope_parameters, dtype). A key that nothing here reads and
that is not known to be harmless is an error: ignoring it could mean computing another model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from model.rotary import KINDS, Rope
from model.transformer import ModelConfig, Transformer

ACTIVATION_NAMES = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}

# Keys that do not change what a trained model computes.
HARMLESS = frozenset(
    """
    _name_or_path _attn_implementation attn_implementation architectures attention_dropout attn_pdrop auto_map
    bos_token_id classifier_dropout cls_token_id dtype embd_pdrop embedding_dropout eos_token_id hidden_dropout
    id2label initializer_range is_decoder is_encoder_decoder label2id max_sequence_length model_type name num_labels
    output_attentions output_hidden_states pad_token_id pretraining_tp problem_type resid_dropout resid_pdrop
    residual_dropout return_dict sep_token_id summary_activation summary_first_dropout summary_proj_to_labels
    summary_type summary_use_proj task_specific_params tf_legacy_loss tokenizer_class torch_dtype torchscript
    transformers_version unk_token_id unsloth_fixed unsloth_version use_bfloat16 use_cache use_flash_attention_2
    """.split()
)


class Keys:
    """config.json that remembers which keys were read. A null counts as absent."""

    def __init__(self, config: dict, absent: dict):
        self.config, self.absent, self.read = config, absent, set()

    def get(self, key: str, default: Any = None) -> Any:  # values are whatever JSON holds
        self.read.add(key)
        value = self.config.get(key)
        return value if value is not None else self.absent.get(key, default)

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise ValueError(
                f"config.json lacks {key!r}, which model_type {self.config['model_type']!r} needs"
            )
        return value

    def unread(self) -> list[str]:
        return sorted(
            k for k, v in self.config.items() if k not in self.read | HARMLESS and v not in (None, False)
        )


@dataclass(frozen=True)
class Family:
    """How one model_type differs from the plain Llama layout."""

    names: dict[str, str | tuple[str, ...]]  # our module -> published module(s) joined along rows
    keys: dict[str, str] = field(default_factory=dict)  # field -> config key, where it is not Llama's
    absent: dict[str, Any] = field(default_factory=dict)  # config key -> value when absent
    fixed: dict[str, Any] = field(default_factory=dict)  # field -> value, whatever the config says
    read: Callable[[Keys, dict], dict] = lambda keys, values: {}  # further fields
    write: Callable[[ModelConfig], dict] = lambda config: {}  # their keys
    architecture: str = ""
    covers: str = ""  # published models, for people


LLAMA_KEYS = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_width": "head_dim",
    "mlp_width": "intermediate_size",
    "context": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "activation": "hidden_act",
    "tied": "tie_word_embeddings",
}

LAYER = "model.layers.{i}."
LLAMA_NAMES: dict[str, str | tuple[str, ...]] = {
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


def _windows_by_layer(keys: Keys, values: dict) -> dict:
    """qwen2, qwen3: a window only when switched on, in the layers listed or from max_window_layers on."""
    on, window, first = (
        keys.get("use_sliding_window"),
        keys.get("sliding_window", 4096),
        keys.get("max_window_layers", 28),
    )
    kinds = keys.get("layer_types") or [
        "sliding_attention" if layer >= first else "full_attention" for layer in range(values["layers"])
    ]
    return {"windows": _windows(kinds, window if on else 0)}


def _windows(kinds: list[str], window: int) -> tuple[int, ...]:
    unknown = set(kinds) - {"sliding_attention", "full_attention"}
    if unknown:
        raise ValueError(
            f"config.json: layer_types has {sorted(unknown)}; known: sliding_attention, full_attention"
        )
    windows = tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
    return windows if any(windows) else ()


def _write_windows(config: ModelConfig) -> dict:
    windows = config.windows or (0,) * config.layers
    return {
        "use_sliding_window": any(windows),
        "sliding_window": max(windows) or None,
        "max_window_layers": next((i for i, window in enumerate(windows) if window), config.layers),
        "layer_types": ["sliding_attention" if window else "full_attention" for window in windows],
    }


def _llama(keys: Keys, values: dict) -> dict:
    return {
        "qkv_bias": keys.get("attention_bias", False),
        "out_bias": keys.get("attention_bias", False),
        "mlp_bias": keys.get("mlp_bias", False),
    }


FAMILIES: dict[str, Family] = {
    "llama": Family(
        LLAMA_NAMES,
        absent={"rms_norm_eps": 1e-6, "hidden_act": "silu"},
        read=_llama,
        write=lambda c: {"attention_bias": c.qkv_bias, "mlp_bias": c.mlp_bias},
        architecture="LlamaForCausalLM",
        covers="Llama 2, 3.x, CodeLlama, DeepSeek-Coder, Yi-Coder, SmolLM2, Granite code 3B/8B",
    ),
    "qwen2": Family(
        LLAMA_NAMES,
        absent={"rms_norm_eps": 1e-6, "hidden_act": "silu"},
        fixed={"qkv_bias": True},
        read=_windows_by_layer,
        write=_write_windows,
        architecture="Qwen2ForCausalLM",
        covers="Qwen2, Qwen2.5-Coder, CodeQwen1.5",
    ),
}


def parse_config(config: dict) -> ModelConfig:
    """config.json of a published checkpoint -> ModelConfig. ValueError on anything not understood."""
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise ValueError(f"model_type {model_type!r} is not supported; supported: {', '.join(FAMILIES)}")
    if config.get("quantization_config"):
        raise ValueError(
            "config.json has quantization_config: quantised weights are not supported; use the original"
        )
    family = FAMILIES[model_type]
    keys = Keys(config, family.absent)
    names = LLAMA_KEYS | family.keys
    values = {"family": model_type, **family.fixed}
    for name in ("vocab_size", "width", "layers", "heads", "context"):
        values[name] = keys.need(names[name])
    values["kv_heads"] = keys.get(names["kv_heads"], values["heads"])
    values["head_width"] = keys.get(names["head_width"], values["width"] // values["heads"])
    values["mlp_width"] = keys.need(names["mlp_width"])
    values["norm_eps"] = keys.need(names["norm_eps"])
    values["tied"] = keys.get(names["tied"], False)
    values["activation"] = _activation(keys.need(names["activation"]))
    values |= family.read(keys, values)
    if not values.get("learned_positions"):
        values["rope"] = read_rope(keys, values)
    unread = keys.unread()
    if unread:
        found = ", ".join(f"{key}={config[key]!r}" for key in unread)
        raise ValueError(
            f"config.json has keys that {model_type} is not known to have: {found}. If they do not change what the "
            "model computes, delete them from config.json; otherwise this model is not supported"
        )
    return ModelConfig(**values)


def _activation(name: str) -> str:
    if name not in ACTIVATION_NAMES:
        raise ValueError(
            f"config.json: activation {name!r} is not known; known: {', '.join(ACTIVATION_NAMES)}"
        )
    return ACTIVATION_NAMES[name]


def read_rope(keys: Keys, values: dict) -> Rope:
    """The rotary settings, from rope_parameters (new) or rope_theta and rope_scaling (old)."""
    found = {"rope_theta": keys.get("rope_theta"), "partial_rotary_factor": keys.get("partial_rotary_factor")}
    for key in ("rope_scaling", "rope_parameters"):
        found |= keys.get(key) or {}
    return make_rope(found, values["head_width"], values["context"], default_base=10000.0)


def make_rope(found: dict, head_width: int, context: int, default_base: float) -> Rope:
    """One set of rope parameters -> Rope. `found` may hold nulls; unknown kinds and keys are errors."""
    found = {key: value for key, value in found.items() if value is not None}
    kind = found.pop("rope_type", None) or found.get("type", "default")
    found.pop("type", None)
    kind = {"su": "longrope"}.get(kind, kind)
    if kind not in KINDS:
        raise ValueError(f"config.json: rope type {kind!r} is not supported; supported: {', '.join(KINDS)}")
    rope = Rope(
        width=int(head_width * found.pop("partial_rotary_factor", 1.0)),
        base=float(found.pop("rope_theta", default_base)),
        kind=kind,
    )
    if kind == "default":
        return rope
    original = found.pop("original_max_position_embeddings", context)
    factor = found.pop("factor", None)
    if kind == "longrope":
        factor = factor or context / original
        scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        rope = replace(
            rope,
            factor=float(factor),
            context=original,
            scale=found.pop("attention_factor", scale),
            short_factors=tuple(found.pop("short_factor")),
            long_factors=tuple(found.pop("long_factor")),
        )
    elif kind == "yarn":
        factor = factor or context / original

        def growth(m: float) -> float:
            return 0.1 * m * math.log(factor) + 1 if factor > 1 else 1.0

        m, all_dim = found.pop("mscale", 0), found.pop("mscale_all_dim", 0)
        scale = growth(m) / growth(all_dim) if m and all_dim else growth(1)
        rope = replace(
            rope,
            factor=float(factor),
            context=original,
            scale=found.pop("attention_factor", scale),
            low=float(found.pop("beta_slow", 0) or 1),
            high=float(found.pop("beta_fast", 0) or 32),
            truncate=found.pop("truncate", True),
        )
    elif kind == "llama3":
        low, high = found.pop("low_freq_factor"), found.pop("high_freq_factor")
        rope = replace(rope, factor=float(factor), context=original, low=float(low), high=float(high))
    else:
        rope = replace(rope, factor=float(factor), context=context if kind == "dynamic" else 0)
    if found:
        raise ValueError(f"config.json: rope type {kind!r} does not know {', '.join(sorted(found))}")
    return rope


def to_config_json(config: ModelConfig) -> dict:
    """The config.json of a model in the layout of `config.family`, in both spellings."""
    family = FAMILIES[config.family]
    activation = next(name for name, ours in ACTIVATION_NAMES.items() if ours == config.activation)
    out = {"architectures": [family.architecture], "model_type": config.family}
    for name, key in (LLAMA_KEYS | family.keys).items():
        out[key] = activation if name == "activation" else getattr(config, name)
    out |= _write_rope(config) | family.write(config)
    again = parse_config(out)
    for item in fields(ModelConfig):
        ours, theirs = getattr(config, item.name), getattr(again, item.name)
        if ours != theirs:
            raise ValueError(
                f"the {config.family} layout cannot express {item.name}={ours!r} (it means {theirs!r})"
            )
    return out


def _write_rope(config: ModelConfig) -> dict:
    rope = config.rope
    if rope is None:
        return {}
    scaling: dict[str, Any] = {}
    if rope.kind != "default":
        scaling = {"rope_type": rope.kind, "factor": rope.factor}
    if rope.kind in ("llama3", "yarn", "longrope"):
        scaling["original_max_position_embeddings"] = rope.context
    if rope.kind == "llama3":
        scaling |= {"low_freq_factor": rope.low, "high_freq_factor": rope.high}
    if rope.kind == "yarn":
        scaling |= {"beta_slow": rope.low, "beta_fast": rope.high, "truncate": rope.truncate}
    if rope.kind == "longrope":
        scaling |= {"short_factor": list(rope.short_factors), "long_factor": list(rope.long_factors)}
    if rope.kind in ("yarn", "longrope"):
        scaling["attention_factor"] = rope.scale
    new = {"rope_type": "default", "rope_theta": rope.base, **scaling}
    partial = (
        {} if rope.width == config.head_width else {"partial_rotary_factor": rope.width / config.head_width}
    )
    old = {"type": rope.kind, **scaling} if scaling else None
    return {"rope_theta": rope.base, "rope_scaling": old, "rope_parameters": new | partial, **partial}


class Part(NamedTuple):
    """One published tensor, holding `rows` rows of ours."""

    name: str
    rows: int


class Published(NamedTuple):
    """Where one parameter of ours lives in a checkpoint: the rows of `parts` in order, after undoing `layout`."""

    parts: tuple[Part, ...]
    layout: str = ""


def published_tensors(model: Transformer) -> dict[str, Published]:
    """Parameter name -> its published place, for every parameter of the model (a tied head is not listed)."""
    config = model.config
    names = FAMILIES[config.family].names
    table = {}
    for name, parameter in model.named_parameters():
        module, kind = name.rsplit(".", 1)
        pieces = module.split(".")
        layer = pieces[1] if pieces[0] == "blocks" else ""
        if layer:
            pieces[1] = "{i}"
        theirs = names[".".join(pieces)]
        theirs = (theirs,) if isinstance(theirs, str) else theirs
        rows = _rows(config, module, parameter.shape[0], len(theirs))
        parts = (Part(f"{t.format(i=layer)}.{kind}", n) for t, n in zip(theirs, rows, strict=True))
        table[name] = Published(tuple(parts))
    return table


def _rows(config: ModelConfig, module: str, total: int, parts: int) -> list[int]:
    if parts == 1:
        return [total]
    if module.endswith("qkv"):
        return [config.head_width * n for n in (config.heads, config.kv_heads, config.kv_heads)]
    return [total // parts] * parts
