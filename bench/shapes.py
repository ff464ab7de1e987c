"""Models of published shapes with random weights, made where they are used; what their steps must compute.

config.json of Qwen2.5-Coder 1.5B and 7B (families.py reads them as it reads a downloaded folder's).
"""

from collections.abc import Sequence

import torch

from data.types import PreferencePair
from model.config import ModelConfig
from model.families import parse_config
from model.training import Compute
from model.transformer import Transformer

SHARED = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "num_hidden_layers": 28,
}
CONFIGS = {
    "1.5b": SHARED
    | {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "7b": SHARED
    | {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}


def random_policy(config: dict, compute: Compute) -> Transformer:
    """A policy of this config.json with the initial weights of train_sft.py, on the device at once."""
    with torch.device("meta"):
        model = Transformer(parse_config(config)).to(compute.weights)
    model = model.to_empty(device=compute.device)
    if model.config.tied:
        model.lm_head.weight = model.embedding.weight
    model.initialize(torch.Generator(compute.device).manual_seed(0))
    return model


def random_peer(config: dict, dtype: torch.dtype, device: str) -> torch.nn.Module:
    """transformers' model of this config.json with random weights; ImportError where it is not installed."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(config)
    shape = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(shape, dtype=dtype)


def random_pairs(config: dict, count: int, prompt: int, completion: int) -> list[PreferencePair]:
    """Pairs of random ids, every prompt and every completion of one length."""
    ids = torch.randint(
        3, config["vocab_size"], (count, prompt + 2 * completion), generator=torch.Generator().manual_seed(0)
    ).tolist()
    middle = prompt + completion
    return [PreferencePair("", "", "", "", row[:prompt], row[prompt:middle], row[middle:]) for row in ids]


def step_flops(config: ModelConfig, pairs: Sequence[PreferencePair]) -> float:
    """Floating-point operations of forward and backward in our layout, nothing recomputed.

    Two per weight and token forward, four backward; attention's two products over what each token may see; in
    the last block attention's output and the MLP, and the vocabulary, for what predicts a completion token.
    Embedding, norms and the optimiser are not counted, nor what completions begin with alike.
    """
    heads, gates = config.heads * config.head_width, 3 if config.gated else 2
    qkv = config.width * (heads + 2 * config.kv_heads * config.head_width)
    rest = config.width * (heads + gates * config.mlp_width)
    total = 0.0
    for pair in pairs:
        p, c, r = (len(ids) for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids))
        predicting, c, r = c + r, c - 1, r - 1  # of those, a completion's last token is not in the batch
        tokens, seen = p + c + r, (p + c) * (p + c + 1) / 2 + r * p + r * (r + 1) / 2
        total += 6 * (config.layers * qkv * tokens + rest * ((config.layers - 1) * tokens + predicting))
        total += 12 * config.layers * heads * seen + 6 * config.vocab_size * config.width * predicting
    return total
