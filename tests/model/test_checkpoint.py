"""Checkpoint folders: what is saved comes back bit for bit; what is broken is refused with its name."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import model.checkpoint as checkpoint
from model.checkpoint import load_model, module_digest, read_config, save_model, take_back, weights_digest
from model.rotary import Rope
from model.transformer import ModelConfig, Transformer

LLAMA = ModelConfig(
    vocab_size=64,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=8,
    mlp_width=48,
    context=64,
    rope=Rope(8),
)
CONFIGS = {
    "llama": LLAMA,
    "llama-tied": replace(LLAMA, tied=True),
    "qwen2": replace(LLAMA, family="qwen2", qkv_bias=True),
    "phi3": replace(LLAMA, family="phi3", norm_eps=1e-5),
    "gpt2": replace(
        LLAMA,
        family="gpt2",
        rope=None,
        kv_heads=4,
        norm="layer",
        norm_bias=True,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        gated=False,
        learned_positions=True,
        activation="gelu_tanh",
        tied=True,
    ),
    "stablelm": replace(
        LLAMA, family="stablelm", norm="layer", norm_bias=True, qk_norm="heads", rope=Rope(2), norm_eps=1e-5
    ),
    "cohere": replace(LLAMA, family="cohere", norm="layer", parallel=True, tied=True),
}


def random_model(config: ModelConfig = LLAMA, dtype: torch.dtype = torch.float32) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(config).to(dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def folder(tmp_path) -> Path:
    save_model(random_model(), tmp_path / "m")
    return tmp_path / "m"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shard_bytes", [10**9, 5000])
def test_saving_and_loading_keeps_every_bit(name, shard_bytes, tmp_path):
    model = random_model(CONFIGS[name], torch.bfloat16)
    save_model(model, tmp_path / "m", shard_bytes=shard_bytes)
    again = load_model(tmp_path / "m")
    assert again.config == model.config
    assert module_digest(again) == module_digest(model)
    assert (again.lm_head.weight is again.embedding.weight) == model.config.tied
    assert (tmp_path / "m/model.safetensors.index.json").exists() == (shard_bytes == 5000)


def test_files_have_the_published_names_and_the_format_tag(folder):
    from safetensors import safe_open

    tensors = weights(folder)
    assert tensors["model.layers.1.self_attn.k_proj.weight"].shape == (16, 32)
    assert {name.split(".")[-1] for name in tensors} == {"weight"}
    assert len(tensors) == 2 + 2 * 9 + 1
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    config = read_config(folder)
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10000.0


def test_a_tied_head_is_stored_once_and_may_be_stored_twice(tmp_path):
    model = random_model(CONFIGS["llama-tied"])
    save_model(model, tmp_path / "m")
    tensors = weights(tmp_path / "m")
    assert "lm_head.weight" not in tensors
    rewrite(tmp_path / "m", tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    assert module_digest(load_model(tmp_path / "m")) == module_digest(model)
    rounded = tensors["model.embed_tokens.weight"].bfloat16()
    rewrite(tmp_path / "m", tensors | {"lm_head.weight": rounded})
    assert module_digest(load_model(tmp_path / "m")) == module_digest(model)
    rewrite(tmp_path / "m", tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1})
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        load_model(tmp_path / "m")
    del tensors["model.embed_tokens.weight"]
    rewrite(tmp_path / "m", tensors | {"lm_head.weight": model.embedding.weight.detach().clone()})
    assert module_digest(load_model(tmp_path / "m")) == module_digest(model)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [None, torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_floating_dtype_is_converted_to_any_other(stored, wanted, tmp_path):
    model = random_model(dtype=stored)
    save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m", dtype=wanted)
    for (_, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a.to(wanted or stored), b)


@pytest.mark.parametrize("change", ["", "model.", "module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_that_tools_add_or_drop_do_not_matter(folder, change):
    tensors = weights(folder)
    if change:
        renamed = {change + name if change != "model." else name: t for name, t in tensors.items()}
    else:
        renamed = {name.removeprefix("model."): t for name, t in tensors.items()}
    if change == "model.":
        renamed = {"model." + name: t for name, t in tensors.items()}
    rewrite(folder, renamed)
    assert module_digest(load_model(folder)) == module_digest(random_model())


def test_rotary_buffers_and_causal_masks_of_old_files_are_ignored(folder, tmp_path):
    rewrite(folder, weights(folder) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    load_model(folder)
    model = random_model(CONFIGS["gpt2"])
    save_model(model, tmp_path / "g")
    tensors = {name.removeprefix("transformer."): t for name, t in weights(tmp_path / "g").items()}
    mask = {"h.0.attn.bias": torch.ones(1, 1, 8, 8), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    rewrite(tmp_path / "g", tensors | mask)
    assert module_digest(load_model(tmp_path / "g")) == module_digest(model)


def test_a_bin_file_may_hold_parameters(folder):
    """Of a llama, whose q, k and v are written into one matrix."""
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in weights(folder).items()}
    (folder / "model.safetensors").unlink()
    torch.save(parameters, folder / "pytorch_model.bin")
    assert module_digest(load_model(folder)) == module_digest(random_model())


@pytest.mark.parametrize("sharded", [False, True])
def test_legacy_bin_files_load_and_cannot_run_code(folder, sharded):
    tensors = weights(folder)
    (folder / "model.safetensors").unlink()
    if sharded:
        names = sorted(tensors)
        shards = {"a.bin": names[:9], "b.bin": names[9:]}
        for file, part in shards.items():
            torch.save({name: tensors[name] for name in part}, folder / file)
        places = {name: file for file, part in shards.items() for name in part}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    assert module_digest(load_model(folder)) == module_digest(random_model())
    assert len(weights_digest(folder)) == 64
    target = folder / ("a.bin" if sharded else "pytorch_model.bin")

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(folder / "owned"),))

    torch.save({"x": Evil()}, target)
    with pytest.raises(ValueError, match=target.name):
        load_model(folder)
    assert not (folder / "owned").exists()


def test_only_the_shards_that_the_index_names_are_read(tmp_path):
    model = random_model()
    save_model(model, tmp_path / "m", shard_bytes=5000)
    (tmp_path / "m/consolidated.safetensors").write_bytes(b"something else")
    save_file({"x": torch.ones(1)}, tmp_path / "m/model.safetensors")
    assert module_digest(load_model(tmp_path / "m")) == module_digest(model)


@pytest.mark.parametrize("width", [64, 56])
def test_projections_that_lie_apart_come_together(tmp_path, width):
    """In the order of published files, with matrices of whole pages (64 x 64 float32) and of others."""
    model = random_model(
        replace(LLAMA, width=width, head_width=width // 4, kv_heads=4, rope=Rope(width // 4))
    )
    save_model(model, tmp_path / "m")
    tensors = weights(tmp_path / "m")
    rewrite(tmp_path / "m", {name: tensors[name].clone() for name in sorted(tensors)})
    again = load_model(tmp_path / "m")
    assert module_digest(again) == module_digest(model)
    before = (tmp_path / "m/model.safetensors").read_bytes()
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)
    assert (tmp_path / "m/model.safetensors").read_bytes() == before
    assert module_digest(load_model(tmp_path / "m")) == module_digest(model)


def test_an_index_that_an_earlier_save_left_behind_is_passed_over(folder):
    """Its shards are gone, a single file is there; the same for the index of another format."""
    index = json.dumps({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}})
    (folder / "model.safetensors.index.json").write_text(index)
    assert module_digest(load_model(folder)) == module_digest(random_model())
    (folder / "model.safetensors.index.json").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(index.replace("safetensors", "bin"))
    assert module_digest(load_model(folder)) == module_digest(random_model())
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model-00001-of-00002\.bin"):
        load_model(folder)


@pytest.mark.parametrize("content", ["[]", '{"weight_map": ["x"]}', '{"weight_map": {"x": "../y"}}', "{"])
def test_what_is_no_index_is_named(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json is not an index"):
        load_model(folder)


def test_training_a_loaded_model_never_changes_the_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before
    save_model(model, folder)  # over the folder it is mapped from
    assert module_digest(load_model(folder)) == module_digest(model)


def test_keys_of_the_original_config_are_kept(folder, tmp_path):
    edit_config(folder, eos_token_id=[5, 7], _name_or_path="somebody/model", transformers_version="4.40.0")
    save_model(load_model(folder), tmp_path / "again")
    config = read_config(tmp_path / "again")
    assert config["eos_token_id"] == [5, 7]
    assert config["_name_or_path"] == "somebody/model"


def test_tokenizer_files_are_copied_and_weights_are_not(folder, tmp_path):
    for name in (
        "tokenizer.json",
        "tokenizer.model",
        "merges.txt",
        "chat_template.jinja",
        "generation_config.json",
    ):
        (folder / name).write_text(name)
    (folder / "model.safetensors.index.json.bak").write_text("x")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/tool.jinja").write_text("t")
    source = tmp_path / "n"
    save_model(random_model(CONFIGS["qwen2"]), source, tokenizer_from=folder)
    copied = {path.name for path in source.iterdir()}
    assert copied == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "merges.txt",
        "chat_template.jinja", "generation_config.json", "additional_chat_templates",
    }  # fmt: skip
    assert read_config(source)["model_type"] == "qwen2"


def test_a_failed_save_leaves_the_old_folder_and_nothing_else(folder, monkeypatch):
    before = weights_digest(folder)

    def broken(*arguments, **keywords):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "write_safetensors", broken)
    with pytest.raises(OSError, match="No space"):
        save_model(random_model(CONFIGS["qwen2"]), folder)
    assert weights_digest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_every_file_is_on_the_disk_before_the_folder_has_its_name(tmp_path, flushed_before):
    folder = tmp_path / "m"
    flushed = flushed_before(folder)
    save_model(random_model(), folder, shard_bytes=20_000)
    assert sorted(flushed) == sorted(path.stat().st_size for path in folder.iterdir())
    assert len(flushed) > 3  # config, index and shards


def test_saving_replaces_a_folder_as_a_whole(folder):
    (folder / "leftover.txt").write_text("of the old one")
    model = random_model(CONFIGS["qwen2"])
    save_model(model, folder)
    assert not (folder / "leftover.txt").exists()
    assert module_digest(load_model(folder)) == module_digest(model)
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_what_a_killed_save_left_is_cleared_away(folder):
    for left in (".m.writing", ".m.previous"):
        folder.with_name(left).mkdir()
        folder.with_name(left).joinpath("half").touch()
    model = random_model(CONFIGS["qwen2"])
    save_model(model, folder)
    assert module_digest(load_model(folder)) == module_digest(model)
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_a_save_killed_between_its_two_renames_is_undone_where_there_is_no_new_one(folder):
    before = weights_digest(folder)
    folder.rename(folder.with_name(".m.previous"))
    take_back(folder)
    assert weights_digest(folder) == before
    folder.with_name(".m.previous").mkdir()
    take_back(folder)
    assert weights_digest(folder) == before


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(folder, monkeypatch):
    before, real = weights_digest(folder), Path.rename

    def rename(path, target):
        if path.name == ".m.writing":
            raise OSError("Permission denied")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Permission"):
        save_model(random_model(CONFIGS["qwen2"]), folder)
    assert weights_digest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_digests_follow_the_weights(folder, tmp_path):
    before = weights_digest(folder)
    save_model(load_model(folder), tmp_path / "copy")
    edit_config(tmp_path / "copy", **read_config(folder))
    assert weights_digest(tmp_path / "copy") == before
    tensors = weights(folder)
    tensors["model.norm.weight"][0] += 1e-6
    rewrite(folder, tensors)
    assert weights_digest(folder) != before
    model = random_model()
    digest = module_digest(model)
    with torch.no_grad():
        model.norm.weight[0] += 1e-6
    assert module_digest(model) != digest


# ------------------------------------------------------------------------------------------- bad input


def test_a_wrong_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no folder .*nowhere"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "config.json.txt").touch()
    with pytest.raises(ValueError, match=r"has no config\.json.*found config\.json\.txt"):
        load_model(tmp_path)


def test_a_config_that_is_not_json_is_named(folder):
    (folder / "config.json").write_text("{'model_type': llama}")
    with pytest.raises(ValueError, match="not JSON"):
        load_model(folder)


def test_a_folder_without_weights_says_which_files_it_needs(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"no weights: expected .* model\.safetensors.*; found config\.json\."
    ):
        load_model(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>Access to model is restricted</html>" * 5, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n", "git lfs pull"),
        (b"", "it is empty"),
        (b'{"error":"Access to model x/y is restricted."}', "Access to model .*log in, accept the licence"),
        (b"GGUF\x03\x00\x00\x00" + bytes(80), "llama.cpp"),
        (bytes(80), "begins with zeros|not that of a safetensors file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b"x" * 16, "download it again"),
    ],
)
def test_what_is_not_safetensors_is_recognised(folder, content, message):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    "content", [b"<html>", b"version https://git-lfs.github.com/spec/v1\noid", b"PK\x03\x04"]
)
def test_what_is_no_legacy_file_is_said_in_words_of_ours(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"pytorch_model\.bin cannot be read as weights: it (is|has) "
    ) as found:
        load_model(folder)
    assert "weights_only" not in str(found.value)  # the hint of PyTorch is to run the file's code
    torch.save([torch.ones(2)], folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds a list, expected a dictionary"):
        load_model(folder)


def test_a_truncated_file_is_noticed_before_any_tensor_is_read(folder):
    path = folder / "model.safetensors"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 4)
    with pytest.raises(ValueError, match=rf"truncated: {size - 4} bytes, its header announces {size}"):
        load_model(folder)


def test_an_absent_shard_is_named(tmp_path):
    save_model(random_model(), tmp_path / "m", shard_bytes=5000)
    shard = sorted((tmp_path / "m").glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ValueError, match=shard.name):
        load_model(tmp_path / "m")


def test_missing_unexpected_and_misshapen_tensors_are_named(folder):
    tensors = weights(folder)
    key = "model.layers.1.mlp.up_proj.weight"
    rewrite(folder, {name: t for name, t in tensors.items() if name != key})
    with pytest.raises(ValueError, match=f"missing {key}"):
        load_model(folder)
    rewrite(folder, tensors | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)})
    with pytest.raises(ValueError, match=r"unexpected model\.layers\.0\.self_attn\.q_proj\.bias"):
        load_model(folder)
    rewrite(folder, tensors | {key: torch.zeros(32, 48)})
    with pytest.raises(ValueError, match=rf"{key} has shape \[32, 48\], config.json asks for \[48, 32\]"):
        load_model(folder)
    rewrite(folder, {name: t for name, t in tensors.items() if name != "lm_head.weight"})
    with pytest.raises(ValueError, match=r"missing lm_head\.weight"):
        load_model(folder)


def test_integer_weights_are_refused(folder):
    tensors = weights(folder)
    rewrite(folder, tensors | {"model.norm.weight": torch.ones(32, dtype=torch.int32)})
    with pytest.raises(ValueError, match=r"model\.norm\.weight.*quantised"):
        load_model(folder)


def test_values_that_are_not_finite_are_found_on_request(folder):
    tensors = weights(folder)
    tensors["model.layers.1.self_attn.v_proj.weight"][3, 3] = float("nan")
    rewrite(folder, tensors)
    load_model(folder)
    with pytest.raises(ValueError, match=r"m: model\.layers\.1\.self_attn\.v_proj\.weight holds.*not finite"):
        load_model(folder, check_finite=True)
    tensors["model.layers.1.self_attn.v_proj.weight"][3, 3] = 1e6
    rewrite(folder, tensors)
    load_model(folder, check_finite=True)
    with pytest.raises(ValueError, match=r"values too large for torch\.float16; choose another model\.dtype"):
        load_model(folder, dtype=torch.float16, check_finite=True)
