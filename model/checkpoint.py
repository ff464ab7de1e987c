"""Checkpoint folders in the published layout: load, save, digest.

A folder holds config.json, model.safetensors (or shards with an index, or a legacy pytorch_model.bin) and tokenizer
files. Loading builds the model on the meta device and gives every parameter its storage once. Saving writes beside
the target and renames, so a folder that exists is whole.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.families import parse_config, published_tensors, to_config_json
from model.transformer import Transformer


def read_config(folder: Path | str) -> dict:
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: {folder} is not a checkpoint folder")
    return json.loads(path.read_text())


def load_model(
    folder: Path | str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Transformer:
    """The model in `folder`. `dtype` None keeps that of the files."""
    folder = Path(folder)
    config_json = read_config(folder)
    with torch.device("meta"):
        model = Transformer(parse_config(config_json))
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name, published in published_tensors(model).items():
            tensors = [file.get_tensor(part.name) for part in published.parts]
            tensor = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
            tensor = tensor.to(device=device, dtype=dtype)
            module, kind = name.rsplit(".", 1)
            setattr(model.get_submodule(module), kind, torch.nn.Parameter(tensor))
    if model.config.tied:
        model.lm_head.weight = model.embedding.weight
    model.source_config = config_json
    return model


def save_model(model: Transformer, folder: Path | str, *, tokenizer_from: Path | str | None = None) -> None:
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    tensors: dict[str, Tensor] = {}
    parameters = dict(model.named_parameters())
    for name, published in published_tensors(model).items():
        pieces = parameters[name].detach().split([part.rows for part in published.parts])
        for part, piece in zip(published.parts, pieces, strict=True):
            tensors[part.name] = piece.contiguous()
    save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    config_json = getattr(model, "source_config", {}) | to_config_json(model.config)
    config_json |= {"torch_dtype": dtype, "dtype": dtype}
    (temporary / "config.json").write_text(json.dumps(config_json, indent=2) + "\n")
    if tokenizer_from is not None:
        for path in Path(tokenizer_from).iterdir():
            if "token" in path.name or path.name in ("vocab.json", "merges.txt", "generation_config.json"):
                shutil.copy2(path, temporary)
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(temporary, folder)


def module_digest(model: torch.nn.Module) -> str:
    """SHA-256 of the weights in memory: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_digest(folder: Path | str) -> str:
    """SHA-256 over config.json and the weight files."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*")):
        if path.name == "config.json" or path.suffix in (".safetensors", ".bin"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
