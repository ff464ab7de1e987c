"""Published model families: config.json to ModelConfig and back. Tensor names are in layouts.py.

A family is one entry of FAMILIES: which config key fills which field, what its class assumes when a key is
absent, what is fixed, and the functions for the rest. The facts are from transformers 5.23 and are checked
against it in tests/model/test_families.py. A key that nothing reads and that is not known to be harmless is
an error: ignoring it could mean computing another model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from model.config import ConfigError, ModelConfig
from model.harmless_keys import changes_nothing
from model.rope_settings import PARTIAL_ROTARY, Json, read_rope, write_rope

KEYS = {
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
GPT2_KEYS = {
    "width": "n_embd",
    "layers": "n_layer",
    "heads": "n_head",
    "mlp_width": "n_inner",
    "context": "n_positions",
    "norm_eps": "layer_norm_epsilon",
    "activation": "activation_function",
}
ACTIVATIONS = {  # published name -> ours; the first name of a kind is the one written
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
}


class Config:
    """config.json that remembers what was read; an absent key has the default of its class."""

    def __init__(self, values: Json, absent: Json):
        self.values, self.absent, self.read, self.latest = values, absent, set(), ""

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        self.latest = key if key in self.values else self.latest
        return self.values[key] if key in self.values else self.absent.get(key, default)

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise ConfigError(
                f"config.json lacks {key!r}, which model_type {self.values['model_type']!r} needs"
            )
        return value

    def size(self, key: str) -> int:
        value = self.need(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"config.json: {key} is {value!r}, expected a whole number of at least 1")
        return value

    def not_understood(self) -> Json:
        left = {key: value for key, value in self.values.items() if key not in self.read}
        return {key: value for key, value in left.items() if not changes_nothing(key, value)}


@dataclass(frozen=True)
class Family:
    """How the checkpoints of one model_type differ from the Llama layout."""

    architecture: str  # class name that other tools look for
    covers: str  # published models, for people
    keys: dict[str, str] = field(default_factory=dict)  # field -> key, where it is not that of KEYS
    absent: Json = field(default_factory=dict)  # key -> value when absent
    fixed: Json = field(default_factory=dict)  # field -> value
    read: Callable[[Config, Json], Json] = lambda keys, values: {}  # further fields; values: those so far
    write: Callable[[ModelConfig], Json] = lambda config: {}  # their keys
    ignored: frozenset[str] = frozenset()  # keys that this family's files carry and nobody reads
    echoes: dict[str, Callable[[Json], Any]] = field(default_factory=dict)  # ignored if they have this value


def sliding(kinds: Sequence[str], window: int | None) -> tuple[int, ...]:
    """Windows per layer from layer_types; () when there is none."""
    unknown = set(kinds) - {"sliding_attention", "full_attention"}
    if unknown:
        raise ConfigError(
            f"config.json: layer_types has {sorted(unknown)}; supported: sliding_attention, full_attention"
        )
    windows = tuple(window or 0 if kind == "sliding_attention" else 0 for kind in kinds)
    return windows if any(windows) else ()


def layer_types(config: ModelConfig) -> list[str]:
    windows = config.windows or (0,) * config.layers
    return ["sliding_attention" if window else "full_attention" for window in windows]


def kinds_by_pattern(layers: int, every: int) -> list[str]:
    """Every n-th layer sees everything."""
    return ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]


def read_biases(keys: Config, values: Json) -> Json:
    bias, mlp_bias = bool(keys.get("attention_bias")), bool(keys.get("mlp_bias"))
    return {"qkv_bias": bias, "out_bias": bias, "mlp_bias": mlp_bias}


def write_biases(config: ModelConfig) -> Json:
    return {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}


def read_one_window(keys: Config, values: Json) -> Json:
    """One window for all layers."""
    return {"windows": sliding(["sliding_attention"] * values["layers"], keys.get("sliding_window"))}


def write_one_window(config: ModelConfig) -> Json:
    return {"sliding_window": config.window(0) or None}


def read_qwen_windows(keys: Config, values: Json) -> Json:
    """A window only when switched on, in the layers listed or from max_window_layers on."""
    on, window, first = (keys.get(k) for k in ("use_sliding_window", "sliding_window", "max_window_layers"))
    first = values["layers"] if first is None else first
    rest = ["sliding_attention" if i >= first else "full_attention" for i in range(values["layers"])]
    return {"windows": sliding(keys.get("layer_types") or rest, window if on else None)}


def write_qwen_windows(config: ModelConfig) -> Json:
    first = next((i for i in range(config.layers) if config.window(i)), config.layers)
    return {
        "use_sliding_window": any(config.windows),
        "sliding_window": max(config.windows, default=0) or None,
        "max_window_layers": first,
        "layer_types": layer_types(config),
    }


def read_qwen3(keys: Config, values: Json) -> Json:
    return read_biases(keys, values) | read_qwen_windows(keys, values)


def write_qwen3(config: ModelConfig) -> Json:
    return {"attention_bias": config.qkv_bias} | write_qwen_windows(config)


def read_starcoder2(keys: Config, values: Json) -> Json:
    bias = bool(keys.get("use_bias", True))
    biases = {"qkv_bias": bias, "out_bias": bias, "mlp_bias": bias}
    return biases | read_one_window(keys, values)


def read_gemma(keys: Config, values: Json) -> Json:
    if keys.get("use_bidirectional_attention"):
        raise ConfigError("config.json: use_bidirectional_attention makes this an encoder, not supported")
    # hidden_act "gelu" is a leftover in the first Gemma files: the models were trained with the tanh form
    fixed = {"activation": "gelu_tanh"} if values["activation"] == "gelu" else {}
    return fixed | read_biases(keys, values) | {"embedding_scale": values["width"] ** 0.5}


def read_gemma2(keys: Config, values: Json) -> Json:
    pattern = keys.get("sliding_window_pattern", values["pattern"])
    kinds = keys.get("layer_types") or kinds_by_pattern(values["layers"], pattern)
    return read_gemma(keys, {**values, "activation": ""}) | {
        "attention_scale": keys.get("query_pre_attn_scalar", 256) ** -0.5,
        "attention_softcap": float(keys.get("attn_logit_softcapping") or 0),
        "logit_softcap": float(keys.get("final_logit_softcapping") or 0),
        "windows": sliding(kinds, keys.get("sliding_window", 4096)),
    }


def write_gemma2(config: ModelConfig) -> Json:
    scalar = (config.attention_scale or config.head_width**-0.5) ** -2
    return {
        "attention_bias": config.qkv_bias,
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar,
        "attn_logit_softcapping": config.attention_softcap or None,
        "final_logit_softcapping": config.logit_softcap or None,
        "sliding_window": max(config.windows, default=0) or 4096,
        "layer_types": layer_types(config),
    }


def read_phi3(keys: Config, values: Json) -> Json:
    if keys.get("lm_head_bias"):
        raise ConfigError("config.json: lm_head_bias is not supported: the head here has no bias")
    return read_one_window(keys, values)


def read_granite(keys: Config, values: Json) -> Json:
    return read_biases(keys, values) | {
        "embedding_scale": float(keys.get("embedding_multiplier", 1)),
        "attention_scale": float(keys.get("attention_multiplier", 1)),
        "residual_scale": float(keys.get("residual_multiplier", 1)),
        "logit_scale": 1 / float(keys.get("logits_scaling", 1)),
    }


def write_granite(config: ModelConfig) -> Json:
    return write_biases(config) | {
        "embedding_multiplier": config.embedding_scale,
        "attention_multiplier": config.attention_scale,
        "residual_multiplier": config.residual_scale,
        "logits_scaling": 1 / config.logit_scale,
    }


def read_olmo(keys: Config, values: Json) -> Json:
    return read_biases(keys, values) | {"qkv_clip": float(keys.get("clip_qkv") or 0)}


def write_olmo(config: ModelConfig) -> Json:
    return {"attention_bias": config.qkv_bias, "clip_qkv": config.qkv_clip or None}


def read_olmo3(keys: Config, values: Json) -> Json:
    kinds = keys.get("layer_types") or kinds_by_pattern(values["layers"], 4)
    return read_biases(keys, values) | {"windows": sliding(kinds, keys.get("sliding_window", 4096))}


def write_layer_windows(config: ModelConfig) -> Json:
    return {
        "attention_bias": config.qkv_bias,
        "sliding_window": max(config.windows, default=0) or 4096,
        "layer_types": layer_types(config),
    }


def read_smollm3(keys: Config, values: Json) -> Json:
    layers, every = values["layers"], keys.get("no_rope_layer_interval", 4)
    uses_rope = keys.get("no_rope_layers") or [int((i + 1) % every != 0) for i in range(layers)]
    if len(uses_rope) != layers:
        raise ConfigError(f"config.json: no_rope_layers has {len(uses_rope)} entries for {layers} layers")
    on = keys.get("use_sliding_window")
    kinds = ["sliding_attention" if on and not rope else "full_attention" for rope in uses_rope]
    return read_biases(keys, values) | {
        "layers_without_rope": tuple(i for i in range(layers) if not uses_rope[i]),
        "windows": sliding(keys.get("layer_types") or kinds, keys.get("sliding_window")),
    }


def write_smollm3(config: ModelConfig) -> Json:
    return write_biases(config) | {
        "no_rope_layers": [int(i not in config.layers_without_rope) for i in range(config.layers)],
        "use_sliding_window": any(config.windows),
        "sliding_window": max(config.windows, default=0) or None,
        "layer_types": layer_types(config),
    }


def read_stablelm(keys: Config, values: Json) -> Json:
    return {
        "qkv_bias": bool(keys.get("use_qkv_bias")),
        "qk_norm": "heads" if keys.get("qk_layernorm") else "",
        "parallel": bool(keys.get("use_parallel_residual")),
    }


def write_stablelm(config: ModelConfig) -> Json:
    return {
        "use_qkv_bias": config.qkv_bias,
        "qk_layernorm": config.qk_norm == "heads",
        "use_parallel_residual": config.parallel,
    }


def read_gpt_bigcode(keys: Config, values: Json) -> Json:
    unscaled = not keys.get("scale_attn_weights", True)
    multi_query = keys.get("multi_query", True) if values["family"] == "gpt_bigcode" else False
    keys.get("num_key_value_heads")  # transformers 5 writes it for gpt_bigcode; multi_query decides
    return {"attention_scale": 1.0 if unscaled else 0.0, "kv_heads": 1 if multi_query else values["heads"]}


def read_gpt2(keys: Config, values: Json) -> Json:
    by_depth = bool(keys.get("scale_attn_by_inverse_layer_idx"))
    return read_gpt_bigcode(keys, values) | {"attention_scale_by_depth": by_depth}


def write_gpt_bigcode(config: ModelConfig) -> Json:
    return {"scale_attn_weights": not config.attention_scale, "multi_query": config.kv_heads == 1}


def write_gpt2(config: ModelConfig) -> Json:
    return {
        "scale_attn_weights": not config.attention_scale,
        "scale_attn_by_inverse_layer_idx": config.attention_scale_by_depth,
    }


def read_cohere(keys: Config, values: Json) -> Json:
    if keys.get("use_qk_norm"):
        raise ConfigError("config.json: use_qk_norm (Command R+) is not supported")
    return read_biases(keys, values) | {"logit_scale": float(keys.get("logit_scale", 0.0625))}


def write_cohere(config: ModelConfig) -> Json:
    return {"attention_bias": config.qkv_bias, "logit_scale": config.logit_scale}


RMS_DEFAULTS = {"hidden_act": "silu", "rms_norm_eps": 1e-6}
QWEN_ABSENT = {
    **RMS_DEFAULTS,
    "max_position_embeddings": 32768,
    "num_key_value_heads": 32,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
GPT2_FIXED = {
    "norm": "layer",
    "norm_bias": True,
    "qkv_bias": True,
    "out_bias": True,
    "mlp_bias": True,
    "gated": False,
    "learned_positions": True,
}
GPT2_ABSENT = {
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "n_positions": 1024,
    "activation_function": "gelu_new",
}

FAMILIES: dict[str, Family] = {
    "llama": Family(
        "LlamaForCausalLM",
        "Llama 2 and 3.x, CodeLlama, DeepSeek-Coder v1, Yi-Coder, SmolLM2, Granite code 3B and 8B",
        absent={**RMS_DEFAULTS, "max_position_embeddings": 2048},
        read=read_biases,
        write=write_biases,
    ),
    "mistral": Family(
        "MistralForCausalLM",
        "Mistral, Codestral, Mathstral, Nemo",
        absent={
            **RMS_DEFAULTS,
            "max_position_embeddings": 131072,
            "num_key_value_heads": 8,
            "sliding_window": 4096,
        },
        read=read_one_window,
        write=write_one_window,
    ),
    "qwen2": Family(
        "Qwen2ForCausalLM",
        "Qwen2, Qwen2.5, Qwen2.5-Coder, CodeQwen1.5",
        absent=QWEN_ABSENT,
        fixed={"qkv_bias": True},
        read=read_qwen_windows,
        write=write_qwen_windows,
        echoes={"rotary_emb_base": lambda values: values["rope"].base},
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        "Qwen3, dense",
        absent={**QWEN_ABSENT, "head_dim": 128},
        fixed={"qk_norm": "head"},
        read=read_qwen3,
        write=write_qwen3,
    ),
    "starcoder2": Family(
        "Starcoder2ForCausalLM",
        "StarCoder2",
        keys={"norm_eps": "norm_epsilon"},
        absent={
            "norm_epsilon": 1e-5,
            "hidden_act": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
            "max_position_embeddings": 4096,
            "num_key_value_heads": 2,
        },
        fixed={"norm": "layer", "norm_bias": True, "gated": False},
        read=read_starcoder2,
        write=lambda config: {"use_bias": config.qkv_bias} | write_one_window(config),
        ignored=frozenset({"activation_function", "scale_attn_weights"}),
        echoes={"layer_norm_epsilon": lambda values: values["norm_eps"]},
    ),
    "gemma": Family(
        "GemmaForCausalLM",
        "Gemma, CodeGemma",
        absent={
            "rms_norm_eps": 1e-6,
            "hidden_act": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
            "num_key_value_heads": 16,
            "head_dim": 256,
        },
        fixed={"norm_plus_one": True},
        read=read_gemma,
        write=lambda config: {"attention_bias": config.qkv_bias},
        ignored=frozenset({"hidden_activation"}),
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        "Gemma 2",
        keys={"activation": "hidden_activation"},
        absent={
            "rms_norm_eps": 1e-6,
            "hidden_activation": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        fixed={"norm_plus_one": True, "norm_outputs": True},
        read=lambda keys, values: read_gemma2(keys, values | {"pattern": 2}),
        write=write_gemma2,
        ignored=frozenset({"hidden_act"}),
        echoes={"sliding_window_size": lambda values: max(values["windows"], default=None)},
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        "Gemma 3, text only",
        keys={"activation": "hidden_activation"},
        absent={
            "rms_norm_eps": 1e-6,
            "hidden_activation": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
            "max_position_embeddings": 131072,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
        },
        fixed={"norm_plus_one": True, "norm_outputs": True, "qk_norm": "head"},
        # its class reads attn_logit_softcapping and never applies it
        read=lambda keys, values: read_gemma2(keys, values | {"pattern": 6}) | {"attention_softcap": 0.0},
        write=write_gemma2,
        ignored=frozenset({"hidden_act"}),
    ),
    "phi3": Family(
        "Phi3ForCausalLM",
        "Phi-3, Phi-3.5, Phi-4",
        absent={
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
        },
        read=read_phi3,
        write=write_one_window,
        ignored=frozenset({"attention_bias", "mlp_bias"}),
    ),
    "granite": Family(
        "GraniteForCausalLM",
        "Granite 3.x",
        absent={**RMS_DEFAULTS, "max_position_embeddings": 2048},
        read=read_granite,
        write=write_granite,
    ),
    "olmo": Family(
        "OlmoForCausalLM",
        "OLMo",
        absent={"hidden_act": "silu", "max_position_embeddings": 2048},
        keys={"norm_eps": ""},
        fixed={"norm": "layer", "norm_weight": False, "norm_eps": 1e-5},
        read=read_olmo,
        write=write_olmo,
    ),
    "olmo2": Family(
        "Olmo2ForCausalLM",
        "OLMo 2",
        absent={"rms_norm_eps": 1e-5, "hidden_act": "silu", "max_position_embeddings": 2048},
        fixed={"norm_inputs": False, "norm_outputs": True, "qk_norm": "full"},
        read=read_biases,
        write=lambda config: {"attention_bias": config.qkv_bias},
    ),
    "smollm3": Family(
        "SmolLM3ForCausalLM",
        "SmolLM3",
        absent={
            **RMS_DEFAULTS,
            "tie_word_embeddings": True,
            "max_position_embeddings": 32768,
            "num_key_value_heads": 4,
            "rope_theta": 2_000_000.0,
        },
        read=read_smollm3,
        write=write_smollm3,
    ),
    "stablelm": Family(
        "StableLmForCausalLM",
        "StableLM 2, Stable Code",
        keys={"norm_eps": "layer_norm_eps"},
        absent={
            "layer_norm_eps": 1e-5,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "num_key_value_heads": 32,
            "partial_rotary_factor": 0.25,
        },
        fixed={"norm": "layer", "norm_bias": True},
        read=read_stablelm,
        write=write_stablelm,
        echoes={
            "norm_eps": lambda values: values["norm_eps"],
            "rope_pct": lambda values: values["rope"].width / values["head_width"],
        },
    ),
    "gpt_bigcode": Family(
        "GPTBigCodeForCausalLM",
        "StarCoder, SantaCoder, Granite code 20B and 34B",
        keys=GPT2_KEYS,
        absent={**GPT2_ABSENT, "activation_function": "gelu_pytorch_tanh"},
        fixed=GPT2_FIXED,
        read=read_gpt_bigcode,
        write=write_gpt_bigcode,
    ),
    "gpt2": Family(
        "GPT2LMHeadModel",
        "GPT-2, CodeParrot",
        keys=GPT2_KEYS,
        absent=GPT2_ABSENT,
        fixed=GPT2_FIXED,
        read=read_gpt2,
        write=write_gpt2,
    ),
    "cohere": Family(
        "CohereForCausalLM",
        "Command R",
        keys={"norm_eps": "layer_norm_eps"},
        absent={
            "layer_norm_eps": 1e-5,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
            "rope_theta": 500_000.0,
        },
        fixed={"norm": "layer", "parallel": True},
        read=read_cohere,
        write=write_cohere,
    ),
}
FAMILIES["olmo3"] = replace(
    FAMILIES["olmo2"],
    architecture="Olmo3ForCausalLM",
    covers="OLMo 3",
    absent={**FAMILIES["olmo2"].absent, "rope_theta": 500_000.0, "rope_local_base_freq": 500_000.0},
    read=read_olmo3,
    write=write_layer_windows,
)

DIFFERENT = {  # not supported, and why
    "codegen": "interleaved partial rotary and a bias on the head",
    "deepseek_v2": "latent attention and experts",
    "deepseek_v3": "latent attention and experts",
    "falcon": "ALiBi or multi-query variants of its own",
    "gemma3": "an image encoder around the text model (gemma3_text alone is supported)",
    "gpt_neo": "unscaled scores and local attention",
    "gpt_neox": "separate norms in a parallel block and its own head layout",
    "gpt_oss": "experts and attention sinks",
    "gptj": "interleaved partial rotary and a bias on the head",
    "mamba": "a state space instead of attention",
    "mixtral": "experts",
    "mpt": "ALiBi",
    "phi": "a bias on the head",
    "qwen2_moe": "experts",
    "qwen3_moe": "experts",
    "t5": "an encoder",
}


def parse_config(config: Json) -> ModelConfig:
    """config.json of a published checkpoint -> ModelConfig. ConfigError on anything not understood."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        why = f" ({DIFFERENT[model_type]})" if str(model_type) in DIFFERENT else ""
        raise ConfigError(
            f"config.json: model_type {model_type!r} is not supported{why}; supported: {', '.join(FAMILIES)}"
        )
    if config.get("quantization_config"):
        raise ConfigError(
            "config.json has quantization_config: quantised weights are not supported, use the originals"
        )
    keys = Config(config, FAMILIES[model_type].absent)
    try:
        return _read_fields(keys, model_type)
    except ConfigError:
        raise
    except (TypeError, AttributeError, LookupError, ArithmeticError, ValueError) as error:
        value = repr(config.get(keys.latest))[:80]
        raise ConfigError(
            f"config.json has a value that makes no sense, probably {keys.latest}={value} ({error}); "
            "download the file again, or put it right"
        ) from None


def _read_fields(keys: Config, model_type: str) -> ModelConfig:
    family = FAMILIES[model_type]
    name = KEYS | family.keys
    sizes = ("vocab_size", "width", "layers", "heads", "context")
    values = {ours: keys.size(name[ours]) for ours in sizes}
    usual = {"kv_heads": values["heads"], "head_width": values["width"] // values["heads"]}
    if name["mlp_width"] == "n_inner":
        usual["mlp_width"] = 4 * values["width"]
    for ours in ("kv_heads", "head_width", "mlp_width"):
        key = name[ours]
        values[ours] = usual[ours] if ours in usual and keys.get(key) is None else keys.size(key)
    if name["norm_eps"]:
        values["norm_eps"] = float(keys.need(name["norm_eps"]))
    values["activation"] = _activation(keys.need(name["activation"]))
    values["tied"] = bool(keys.get(name["tied"], False))
    values |= {"family": model_type, **family.fixed}
    values |= family.read(keys, values)
    if not values.get("learned_positions"):
        rope, local = read_rope(keys.get, values["head_width"], values["context"])
        if rope.width != values["head_width"] and model_type not in PARTIAL_ROTARY:
            raise ConfigError(
                f"config.json: partial_rotary_factor has no meaning for {model_type}; remove it"
            )
        values |= {"rope": rope, "local_rope": local}
    refuse_unknown(keys, family, values)
    if (count := len(values.get("windows", ()))) not in (0, values["layers"]):
        raise ConfigError(f"config.json: layer_types has {count} entries for {values['layers']} layers")
    if values["heads"] % values["kv_heads"]:
        raise ConfigError(
            f"config.json: {values['heads']} query heads cannot share {values['kv_heads']} key heads evenly"
        )
    return ModelConfig(**values)


def refuse_unknown(keys: Config, family: Family, values: Json) -> None:
    """ConfigError when a key is left that nothing has read and that could change the computation."""
    keys.read |= family.ignored
    keys.read |= {key for key, said in family.echoes.items() if keys.values.get(key) == said(values)}
    left = keys.not_understood()
    if left:
        found = ", ".join(f"{key}={value!r}" for key, value in left.items())
        raise ConfigError(
            f"config.json has keys that {keys.values['model_type']} is not known to have: {found}. If they "
            "do not change what the model computes, delete them from config.json; otherwise this model is "
            "not supported"
        )


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ConfigError(
            f"config.json: activation {name!r} is not supported; supported: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def to_config_json(config: ModelConfig) -> Json:
    """The config.json of a model in the layout of `config.family`, in both spellings of the rotary keys.

    ValueError when that layout has no way to say what `config` says.
    """
    family = FAMILIES[config.family]
    out: Json = {"architectures": [family.architecture], "model_type": config.family}
    for name, key in (KEYS | family.keys).items():
        if key:
            out[key] = getattr(config, name)
    key = (KEYS | family.keys)["activation"]
    out[key] = next(name for name, ours in ACTIVATIONS.items() if ours == config.activation)
    if family.keys.get("width") == "n_embd":  # these layouts have no such keys
        del out["head_dim"], out["num_key_value_heads"]
    out |= write_rope(config) | family.write(config)
    if config.rope and config.rope.kind == "longrope" and config.family == "phi3":
        out["original_max_position_embeddings"] = config.rope.context
    out |= dict.fromkeys(
        ("bos_token_id", "eos_token_id", "pad_token_id")
    )  # the tokenizer's business, not a default
    again = parse_config(out)
    for item in fields(ModelConfig):
        ours, theirs = getattr(config, item.name), getattr(again, item.name)
        if ours != theirs and not (isinstance(ours, float) and math.isclose(ours, theirs, rel_tol=1e-12)):
            raise ValueError(
                f"the {config.family} layout cannot say {item.name}={ours!r} (it would mean {theirs!r})"
            )
    return out
