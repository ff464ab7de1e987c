"""config.json as published files have it, both spellings and their traps; no weights, no transformers."""

import re
from dataclasses import replace

import pytest

from model.config import ConfigError
from model.families import DIFFERENT, FAMILIES, parse_config, to_config_json
from model.rotary import Rope
from model.transformer import ModelConfig

LLAMA = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
}


def test_the_base_of_the_rope_is_found_in_both_spellings():
    assert parse_config(LLAMA).rope == Rope(16)
    assert parse_config(LLAMA | {"rope_theta": 5e5, "rope_scaling": None}).rope == Rope(16, base=5e5)
    new = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}
    assert parse_config(LLAMA | new).rope == Rope(16, base=5e5)
    assert parse_config(LLAMA | new | {"rope_theta": 1e4}).rope.base == 5e5


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_deepseek_coder_has_linear_scaling(key):
    config = parse_config(LLAMA | {"rope_theta": 100000, "rope_scaling": {"factor": 4.0, key: "linear"}})
    assert config.rope == Rope(16, base=1e5, kind="linear", factor=4.0)


def test_llama_3_scaling_and_a_list_of_end_tokens():
    scaling = {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }
    extra = {"eos_token_id": [128001, 128008], "mlp_bias": False, "pretraining_tp": 1, "head_dim": 16}
    rope = parse_config(LLAMA | extra | {"rope_scaling": scaling, "rope_theta": 5e5}).rope
    assert rope == Rope(16, base=5e5, kind="llama3", factor=32.0, context=8192, low=1.0, high=4.0)


def test_qwen2_windows_are_off_unless_switched_on_and_from_a_layer_on():
    qwen = LLAMA | {
        "model_type": "qwen2",
        "num_key_value_heads": 2,
        "sliding_window": 8,
        "max_window_layers": 3,
    }
    assert parse_config(qwen | {"use_sliding_window": False}).windows == ()
    assert parse_config(qwen | {"use_sliding_window": True}).windows == (0, 0, 0, 8)
    listed = ["sliding_attention", "full_attention"] * 2
    assert parse_config(qwen | {"use_sliding_window": True, "layer_types": listed}).windows == (8, 0, 8, 0)
    assert parse_config(qwen).qkv_bias
    assert not parse_config(qwen).out_bias


def test_a_window_of_null_is_none_and_an_absent_one_is_the_class_default():
    mistral = LLAMA | {"model_type": "mistral", "num_key_value_heads": 2}
    assert parse_config(mistral | {"sliding_window": None}).windows == ()
    assert parse_config(mistral).windows == (4096,) * 4
    nemo = parse_config(mistral | {"sliding_window": None, "head_dim": 32})
    assert nemo.head_width == nemo.rope.width == 32


def test_the_head_is_tied_where_the_class_says_so_and_the_file_does_not():
    tied = {"gemma", "gemma2", "gemma3_text", "starcoder2", "smollm3", "gpt2", "gpt_bigcode", "cohere"}
    for name in FAMILIES:
        config = LLAMA | {"model_type": name, "num_key_value_heads": 4}
        if name.startswith("gpt"):
            config = {"model_type": name, "vocab_size": 9, "n_embd": 64, "n_layer": 4, "n_head": 4}
        assert parse_config(config).tied == (name in tied), name
        assert not parse_config(config | {"tie_word_embeddings": False}).tied


def test_the_first_gemma_files_say_gelu_and_mean_its_tanh_form():
    gemma = LLAMA | {"model_type": "gemma", "hidden_act": "gelu", "head_dim": 256, "num_key_value_heads": 1}
    config = parse_config(gemma | {"hidden_activation": None})
    assert config.activation == "gelu_tanh"
    assert config.head_width == 256
    assert config.embedding_scale == 8.0
    assert config.norm_plus_one


def test_an_old_key_stands_for_the_new_one_where_both_are_there():
    """So transformers reads them: rope_scaling replaces all of rope_parameters, its base too."""
    both = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    both |= {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 3e3}
    assert parse_config(LLAMA | both).rope == Rope(16, base=3e3, kind="linear", factor=4.0)


def test_codeparrot_divides_scores_by_the_number_of_the_layer():
    gpt2 = {"model_type": "gpt2", "vocab_size": 9, "n_embd": 64, "n_layer": 3, "n_head": 4}
    config = parse_config(gpt2 | {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True})
    assert [config.score_scale(layer) for layer in range(3)] == [0.25, 0.125, 0.25 / 3]
    assert parse_config(gpt2).score_scale(2) == 0.25


@pytest.mark.parametrize("kind", ["su", "yarn", "longrope"])
def test_phi_3_long_contexts(kind):
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    phi = LLAMA | {"model_type": "phi3", "max_position_embeddings": 131072}
    config = parse_config(
        phi | {"original_max_position_embeddings": 4096, "rope_scaling": factors | {"type": kind}}
    )
    assert config.rope.kind == "longrope"
    assert config.rope.context == 4096
    assert config.rope.scale == pytest.approx(1.190238)  # sqrt(1 + ln 32 / ln 4096)


def test_partial_rotation_stands_in_either_place():
    stablelm = LLAMA | {"model_type": "stablelm", "num_key_value_heads": 4}
    assert parse_config(stablelm).rope.width == 4  # 0.25 when absent
    assert parse_config(stablelm | {"partial_rotary_factor": 0.5}).rope.width == 8
    new = {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}}
    assert parse_config(stablelm | new).rope.width == 8
    with pytest.raises(ValueError, match="partial_rotary_factor"):
        parse_config(LLAMA | {"partial_rotary_factor": 0.5})


def test_gemma_3_has_a_rope_for_layers_with_a_window():
    gemma = LLAMA | {"model_type": "gemma3_text", "sliding_window": 8, "sliding_window_pattern": 2}
    old = gemma | {
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"type": "linear", "factor": 8.0},
    }
    config = parse_config(old)
    assert config.windows == (8, 0, 8, 0)
    assert config.layer_rope(0) == Rope(256)
    assert config.layer_rope(1) == Rope(256, base=1e6, kind="linear", factor=8.0)
    new = gemma | {
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        }
    }
    assert parse_config(new) == config


def test_olmo_3_has_a_base_of_its_own_where_none_is_given():
    olmo = LLAMA | {"model_type": "olmo3", "sliding_window": 8}
    assert parse_config(olmo).rope == Rope(16, base=5e5)
    assert parse_config(olmo).local_rope is None
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}
    config = parse_config(olmo | {"rope_theta": 1e6, "rope_scaling": yarn})
    assert config.layer_rope(3).kind == "yarn"
    assert config.layer_rope(3).base == 1e6
    assert config.layer_rope(0) == Rope(16, base=5e5)  # layers with a window: neither, as in transformers


def test_yarn_writes_as_far_as_it_stretches_the_positions():
    """Qwen2.5 keeps the old length in its config; others give the new one."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    for length, longest in ((32, 128), (128, 128), (256, 256)):
        config = parse_config(LLAMA | {"max_position_embeddings": length, "rope_scaling": yarn})
        assert config.longest == longest


def test_smollm3_leaves_positions_out_of_every_fourth_layer():
    smol = LLAMA | {"model_type": "smollm3"}
    assert parse_config(smol).layers_without_rope == (3,)
    assert parse_config(smol | {"no_rope_layers": [0, 1, 1, 0]}).layers_without_rope == (0, 3)
    assert parse_config(smol).rope.base == 2_000_000


# --------------------------------------------------------------------------------------------- errors


def test_an_unsupported_family_is_told_why_and_what_there_is():
    for name, why in DIFFERENT.items():
        assert name not in FAMILIES
        with pytest.raises(ValueError, match=rf"{name}.*{re.escape(why)}.*supported: llama, mistral"):
            parse_config(LLAMA | {"model_type": name})
    with pytest.raises(ValueError, match="model_type None is not supported"):
        parse_config({})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
        ({"num_local_experts": 8}, "num_local_experts=8"),
        ({"rope_interleaved": True}, "rope_interleaved=True"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type='alibi'"),
        ({"hidden_act": "quick_gelu"}, "activation 'quick_gelu'"),
        ({"rope_scaling": {"type": "ntk", "factor": 2.0}}, "rope type 'ntk'"),
        ({"rms_norm_eps": [1e-6]}, r"makes no sense, probably rms_norm_eps=\[1e-06\] .*put it right"),
        (
            {"rms_norm_eps": "abc"},
            "config.json .* no sense, probably rms_norm_eps='abc' .*put it right",
        ),
        ({"rope_theta": "abc"}, "config.json .* makes no sense, probably rope_theta='abc' "),
        ({"rope_parameters": {"full_attention": 1}}, "makes no sense, probably rope_parameters="),
        ({"model_type": "granite", "logits_scaling": 0}, "probably logits_scaling=0 "),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "layer_types": ["sliding_attention"] * 7},
            "has 7",
        ),
        ({"model_type": "smollm3", "no_rope_layers": [1]}, "no_rope_layers has 1 entries for "),
        ({"head_dim": 5}, "turns 5 of a head's 5 dimensions, expected an even number"),
        ({"rope_scaling": {"type": "linear"}}, "rope type 'linear' needs 'factor'"),
        ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, "needs 'low_freq_factor'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 1000}}, "does not know alpha"),
        ({"num_key_value_heads": 3}, "4 query heads cannot share 3"),
        ({"hidden_size": None}, "lacks 'hidden_size'"),
        ({"hidden_size": "64"}, "hidden_size is '64', expected a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"intermediate_size": [96]}, r"intermediate_size is \[96\]"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear', expected an object"),
        (
            {"model_type": "qwen2", "num_key_value_heads": 4, "layer_types": ["linear_attention"] * 4},
            "layer_types has",
        ),
        (
            {"model_type": "gemma", "num_key_value_heads": 4, "use_bidirectional_attention": True},
            "bidirectional",
        ),
        ({"is_causal": False}, "is_causal"),
    ],
)
def test_what_would_change_the_computation_is_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(LLAMA | keys)


def test_a_mistake_of_another_kind_is_told_from_ours_by_its_type_not_by_its_words(monkeypatch):
    def read(keys, values):
        raise ValueError("config.json is what this one begins with, too")

    monkeypatch.setitem(FAMILIES, "llama", replace(FAMILIES["llama"], read=read))
    with pytest.raises(ConfigError, match="makes no sense, probably .* begins with, too"):
        parse_config(LLAMA)


def test_what_is_known_to_be_harmless_is_ignored():
    harmless = {
        "attention_dropout": 0.1,
        "transformers_version": "4.44.0",
        "auto_map": {"AutoModel": "x.y"},
        "is_llama_config": True,
        "rope_interleaved": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "unsloth_version": "2024.9",
        "something_switched_off": False,
    }
    assert parse_config(LLAMA | harmless) == parse_config(LLAMA)


def test_settings_of_generation_and_training_in_old_files_are_ignored():
    """transformers 4 wrote them into config.json, and transformers 5 drops them when it reads one."""
    for keys in (
        {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 50, "max_length": 4096},
        {"num_beams": 1, "repetition_penalty": 1.1, "length_penalty": 1.0, "max_new_tokens": 512},
        {"forced_eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": [5], "prefix": "x"},
        {"gradient_checkpointing": True, "model_max_length": 4096, "ffn_dropout": 0.1},
        {"_attn_implementation_autoset": True, "_flash_attn_2_enabled": True, "name_or_path": "x"},
        {"layer_types": ["full_attention"] * 4, "chunk_size_feed_forward": 1, "max_batch_size": 8},
    ):
        assert parse_config(LLAMA | keys) == parse_config(LLAMA)
    with pytest.raises(ValueError, match="layer_types"):
        parse_config(LLAMA | {"layer_types": ["sliding_attention"] * 4, "sliding_window": 8})


@pytest.mark.parametrize(
    ("family", "key", "said", "other"),
    [
        ("qwen2", "rotary_emb_base", 1e6, 1e4),  # CodeQwen1.5
        ("starcoder2", "layer_norm_epsilon", 1e-5, 1e-6),
        ("gemma2", "sliding_window_size", 8, 16),
        ("stablelm", "rope_pct", 0.25, 0.5),
        ("stablelm", "norm_eps", 1e-5, 1e-6),
        ("stablelm", "rotary_scaling_factor", 1.0, 2.0),
    ],
)
def test_a_second_name_is_ignored_where_it_says_the_same(family, key, said, other):
    config = LLAMA | {"model_type": family, "num_key_value_heads": 4, "sliding_window": 8}
    config |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    if family == "stablelm":
        del config["sliding_window"]
    assert parse_config(config | {key: said}) == parse_config(config)
    with pytest.raises(ValueError, match=f"{key}={other!r}"):
        parse_config(config | {key: other})


def test_what_a_layout_cannot_say_is_refused_when_saving():
    config = parse_config(LLAMA)
    assert isinstance(config, ModelConfig)
    for change in (
        {"qk_norm": "head"},
        {"out_bias": True},
        {"logit_softcap": 30.0},
        {"windows": (8, 0, 0, 0)},
    ):
        with pytest.raises(ValueError, match=f"llama layout cannot say {next(iter(change))}"):
            to_config_json(replace(config, **change))
