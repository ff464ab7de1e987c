"""Low-rank adapters: the base untouched, PEFT's mathematics, PEFT's files."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import load_model, module_digest, save_model
from model.lora import add_adapters, disabled, load_adapters, merge, merged_state, save_adapters
from model.rotary import Rope
from model.transformer import ModelConfig, Transformer

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE |= {"intermediate_size": 40, "vocab_size": 61, "max_position_embeddings": 64, "pad_token_id": None}
GPT2 = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 61}
FAMILIES = {  # transformers config class, settings, targets, the matrices of a layer that they mean
    "llama": ("LlamaConfig", SHAPE, ALL, ALL),
    "llama-q-v": ("LlamaConfig", SHAPE, ["q_proj", "v_proj"], ["q_proj", "v_proj"]),
    "llama-biases": (
        "LlamaConfig",
        SHAPE | {"attention_bias": True, "mlp_bias": True},
        ["up_proj"],
        ["up_proj"],
    ),
    "qwen2-tied": ("Qwen2Config", SHAPE | {"tie_word_embeddings": True}, ALL, ALL),
    "gemma": ("GemmaConfig", SHAPE | {"head_dim": 16}, ALL, ALL),
    "phi3": ("Phi3Config", SHAPE, ALL, ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    "starcoder2": ("Starcoder2Config", SHAPE, ALL, [*ALL[:4], "c_fc", "c_proj"]),
    "gpt2": ("GPT2Config", GPT2, ALL, ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]),
    "gpt2-attention": ("GPT2Config", GPT2, ["c_attn", "attn.c_proj"], ["attn.c_attn", "attn.c_proj"]),
    "gpt_bigcode": ("GPTBigCodeConfig", GPT2 | {"multi_query": False}, ["c_attn"], ["c_attn"]),
    "cohere": ("CohereConfig", SHAPE, ALL, ALL),
}
IDS = torch.randint(0, 61, (12,), generator=torch.Generator().manual_seed(1))


def hidden(model: Transformer) -> torch.Tensor:
    spans = torch.tensor([[0, 6, 6, 0]], dtype=torch.int32)
    return model(IDS, torch.arange(12), spans)


def logits(model: Transformer) -> torch.Tensor:
    return hidden(model) @ model.lm_head.weight.T


def tiny(dtype: torch.dtype = torch.float32) -> Transformer:
    torch.manual_seed(0)
    shape = {"vocab_size": 61, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8}
    config = ModelConfig(**shape, mlp_width=40, context=64, rope=Rope(8))
    return Transformer(config).to(dtype)


def randomize(model: torch.nn.Module) -> None:
    """Give every B something to do."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0.0, 0.2, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fresh_and_disabled_adapters_are_the_base_bit_for_bit(dtype):
    model = tiny(dtype)
    with torch.no_grad():
        expected = hidden(model)
        add_adapters(model, 4, 8, ALL)
        assert torch.equal(hidden(model), expected)
        randomize(model)
        changed = hidden(model)
        with disabled(model):
            assert torch.equal(hidden(model), expected)
        assert torch.equal(hidden(model), changed)
    assert not torch.equal(changed, expected)


def test_only_adapters_train():
    model = tiny()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    add_adapters(model, 4, 8, ALL)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in model.named_parameters()} - before.keys()
    assert len(trained) == 2 * 7 * model.config.layers
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    hidden(model).square().sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert name in trained or (parameter.grad is None and torch.equal(parameter, before[name]))
    assert any(p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


def test_the_change_is_alpha_over_rank_times_b_a_per_projection():
    """k_proj alone: rows 32..48 of the fused matrix change by 3/2 * B A, all others stay."""
    model = tiny()
    base = model.blocks[0].attention.qkv.weight.detach().clone()
    assert add_adapters(model, 2, 3, ["k_proj"]) == [f"model.layers.{i}.self_attn.k_proj" for i in range(2)]
    randomize(model)
    adapter = model.blocks[0].attention.qkv.adapters["k_proj"]
    expected = base.clone()
    expected[32:48] += 1.5 * adapter.b.detach() @ adapter.a.detach()
    torch.testing.assert_close(merged_state(model)["blocks.0.attention.qkv.weight"], expected)


def test_a_seed_fixes_the_start():
    first, second, third = tiny(), tiny(), tiny()
    for model, seed in ((first, 1), (second, 1), (third, 2)):
        add_adapters(model, 4, 8, ALL, generator=torch.Generator().manual_seed(seed))
    assert module_digest(first) == module_digest(second) != module_digest(third)


def test_merging_keeps_the_function_and_restores_the_module():
    model = tiny()
    names = {name for name, _ in model.named_parameters()}
    add_adapters(model, 4, 8, ALL)
    randomize(model)
    expected, state = hidden(model), merged_state(model)
    merge(model)
    torch.testing.assert_close(hidden(model), expected, atol=2e-4, rtol=1e-4)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == names == state.keys()
    assert all(torch.equal(p, state[name]) for name, p in model.named_parameters())
    assert type(model.blocks[0].attention.qkv) is torch.nn.Linear


def test_saving_in_the_middle_of_training_writes_merged_weights(tmp_path):
    model = tiny()
    add_adapters(model, 4, 8, ALL)
    randomize(model)
    save_model(model, tmp_path / "merged")
    torch.testing.assert_close(hidden(load_model(tmp_path / "merged")), hidden(model), atol=2e-4, rtol=1e-4)


def test_adapter_files_are_small_and_come_back(tmp_path):
    model, again = tiny(), tiny()
    names = add_adapters(model, 2, 8, ["q_proj", "down_proj"])
    randomize(model)
    save_adapters(model, tmp_path, base="some/model")
    assert load_adapters(again, tmp_path) == names
    assert torch.equal(hidden(again), hidden(model))
    size = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < size + 4096


@pytest.mark.parametrize(
    ("rank", "targets", "message"),
    [
        (0, ALL, "at least 1, found 0"),
        (4, ["q_proj", "query"], r"\['query'\] are no layers of a llama model; it has down_proj, gate_proj"),
        (4, [], "are no layers"),
        (4, ["lm_head"], r"\['lm_head'\]"),
    ],
)
def test_impossible_adapters_are_errors(rank, targets, message):
    with pytest.raises(ValueError, match=message):
        add_adapters(tiny(), rank, 8, targets)


def test_adapters_do_not_pile_up(tmp_path):
    model = tiny()
    with pytest.raises(ValueError, match="no adapters to save"):
        save_adapters(model, tmp_path)
    add_adapters(model, 4, 8, ALL)
    with pytest.raises(ValueError, match="merge them before"):
        add_adapters(model, 4, 8, ALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "plain LORA.*use_dora"),
        ({"peft_type": "IA3"}, "plain LORA.*IA3"),
        ({"bias": "all"}, "plain LORA.*bias"),
        ({"lora_bias": True}, "plain LORA.*lora_bias"),
        ({"init_lora_weights": "pissa_niter_4"}, "plain LORA.*init_lora_weights"),
        ({"r": 3}, "lora_. of .* has shape"),
    ],
)
def test_other_kinds_and_shapes_of_adapters_are_errors(tmp_path, change, message):
    model = tiny()
    add_adapters(model, 2, 8, ["q_proj"])
    save_adapters(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        load_adapters(tiny(), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"base_model.model.model.norm.weight": torch.ones(1)}, "model.norm.weight is not"),
        (lambda t: dict(list(t.items())[1:]), "only one of lora_A and lora_B"),
        (lambda t: {n.replace("q_proj", "w_proj"): v for n, v in t.items()}, "are no layers of a llama"),
    ],
)
def test_adapter_files_that_hold_something_else_are_errors(tmp_path, change, message):
    model = tiny()
    add_adapters(model, 2, 8, ["q_proj"])
    save_adapters(model, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(ValueError, match=message):
        load_adapters(tiny(), tmp_path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is not .* `git lfs pull`"):
        load_adapters(tiny(), tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is missing"):
        load_adapters(tiny(), tmp_path)
    with pytest.raises(ValueError, match=r"adapter_config\.json is missing"):
        load_adapters(tiny(), tmp_path / "nowhere")
    (tmp_path / "adapter_config.json").write_text("<html>")
    with pytest.raises(ValueError, match=r"adapter_config\.json is not JSON: it is a web page"):
        load_adapters(tiny(), tmp_path)


# ---- against PEFT


@pytest.fixture(params=FAMILIES)
def pair(request, tmp_path):
    """(our model with random adapters, transformers' model without, folder of the base)."""
    transformers = pytest.importorskip("transformers", reason="adapters are compared with PEFT on its models")
    pytest.importorskip("peft", reason="adapters are compared with PEFT")
    kind, settings, targets, expected = FAMILIES[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**settings)
    theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    theirs.save_pretrained(tmp_path / "base")
    ours = load_model(tmp_path / "base", dtype=torch.float32)
    ours = copy.deepcopy(ours)  # not the mapped pages of the file
    names = add_adapters(ours, 3, 6, targets)
    assert len(names) == 2 * len(expected)
    assert all(any(name.endswith(f".{end}") for end in expected) for name in names)
    randomize(ours)
    return ours, theirs, tmp_path / "base"


def test_peft_loads_our_adapters_and_computes_the_same(pair, tmp_path):
    import peft

    ours, theirs, _ = pair
    save_adapters(ours, tmp_path / "adapter")
    other = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True)
    count = sum(p.numel() for p in ours.parameters() if p.requires_grad)
    assert sum(p.numel() for p in other.parameters() if p.requires_grad) == count
    expected = other(IDS[None]).logits[0]
    torch.testing.assert_close(logits(ours), expected, atol=2e-4, rtol=1e-4)
    logits(ours).square().mean().backward()
    expected.square().mean().backward()
    norms = [
        torch.stack([p.grad.norm() for p in m.parameters() if p.requires_grad]).norm() for m in (ours, other)
    ]
    torch.testing.assert_close(*norms, atol=1e-4, rtol=1e-3)


def test_our_model_loads_adapters_that_peft_wrote(pair, tmp_path):
    import peft

    ours, theirs, base = pair
    save_adapters(ours, tmp_path / "adapter")
    peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").save_pretrained(tmp_path / "theirs")
    again = load_model(base, dtype=torch.float32)
    load_adapters(again, tmp_path / "theirs")
    torch.testing.assert_close(hidden(again), hidden(ours))


def test_merged_checkpoints_are_the_adapted_model(pair, tmp_path):
    import transformers

    ours, _, _ = pair
    merge(ours)
    save_model(ours, tmp_path / "merged")
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    torch.testing.assert_close(logits(ours), other(IDS[None]).logits[0], atol=2e-4, rtol=1e-4)


def test_adapters_scaled_by_the_root_of_the_rank_come_from_peft(tmp_path):
    transformers = pytest.importorskip("transformers", reason="adapters are compared with PEFT on its models")
    peft = pytest.importorskip("peft", reason="adapters are compared with PEFT")
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SHAPE)).eval()
    theirs.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(
        r=4, lora_alpha=6, use_rslora=True, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    other = peft.get_peft_model(theirs, config)
    randomize(other)
    other.save_pretrained(tmp_path / "adapter")
    ours = load_model(tmp_path / "base", dtype=torch.float32)
    load_adapters(ours, tmp_path / "adapter")
    torch.testing.assert_close(logits(ours), other(IDS[None]).logits[0], atol=2e-4, rtol=1e-4)
    save_adapters(ours, tmp_path / "ours")  # with the plain scale that means the same
    again = load_model(tmp_path / "base", dtype=torch.float32)
    load_adapters(again, tmp_path / "ours")
    torch.testing.assert_close(hidden(again), hidden(ours), atol=1e-5, rtol=1e-5)
