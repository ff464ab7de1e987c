"""Checkpoint folders in the published layout: load, save, digest.

A folder holds config.json, the weights and a tokenizer. The weights are model.safetensors, or shards named by
model.safetensors.index.json, or the legacy pytorch_model.bin. A safetensors file is a length, a JSON header
and the tensors' bytes (github.com/huggingface/safetensors), so it is read and written here directly: every
error can name the tensor, and no tensor exists twice in memory. What is used as it is stored stays mapped
(private: training changes memory, never the file), also where parts are joined (joined_pages.py); what is
transposed, reordered or converted is read into its place.
"""

import hashlib
import json
import math
import mmap
import os
import pickle
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.families import parse_config, to_config_json
from model.joined_pages import join_pages
from model.layouts import Published, published_tensors
from model.lora import merged_state
from model.transformer import Transformer
from model.wrong_folder import check_folder, problem_with, what_it_is

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
SHARD_BYTES = 5 * 10**9
PREFIXES = ("module.", "base_model.", "model.", "transformer.")  # come and go with the tool that wrote a file
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # may stand anywhere
TOKENIZER_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")


class Stored(NamedTuple):
    """A tensor in a file: its bytes are at `offset` of the mapped file; a legacy file gives it as it is."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int = 0
    mapped: mmap.mmap | None = None
    tensor: Tensor | None = None


# --------------------------------------------------------------------------------------------------- reading


def read_config(folder: Path | str) -> dict[str, Any]:
    """config.json of a checkpoint folder. ValueError when there is none or it is not JSON."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        check_folder(Path(folder))
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): {what_it_is(path)}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a {type(config).__name__}, expected an object")
    return config


def load_model(
    folder: Path | str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    check_finite: bool = False,
) -> Transformer:
    """The model in `folder`. `dtype` None keeps that of the embedding on disk; the whole model has one dtype.

    ValueError names the file or tensor that is missing, unexpected, misshapen, truncated or, when asked, not
    finite.
    """
    folder = Path(folder)
    source = read_config(folder)
    with torch.device("meta"):
        model = Transformer(parse_config(source))
    stored = find_tensors(folder)
    table = published_tensors(model)
    found = match_tensors(folder, table, stored, tied=model.config.tied)
    dtype = dtype or found[table["embedding.weight"].parts[0].name].dtype
    modules, shapes = dict(model.named_modules()), {name: p.shape for name, p in model.named_parameters()}
    for name, published in table.items():
        sources = [found[part.name] for part in published.parts]
        tensor = read_parameter(shapes[name], sources, published, dtype, device)
        if check_finite and not torch.isfinite(tensor).all():
            raise ValueError(f"{folder}: {_not_finite(published, sources, dtype)}")
        module, kind = name.rsplit(".", 1)
        setattr(modules[module], kind, nn.Parameter(tensor))
    if model.config.tied:
        model.lm_head.weight = model.embedding.weight
    model.source_config = source
    return model


def _not_finite(published: Published, sources: list[Stored], dtype: torch.dtype) -> str:
    for part, source in zip(published.parts, sources, strict=True):
        if not torch.isfinite(view(source)).all():
            return (
                f"{part.name} holds values that are not finite; the checkpoint is damaged, download it again"
            )
    names = ", ".join(part.name for part in published.parts)
    return f"{names} has values too large for {dtype}; choose another model.dtype"


def find_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of a folder by its name in the files. With an index, only the shards that it names.

    An index whose shards are all gone is left over from an earlier save where a single file is there instead.
    """
    for whole, reader in (("model.safetensors", read_header), ("pytorch_model.bin", _read_legacy)):
        file, index = folder / whole, folder / f"{whole}.index.json"
        if index.is_file() and not (file.is_file() and _is_left_over(index)):
            return _find_sharded(folder, index)
        if file.is_file():
            return reader(file)
    raise ValueError(problem_with(folder))


def read_index(index: Path) -> dict[str, str]:
    """Tensor name -> shard."""
    try:
        places = json.loads(index.read_text())["weight_map"]
        if all(isinstance(shard, str) and Path(shard).name == shard for shard in places.values()):
            return places
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{index} is not an index (no weight_map of file names in it); download it again")


def _is_left_over(index: Path) -> bool:
    return not any((index.parent / shard).exists() for shard in read_index(index).values())


def _find_sharded(folder: Path, index: Path) -> dict[str, Stored]:
    places = read_index(index)
    absent = sorted({name for name in places.values() if not (folder / name).is_file()})
    if absent:
        raise ValueError(f"{index} names {_some(absent)}, not in {folder}; download the missing shards")
    stored: dict[str, Stored] = {}
    for shard in sorted(set(places.values())):
        reader = read_header if shard.endswith(".safetensors") else _read_legacy
        stored |= {
            name: tensor for name, tensor in reader(folder / shard).items() if places.get(name) == shard
        }
    lost = sorted(set(places) - set(stored))
    if lost:
        raise ValueError(f"{index} places {lost[0]} in {places[lost[0]]}, which does not hold it")
    return stored


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors that a safetensors file announces. ValueError when it is no such file, or too short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8 or length > 10**8:
            raise ValueError(f"{path} is not a safetensors file: {what_it_is(path)}")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = {
                name: (entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
                for name, entry in header.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{path}: its header is not that of a safetensors file; download it again"
            ) from None
    stored, data = {}, 8 + length
    announced = data + max((end for *_, end in entries.values()), default=0)
    if size < announced:
        raise ValueError(
            f"{path} is truncated: {size} bytes, its header announces {announced}; download it again"
        )
    with path.open("rb") as file:  # private: writing to these pages changes memory, never the file
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    for name, (dtype, shape, begin, end) in entries.items():
        if dtype not in DTYPES:
            raise ValueError(f"{path}: {name} has dtype {dtype}, which is not supported (quantised weights?)")
        if end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
            raise ValueError(f"{path}: {name} has {end - begin} bytes, wrong for {dtype} {list(shape)}")
        stored[name] = Stored(path, DTYPES[dtype], shape, data + begin, mapped)
    return stored


def _read_legacy(path: Path) -> dict[str, Stored]:
    try:
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before 2020 cannot be mapped
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {refused[1]}, and code in a file is never run" if refused else what_it_is(path)
        raise ValueError(f"{path} cannot be read as weights: {what}") from None
    except Exception:  # of a damaged archive
        raise ValueError(f"{path} cannot be read as weights: {what_it_is(path)}") from None
    if not isinstance(tensors, dict):
        raise ValueError(f"{path} holds a {type(tensors).__name__}, expected a dictionary of tensors")
    tensors = {name: t for name, t in tensors.items() if isinstance(t, Tensor)}
    return {
        name: Stored(path, t.dtype, tuple(t.shape), tensor=t.detach().contiguous())
        for name, t in tensors.items()
    }


def match_tensors(
    folder: Path, table: dict[str, Published], stored: dict[str, Stored], *, tied: bool
) -> dict[str, Stored]:
    """Published name -> stored tensor, whatever prefix the file uses. ValueError names what does not fit."""
    expected = {_bare(part.name): part for published in table.values() for part in published.parts}
    found: dict[str, Stored] = {}
    unexpected, origin = [], {}
    for name, tensor in stored.items():
        bare = _bare(name)
        if bare in expected and expected[bare].name not in found:
            found[expected[bare].name] = tensor
            origin[bare] = name
        elif not _is_buffer(bare) and not (tied and bare == "lm_head.weight"):
            unexpected.append(name)
    head = next((tensor for name, tensor in stored.items() if _bare(name) == "lm_head.weight"), None)
    embedding = table["embedding.weight"].parts[0].name
    if tied and head is not None:
        if embedding not in found:
            found[embedding] = head
        elif not _same(head, found[embedding]):
            raise ValueError(
                f"{folder}: config.json ties the head, but lm_head.weight is not {embedding}; "
                "set tie_word_embeddings to false in config.json if the head is meant"
            )
    missing = [part.name for part in expected.values() if part.name not in found]
    if missing or unexpected:
        raise ValueError(
            f"{folder} does not hold what config.json describes: {_differences(missing, unexpected)}"
        )
    for bare, part in expected.items():
        if found[part.name].shape != part.shape:
            raise ValueError(
                f"{folder}: {origin.get(bare, part.name)} has shape {list(found[part.name].shape)}, "
                f"config.json asks for {list(part.shape)}"
            )
        if not found[part.name].dtype.is_floating_point:
            raise ValueError(
                f"{folder}: {part.name} holds {found[part.name].dtype}: quantised weights cannot be used"
            )
    return found


def _bare(name: str) -> str:
    """A tensor's name without the prefixes that differ between the tools that write checkpoints."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _is_buffer(bare: str) -> bool:
    """Rotary tables and causal masks that old files carry."""
    return "rotary_emb." in bare or bare.endswith((".attn.bias", ".attn.masked_bias"))


def _differences(missing: list[str], unexpected: list[str]) -> str:
    found = {"missing": missing, "unexpected": unexpected}
    return "; ".join(f"{what} {_some(names)}" for what, names in found.items() if names)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _same(a: Stored, b: Stored) -> bool:
    """Whether two tensors are one, as exactly as the shorter type of the two can tell."""
    dtype = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    return a.shape == b.shape and torch.equal(view(a).to(dtype), view(b).to(dtype))


def view(stored: Stored) -> Tensor:
    """The tensor as stored, without reading it: its pages come from the file when they are touched."""
    if stored.tensor is not None:
        return stored.tensor
    count = math.prod(stored.shape)
    return torch.frombuffer(stored.mapped, dtype=stored.dtype, count=count, offset=stored.offset).view(
        stored.shape
    )


def _adjacent(sources: list[Stored]) -> bool:
    """Whether the tensors lie in one file one after another, so that joined they are a view of it."""
    first = sources[0]
    if first.tensor is not None:
        return len(sources) == 1
    end = first.offset
    for stored in sources:
        if stored.mapped is not first.mapped or stored.offset != end or stored.dtype != first.dtype:
            return False
        end += math.prod(stored.shape) * stored.dtype.itemsize
    return True


def read_into(target: Tensor, stored: Stored) -> None:
    """Copy a stored tensor over `target`, contiguous and of its dtype and size, without mapping the file."""
    if stored.tensor is not None:
        target.copy_(stored.tensor.view(target.shape))
        return
    buffer = memoryview(target.view(-1).view(torch.uint8).numpy())
    with stored.path.open("rb", buffering=0) as file:
        file.seek(stored.offset)
        while buffer:
            count = file.readinto(buffer)
            if not count:
                raise ValueError(f"{stored.path} ended while it was read; is something else writing it?")
            buffer = buffer[count:]


def joined_view(sources: list[Stored], shape: torch.Size) -> Tensor | None:
    """The tensors joined along rows and still mapped, where one file has them all and its pages allow it."""
    first = sources[0]
    if _adjacent(sources):
        return view(first._replace(shape=tuple(shape))).view(shape)
    if any(source.mapped is not first.mapped or source.dtype != first.dtype for source in sources):
        return None
    sizes = [math.prod(source.shape) * first.dtype.itemsize for source in sources]
    offsets = [source.offset for source in sources]
    joined = (
        None if first.tensor is not None else join_pages(first.path, list(zip(offsets, sizes, strict=True)))
    )
    if joined is None:
        return None
    memory, begin = joined
    return torch.frombuffer(memory, dtype=first.dtype, count=math.prod(shape), offset=begin).view(shape)


def read_parameter(
    shape: torch.Size, sources: list[Stored], place: Published, dtype: torch.dtype, device: torch.device | str
) -> Tensor:
    """One parameter from its published parts: joined, transposed, reordered and converted as needed."""
    if not place.transposed and place.order is None and sources[0].dtype == dtype:
        joined = joined_view(sources, shape)
        if joined is not None:
            return joined.to(device)
    joined = torch.empty(shape, dtype=dtype)
    for target, source, part in zip(
        joined.split([p.rows for p in place.parts]), sources, place.parts, strict=True
    ):
        if source.dtype == dtype and not place.transposed:
            read_into(target, source)
        else:
            tensor = torch.empty(part.shape, dtype=source.dtype)
            read_into(tensor, source)
            target.copy_((tensor.T if place.transposed else tensor).view_as(target))
    return (joined if place.order is None else joined[place.order]).to(device)


# --------------------------------------------------------------------------------------------------- writing


def save_model(
    model: Transformer,
    folder: Path | str,
    *,
    tokenizer_from: Path | str | None = None,
    state: dict[str, Tensor] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write `model` to `folder` in the published layout of its family; other tools load it as it is.

    The folder appears whole or not at all; one that exists is replaced. config.json keeps every key of the
    one the model was loaded from; adapters are added into the weights. `tokenizer_from` is a folder whose
    tokenizer and generation files are copied. `state` (parameter name -> full tensor) stands in for the
    model's own parameters when those are sharded.
    """
    folder = Path(folder)
    staging = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(staging, ignore_errors=True)  # what a killed process left
    staging.mkdir(parents=True)
    try:
        state = merged_state(model, state)
        write_weights(published_tensors(model), state, staging, shard_bytes)
        config = _published_config(model, state["embedding.weight"].dtype)
        (staging / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        if tokenizer_from is not None:
            copy_tokenizer(Path(tokenizer_from), staging)
        put_in_place(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def put_in_place(staging: Path, folder: Path) -> None:
    """Rename `staging`, once it is on the disk, to `folder`; what stood there goes only after that."""
    mode = "rb" if os.name == "posix" else "rb+"  # a copied file may be read-only, which Windows cannot flush
    for path in staging.rglob("*"):
        if path.is_file():
            with path.open(mode) as file:
                os.fsync(file.fileno())
    previous = folder.with_name(f".{folder.name}.previous")
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    try:
        staging.rename(folder)
    except OSError:
        take_back(folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def take_back(folder: Path) -> None:
    """Undo a `put_in_place` that was killed between its two renames."""
    previous = folder.with_name(f".{folder.name}.previous")
    if previous.exists() and not folder.exists():
        previous.rename(folder)


def _published_config(model: Transformer, dtype: torch.dtype) -> dict[str, Any]:
    """The config the model came with, plus both spellings; the model's own where they disagree."""
    source, ours = getattr(model, "source_config", None) or {}, to_config_json(model.config)
    if source and parse_config(source) == model.config:
        ours = ours | source
    name = str(dtype).removeprefix("torch.")
    return source | ours | {"torch_dtype": name, "dtype": name}


def split_published(table: dict[str, Published], state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Our parameters (or their gradients) as published (name, tensor) on the CPU, one at a time."""
    for name, place in table.items():
        joined = state[name].detach().to("cpu")
        if place.order is not None:
            joined = torch.empty_like(joined).index_copy_(0, place.order, joined)
        for part, piece in zip(place.parts, joined.split([p.rows for p in place.parts]), strict=True):
            yield part.name, (piece.T if place.transposed else piece).reshape(part.shape).contiguous()


def write_weights(
    table: dict[str, Published], state: dict[str, Tensor], folder: Path, shard_bytes: int
) -> None:
    """model.safetensors, or numbered shards of at most `shard_bytes` (or one tensor) and their index."""
    shards: list[dict[str, dict]] = [{}]
    end = total = 0
    for name, place in table.items():
        for part in place.parts:
            size = math.prod(part.shape) * state[name].element_size()
            if end and end + size > shard_bytes:
                shards.append({})
                end = 0
            offsets = [end, end := end + size]
            total += size
            dtype = NAMES[state[name].dtype]
            shards[-1][part.name] = {"dtype": dtype, "shape": list(part.shape), "data_offsets": offsets}
    files = ["model.safetensors"]
    if len(shards) > 1:
        files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
        places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    tensors = split_published(table, state)
    for file, shard in zip(files, shards, strict=True):
        write_safetensors(folder / file, shard, tensors)


def write_safetensors(path: Path, entries: dict[str, dict], tensors: Iterator[tuple[str, Tensor]]) -> None:
    """One file: the header made of `entries`, then as many tensors, which come in the same order."""
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the data begins at a multiple of 8 bytes
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _, (_, tensor) in zip(entries, tensors, strict=False):
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy tokenizer, chat template, generation settings: what is neither weights nor their config."""
    for path in sorted(source.iterdir()):
        if path.name == "additional_chat_templates" and path.is_dir():
            shutil.copytree(path, target / path.name)
        elif (
            path.is_file()
            and path.suffix in TOKENIZER_SUFFIXES
            and path.name != "config.json"
            and not path.name.endswith(".index.json")
        ):
            shutil.copy2(path, target / path.name)


# -------------------------------------------------------------------------------------------------- digests


def weights_digest(folder: Path | str) -> str:
    """SHA-256 of config.json and the weight files' bytes. Files that did not change are not read again."""
    folder = Path(folder)
    files = sorted({stored.path for stored in find_tensors(folder).values()})
    digest = hashlib.sha256(json.dumps(read_config(folder), sort_keys=True).encode())
    with ThreadPoolExecutor(max_workers=4) as pool:
        for part in pool.map(_file_digest, files):
            digest.update(part)
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    stat = path.stat()
    return _digest_of_state(path.resolve(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _digest_of_state(path: Path, modified: int, size: int) -> bytes:
    digest = hashlib.sha256()
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.digest()


def module_digest(model: nn.Module) -> str:
    """SHA-256 of the weights in memory: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
