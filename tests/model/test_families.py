"""Every family and odd setting against transformers: random tiny checkpoints, written here, loaded by both.

Without transformers only the parsing tests run; test_goldens.py has recorded numbers for
that case.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import load_model, save_model, split_published
from model.families import FAMILIES, parse_config
from model.generate import Request, generate
from model.layouts import published_tensors

YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "rope_theta": 5e5,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 3.0],
    "long_factor": [1.0, 2.0, 4.0, 7.0, 11.0, 17.0],
}
GEMMA = {"head_dim": 16, "num_key_value_heads": 1}
GPT2 = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64}
WINDOWED = ["sliding_attention", "full_attention", "sliding_attention"]

# name -> (transformers config class, what differs from the tiny shape below)
CASES = {
    "llama": ("LlamaConfig", {}),
    "llama-all-biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "llama-tied-mqa": ("LlamaConfig", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "llama-linear": (
        "LlamaConfig",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e5}},
    ),
    "llama-dynamic": (
        "LlamaConfig",
        {
            "max_position_embeddings": 24,
            "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
        },
    ),
    "llama-llama3": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "llama-yarn": ("LlamaConfig", {"rope_parameters": YARN}),
    "llama-yarn-mscale": (
        "LlamaConfig",
        {
            "rope_parameters": YARN
            | {"mscale": 0.7, "mscale_all_dim": 1.2, "beta_fast": 16, "truncate": False}
        },
    ),
    "llama-longrope": (
        "LlamaConfig",
        {"rope_parameters": LONG | {"original_max_position_embeddings": 16, "factor": 4.0}},
    ),
    "mistral-window": ("MistralConfig", {"sliding_window": 7, "rms_norm_eps": 1e-5}),
    "mistral-nemo": ("MistralConfig", {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen2-windows": (
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "qwen2-window-off": ("Qwen2Config", {"sliding_window": 6, "max_window_layers": 1}),
    "qwen2-yarn": ("Qwen2Config", {"rope_parameters": YARN}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
    "qwen3-bias-window": (
        "Qwen3Config",
        {
            "head_dim": 16,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": WINDOWED,
        },
    ),
    "starcoder2": ("Starcoder2Config", {"sliding_window": 9}),
    "starcoder2-no-bias-untied": (
        "Starcoder2Config",
        {"use_bias": False, "tie_word_embeddings": False, "hidden_act": "gelu"},
    ),
    "gemma": ("GemmaConfig", GEMMA),
    "gemma-gelu-bias": ("GemmaConfig", GEMMA | {"hidden_act": "gelu", "attention_bias": True}),
    "gemma2": ("Gemma2Config", GEMMA | {"sliding_window": 6, "query_pre_attn_scalar": 24}),
    "gemma2-no-caps": (
        "Gemma2Config",
        GEMMA
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None, "layer_types": WINDOWED[::-1]},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        GEMMA | {"sliding_window": 6, "layer_types": WINDOWED, "attn_logit_softcapping": 2.0},
    ),
    "gemma3-linear": (
        "Gemma3TextConfig",
        GEMMA
        | {
            "sliding_window": 6,
            "layer_types": WINDOWED,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "phi3": ("Phi3Config", {"sliding_window": 11}),
    "phi3-longrope": (
        "Phi3Config",
        {"rope_parameters": LONG, "original_max_position_embeddings": 16, "max_position_embeddings": 64},
    ),
    "phi3-partial": (
        "Phi3Config",
        {
            "hidden_size": 64,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75},
        },
    ),
    "granite": (
        "GraniteConfig",
        {
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.13,
            "residual_multiplier": 0.22,
            "logits_scaling": 6.0,
            "tie_word_embeddings": True,
        },
    ),
    "granite-biases": ("GraniteConfig", {"attention_bias": True, "mlp_bias": True}),
    "olmo": ("OlmoConfig", {"clip_qkv": 0.8}),
    "olmo2": ("Olmo2Config", {}),
    "olmo2-bias": ("Olmo2Config", {"attention_bias": True, "num_key_value_heads": 4}),
    "olmo3": ("Olmo3Config", {"sliding_window": 6, "layer_types": WINDOWED}),
    "olmo3-yarn": (
        "Olmo3Config",
        {
            "sliding_window": 6,
            "layer_types": WINDOWED,
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "smollm3": ("SmolLM3Config", {"no_rope_layer_interval": 2}),
    "smollm3-windows": (
        "SmolLM3Config",
        {
            "no_rope_layers": [0, 1, 1],
            "use_sliding_window": True,
            "sliding_window": 5,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "stablelm": ("StableLmConfig", {"use_qkv_bias": True, "hidden_size": 64}),
    "stablelm-parallel-qk-norm": (
        "StableLmConfig",
        {
            "use_parallel_residual": True,
            "qk_layernorm": True,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        },
    ),
    "stablelm-all-rotary": (
        "StableLmConfig",
        {
            "hidden_size": 64,
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 2.0,
                "rope_theta": 1e4,
                "partial_rotary_factor": 1.0,
            },
        },
    ),
    "gpt_bigcode": ("GPTBigCodeConfig", GPT2),
    "gpt_bigcode-mha": ("GPTBigCodeConfig", GPT2 | {"multi_query": False, "n_inner": 80}),
    "gpt2": ("GPT2Config", GPT2),
    "gpt2-unscaled": ("GPT2Config", GPT2 | {"scale_attn_weights": False, "tie_word_embeddings": False}),
    "gpt2-scaled-by-depth": ("GPT2Config", GPT2 | {"scale_attn_by_inverse_layer_idx": True}),
    "cohere": ("CohereConfig", {}),
    "cohere-bias": (
        "CohereConfig",
        {"attention_bias": True, "tie_word_embeddings": False, "logit_scale": 0.25},
    ),
}
TINY = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
VOCAB, LENGTH = 199, 40


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="the oracle: pip install -r requirements-dev.txt")


@pytest.fixture(scope="module")
def checkpoints(transformers, tmp_path_factory):
    """name -> (folder, transformers model), made once each, with every parameter random."""
    made = {}

    def make(name: str):
        if name not in made:
            kind, settings = CASES[name]
            shape = {} if "n_embd" in settings else TINY
            config = getattr(transformers, kind)(
                **{
                    "vocab_size": VOCAB,
                    "pad_token_id": 0,
                    "bos_token_id": 1,
                    "eos_token_id": 2,
                    **shape,
                    **settings,
                }
            )
            torch.manual_seed(len(made))
            model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(0, 0.3 if parameter.dim() == 1 else 0.15)
                    if parameter.dim() == 1:
                        parameter.add_(0.0 if "gemma" in name else 0.7)
            folder = tmp_path_factory.mktemp(name)
            model.save_pretrained(folder)
            made[name] = folder, model
        return made[name]

    return make


def old_spelling(config: dict, class_default_tied: bool) -> dict:
    """config.json as transformers 4 wrote it."""
    old = dict(config)
    old["torch_dtype"] = old.pop("dtype", "float32")
    old.pop("layer_types", None)
    if old.get("tie_word_embeddings") == class_default_tied:
        old.pop("tie_word_embeddings", None)
    rope = old.pop("rope_parameters", None)
    if rope is None:
        return old
    if "full_attention" in rope:
        if config["model_type"] == "gemma3_text":
            old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    rope = dict(rope)
    old["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        old["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    kind = rope.pop("rope_type")
    old["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    return old


def our_logits(model, ids: torch.Tensor) -> torch.Tensor:
    """[L] -> [L, V] through the flat layout, soft-cap included."""
    length = len(ids)
    hidden = model(ids, torch.arange(length), torch.tensor([[0, length, 0, 0]], dtype=torch.int32))
    logits = hidden @ model.lm_head.weight.T
    cap = model.config.logit_softcap
    return cap * torch.tanh(logits / cap) if cap else logits


def sum_logps(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return logits[:-1].log_softmax(-1).gather(1, ids[1:, None]).sum()


@pytest.mark.parametrize("name", CASES)
def test_logits_logps_and_gradients_equal_transformers(name, checkpoints):
    folder, theirs = checkpoints(name)
    ours = load_model(folder)
    ids = torch.randint(3, VOCAB, (LENGTH,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # also below the length where long-context ropes change
        short = theirs(ids[None, :9]).logits[0]
    torch.testing.assert_close(our_logits(ours, ids[:9]), short, atol=2e-4, rtol=0)
    expected = theirs(ids[None]).logits[0]
    logits = our_logits(ours, ids)
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=0)
    a, b = sum_logps(logits, ids), sum_logps(expected, ids)
    torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-5)
    theirs.zero_grad()
    a.backward()
    b.backward()
    table = published_tensors(ours)
    gradients = dict(split_published(table, {n: p.grad for n, p in ours.named_parameters()}))
    published = {n: p.grad for n, p in theirs.named_parameters()}
    assert set(gradients) == set(published)
    for key, gradient in published.items():
        scale = gradient.abs().max().item() + 1e-3
        torch.testing.assert_close(gradients[key] / scale, gradient / scale, atol=2e-4, rtol=0, msg=key)


@pytest.mark.parametrize(
    ("name", "use_cache"),
    # Phi-3 drops its cache where the angles change; other classes keep keys that are turned by the old ones
    [("phi3-longrope", True), ("llama-longrope", False), ("llama-dynamic", False)],
)
def test_a_text_written_across_a_change_of_angles_is_that_of_transformers(name, use_cache, checkpoints):
    folder, theirs = checkpoints(name)
    prompt = torch.randint(3, VOCAB, (1, 12), generator=torch.Generator().manual_seed(4))
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=20,
        do_sample=False,
        use_cache=use_cache,
        output_logits=True,
        return_dict_in_generate=True,
        eos_token_id=-1,
    )
    request = Request("a", prompt[0].tolist(), temperature=0.0, max_new_tokens=20)
    (ours,) = generate(load_model(folder), [request], batch_size=1, logps=True)
    drawn = expected.sequences[0, 12:]
    assert ours.ids == drawn.tolist()
    logps = torch.cat(expected.logits).log_softmax(-1).gather(1, drawn[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(ours.logps), logps, atol=1e-4, rtol=0)


def write_legacy(folder: Path, tensors: dict[str, torch.Tensor], tied: bool) -> None:
    """As old tools did: one pickled file, no prefix, a tied head stored again, buffers beside the weights."""
    prefix = "transformer." if "transformer.wte.weight" in tensors else "model."
    bare = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if tied:
        bare["lm_head.weight"] = bare["wte.weight" if prefix == "transformer." else "embed_tokens.weight"]
    for i in range(3):
        bare |= {f"layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4)} if prefix == "model." else {}
        bare |= {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64)} if prefix == "transformer." else {}
    torch.save(bare, folder / "pytorch_model.bin")


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], tied: bool) -> None:
    """Half precision, three files and their index; a stray file beside them belongs to nothing."""
    names, places = sorted(tensors), {}
    for i in range(3):
        part, file = names[i::3], f"model-{i + 1:05d}-of-00003.safetensors"
        save_file({name: tensors[name].half() for name in part}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "consolidated.safetensors").write_bytes(b"other tools' weights")


@pytest.mark.parametrize("write", [write_legacy, write_shards])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_from_every_kind_of_file(family, write, checkpoints, transformers, tmp_path):
    """In files that no present tool writes but many folders hold."""
    name = family.removesuffix("_text")
    made, _ = checkpoints(next(case for case in CASES if case.split("-")[0] == name))
    config = json.loads((made / "config.json").read_text())
    assert config["model_type"] == family
    (tmp_path / "config.json").write_text(json.dumps(config))
    write(tmp_path, load_file(made / "model.safetensors"), config["tie_word_embeddings"])
    ids = torch.randint(3, VOCAB, (LENGTH,), generator=torch.Generator().manual_seed(0))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", dtype=torch.float32
    )
    with torch.no_grad():
        expected = theirs.eval()(ids[None]).logits[0]
        ours = our_logits(load_model(tmp_path, dtype=torch.float32), ids)
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_the_old_spelling_of_config_json_means_the_same(name, checkpoints):
    if name in ("qwen3-bias-window", "gemma3", "gemma3-linear", "olmo3", "olmo3-yarn", "gemma2-no-caps"):
        pytest.skip("layer_types of this case cannot be said in the old spelling")
    folder, theirs = checkpoints(name)
    new = json.loads((folder / "config.json").read_text())
    old = old_spelling(new, type(theirs.config)().tie_word_embeddings)
    assert parse_config(old) == parse_config(new)


@pytest.mark.parametrize("name", CASES)
def test_what_is_saved_loads_in_transformers_with_equal_logits(name, checkpoints, transformers, tmp_path):
    folder, theirs = checkpoints(name)
    ours = load_model(folder)
    save_model(ours, tmp_path / "again")
    del ours.source_config  # and with a config.json that is only ours
    save_model(ours, tmp_path / "fresh")
    ids = torch.randint(3, VOCAB, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(ids).logits
        for saved in ("again", "fresh"):
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                tmp_path / saved, attn_implementation="eager", output_loading_info=True
            )
            assert not report["missing_keys"]
            assert not report["unexpected_keys"]
            torch.testing.assert_close(model.eval()(ids).logits, expected, atol=2e-6, rtol=0)
    assert parse_config(json.loads((tmp_path / "fresh/config.json").read_text())) == ours.config
