"""The rotary settings of config.json, in the spellings that transformers 4 and 5 use.

    old   rope_theta, partial_rotary_factor, rope_scaling: null or {"type" or "rope_type": ...,
          "factor": ...};
          rope_local_base_freq for layers with a window
    new   rope_parameters: the same in one object, or one such object per layer type

Reading only rope_theta would give new files the default base without an error.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from model.config import ConfigError, ModelConfig
from model.rotary import KINDS, Rope

Json = dict[str, Any]  # what json.load returns
PARTIAL_ROTARY = ("phi3", "stablelm")  # the families whose code honours partial_rotary_factor


def read_rope(get: Callable[..., Any], head_width: int, context: int) -> tuple[Rope, Rope | None]:
    """The rope of a model, and that of its layers with a window where it differs.

    `get(key, default)` reads config.json. rope_parameters may hold one set per layer type.
    """
    theta = get("rope_theta", 10000.0)
    common = {"rope_theta": theta, "partial_rotary_factor": get("partial_rotary_factor")}
    original = get("original_max_position_embeddings")  # at top level it outranks the nested one
    local_theta = get("rope_local_base_freq")
    scaling, parameters = (read_object(get, key) for key in ("rope_scaling", "rope_parameters"))
    nested = "full_attention" in parameters or "sliding_attention" in parameters
    if scaling and not nested:  # as in transformers, the old key stands for the new one where both are there
        parameters = {}

    def present(found: Json | None) -> Json:
        return {k: v for k, v in (found or {}).items() if v is not None}

    def rope(found: Json) -> Rope:
        if original is not None:
            found["original_max_position_embeddings"] = original
        return make_rope(present(common) | found, head_width, context)

    if nested:
        local = rope({"rope_theta": local_theta or theta} | present(parameters.get("sliding_attention")))
        whole = rope(present(parameters.get("full_attention")) | present(scaling))
    else:
        whole = rope(present(parameters) | present(scaling))
        local = whole
        if local_theta is not None:  # scaling, and another base, are for the other layers only
            local = rope({"rope_theta": local_theta})
    return whole, None if local == whole else local


def read_object(get: Callable[..., Any], key: str) -> Json:
    """An object of config.json; {} where it is absent or null."""
    found = get(key) or {}
    if not isinstance(found, dict):
        raise ConfigError(
            f"config.json: {key} is {found!r}, expected an object with rope_type and its numbers"
        )
    return found


def make_rope(found: Json, head_width: int, context: int) -> Rope:
    """One set of published rope parameters -> Rope."""
    found = dict(found)
    old_kind = found.pop("type", "default")
    kind = found.pop("rope_type", old_kind)
    if kind == "su" or (kind == "yarn" and "short_factor" in found):  # names of the first Phi-3 files
        kind = "longrope"
    if kind not in KINDS:
        raise ConfigError(f"config.json: rope type {kind!r} is not supported; supported: {', '.join(KINDS)}")
    width = int(head_width * found.pop("partial_rotary_factor", 1.0))
    if width < 2 or width % 2:
        raise ConfigError(
            f"config.json: partial_rotary_factor turns {width} of a head's {head_width} dimensions, "
            "expected an even number"
        )
    rope = Rope(width=width, base=float(found.pop("rope_theta")), kind=kind)
    if kind == "default":
        return rope
    found.pop("finetuned", None)
    original = found.pop("original_max_position_embeddings", context)
    factor = found.pop("factor", None)
    try:
        rope = _SCALED[kind](rope, found, factor, original, context)
    except KeyError as missing:
        raise ConfigError(f"config.json: rope type {kind!r} needs {missing.args[0]!r}") from None
    if found:
        raise ConfigError(f"config.json: rope type {kind!r} does not know {', '.join(sorted(found))}")
    return rope


def _linear(rope: Rope, found: Json, factor: float | None, original: int, context: int) -> Rope:
    return replace(rope, factor=_needed(factor))


def _dynamic(rope: Rope, found: Json, factor: float | None, original: int, context: int) -> Rope:
    return replace(rope, factor=_needed(factor), context=context)


def _llama3(rope: Rope, found: Json, factor: float | None, original: int, context: int) -> Rope:
    low, high = float(found.pop("low_freq_factor")), float(found.pop("high_freq_factor"))
    return replace(rope, factor=_needed(factor), context=original, low=low, high=high)


def _yarn(rope: Rope, found: Json, factor: float | None, original: int, context: int) -> Rope:
    factor = float(factor or context / original)
    m, m_all = found.pop("mscale", 0), found.pop("mscale_all_dim", 0)

    def growth(m: float) -> float:
        return 0.1 * m * math.log(factor) + 1 if factor > 1 else 1.0

    return replace(
        rope,
        factor=factor,
        context=original,
        scale=found.pop("attention_factor", growth(m) / growth(m_all) if m and m_all else growth(1)),
        low=float(found.pop("beta_slow", 0) or 1),
        high=float(found.pop("beta_fast", 0) or 32),
        truncate=found.pop("truncate", True),
    )


def _longrope(rope: Rope, found: Json, factor: float | None, original: int, context: int) -> Rope:
    factor = float(factor or context / original)
    scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    short, long = (tuple(map(float, found.pop(f"{x}_factor"))) for x in ("short", "long"))
    for factors in (short, long):
        if len(factors) != rope.width // 2:
            raise ConfigError(
                f"config.json: a longrope list has {len(factors)} factors, expected {rope.width // 2}"
            )
    return replace(
        rope,
        factor=factor,
        context=original,
        scale=found.pop("attention_factor", scale),
        short_factors=short,
        long_factors=long,
    )


_SCALED = {"linear": _linear, "dynamic": _dynamic, "llama3": _llama3, "yarn": _yarn, "longrope": _longrope}


def _needed(factor: float | None) -> float:
    if factor is None:
        raise KeyError("factor")
    return float(factor)


def write_rope(config: ModelConfig) -> Json:
    """The rotary keys in both spellings."""
    rope = config.rope
    if rope is None:
        return {}
    scaling = _rope_scaling(rope)
    partial = {}
    if config.family in PARTIAL_ROTARY:  # written even when it is 1: absent may mean another number
        partial = {"partial_rotary_factor": rope.width / config.head_width}
    old = {
        "rope_theta": rope.base,
        "rope_scaling": {"type": rope.kind, **scaling} if scaling else None,
    } | partial
    new = {"rope_type": rope.kind, "rope_theta": rope.base, **scaling, **partial}
    if config.local_rope is None:
        return old | {"rope_parameters": new}
    local = config.local_rope
    if config.family == "gemma3_text":
        old["rope_local_base_freq"] = local.base
    sliding = {"rope_type": local.kind, "rope_theta": local.base, **_rope_scaling(local), **partial}
    return old | {"rope_parameters": {"full_attention": new, "sliding_attention": sliding}}


def _rope_scaling(rope: Rope) -> Json:
    if rope.kind == "default":
        return {}
    out: Json = {"rope_type": rope.kind, "factor": rope.factor}
    if rope.kind in ("llama3", "yarn", "longrope"):
        out["original_max_position_embeddings"] = rope.context
    if rope.kind == "llama3":
        out |= {"low_freq_factor": rope.low, "high_freq_factor": rope.high}
    if rope.kind == "yarn":
        out |= {"beta_slow": rope.low, "beta_fast": rope.high, "truncate": rope.truncate}
    if rope.kind == "longrope":
        out |= {"short_factor": list(rope.short_factors), "long_factor": list(rope.long_factors)}
    if rope.kind in ("yarn", "longrope"):
        out["attention_factor"] = rope.scale
    return out
