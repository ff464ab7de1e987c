"""The tokenizer files of a checkpoint folder: which there are, and what each of them says.

A published tokenizer is spread over up to ten files that repeat and correct one another. Every rule about
which one counts is here; what follows for text and ids is in data/tokenizer.py.
"""

import hashlib
import re
from pathlib import Path

from data.added_tokens import NO_PREFIX, AddedToken, Prefix
from data.json_files import read_json
from data.sentencepieces import SentencePieces
from data.tokenizer_json import JsonPieces, from_vocabulary, has, prefix_of

# Whatever a folder has of these makes its digest, and must go along when a checkpoint is saved.
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
TEMPLATE_FOLDER = "additional_chat_templates"
BEGINS_WITH_BOS = {"LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", ""}  # where no file says so


def read_vocabulary(
    folder: Path, config: dict, stop: set[int]
) -> tuple[SentencePieces | JsonPieces, dict | None]:
    """The folder's vocabulary, and its tokenizer.json where there is one.

    What the config lists as special is not where tokenizer.json says so: transformers lists all user-defined
    pieces there, line ends and indentation among them.
    """
    model, document = folder / "tokenizer.model", folder / "tokenizer.json"
    spec = read_json(document) or None
    rows = (spec or {}).get("added_tokens") or []
    plain = {row.get("content") for row in rows if isinstance(row, dict) and not row.get("special")}
    named = [*named_tokens(config).values(), *sorted(special_contents(config) - plain)]
    kind = tokenizer_class(config)
    if model.is_file() and not (spec and is_rank_file(model)):
        if spec:
            prefix = prefix_of(spec)
        elif kind == "GemmaTokenizer" or config.get("add_prefix_space") is False:
            prefix = NO_PREFIX
        elif config.get("add_prefix_space") or config.get("legacy"):
            prefix = Prefix("always" if config.get("legacy") and kind != "CodeLlamaTokenizer" else "first")
        else:
            prefix = None
        rules = (spec or {}).get("normalizer")
        normalizes = has(rules, "Prepend") or (has(rules, "Replace") and prefix == NO_PREFIX)
        added = added_tokens(folder, config, spec)
        return SentencePieces(model, added, named, stop, prefix, normalizes), spec
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if not spec and vocabulary.is_file() and merges.is_file():
        if not kind and str(read_json(folder / "config.json").get("model_type")).startswith("qwen"):
            kind = "Qwen2Tokenizer"
        spec = from_vocabulary(read_json(vocabulary), merges, kind, bool(config.get("add_prefix_space")))
        document = vocabulary
    if not spec:
        found = sorted(path.name for path in folder.iterdir())[:12] if folder.is_dir() else "no such folder"
        raise ValueError(
            f"{folder} holds no tokenizer: tokenizer.model, tokenizer.json, or vocab.json with merges.txt "
            f"expected, found {found}"
        )
    return JsonPieces(spec, document, added_tokens(folder, config, spec), named, stop), spec


def is_rank_file(path: Path) -> bool:
    """Llama 3 ships a list of base64 strings and ranks (tiktoken's format) under sentencepiece's name."""
    with open(path, "rb") as file:
        return re.match(rb"[A-Za-z0-9+/=]+ \d+\n", file.read(200)) is not None


def tokenizer_class(config: dict) -> str:
    return str(config.get("tokenizer_class") or "").removesuffix("Fast")


def content_of(token: object) -> str | None:
    """Tokens are named by their content or by an object that has it."""
    return token.get("content") if isinstance(token, dict) else token if isinstance(token, str) else None


def named_tokens(config: dict) -> dict[str, str]:
    """bos_token, eos_token and every other `..._token` of tokenizer_config.json -> content."""
    extra = config.get("extra_special_tokens")
    values = config | (extra if isinstance(extra, dict) else {})
    contents = {key: content_of(value) for key, value in values.items() if key.endswith("_token")}
    return {key: content for key, content in contents.items() if content}


def declared_stop_ids(folder: Path) -> set[int]:
    """eos_token_id of config.json and generation_config.json; each a number or a list."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        value = read_json(folder / name).get("eos_token_id")
        values = value if isinstance(value, list) else [value]
        found |= {i for i in values if isinstance(i, int) and i >= 0}
    return found


def added_tokens(folder: Path, config: dict, spec: dict | None) -> list[AddedToken]:
    """What tokenizer.json, added_tokens.json and tokenizer_config.json add; the last of them wins."""
    listed = (spec or {}).get("added_tokens") or []
    tokens = [added_token(row, folder / "tokenizer.json") for row in listed]
    found = {token.id: token for token in tokens}
    extra = special_contents(config) | set(named_tokens(config).values())
    for content, i in read_json(folder / "added_tokens.json").items():
        special = content in extra
        found.setdefault(i, AddedToken(i, content, special=special, normalized=not special))
    for i, row in (config.get("added_tokens_decoder") or {}).items():
        token = added_token(row, folder / "tokenizer_config.json", i)
        found[token.id] = token
    return [token for _, token in sorted(found.items())]


def added_token(row: object, path: Path, i: str | None = None) -> AddedToken:
    """One row of a file's added tokens; its id is `i`, or in the row."""
    values = row if isinstance(row, dict) else {}
    i, content = str(values.get("id") if i is None else i), values.get("content")
    if not i.isdecimal() or not isinstance(content, str):
        raise ValueError(
            f"{path}: added token {i} is {str(row)[:80]}, expected a whole number as its id and an object "
            "with content; download the file again"
        )
    flags = ("special", "lstrip", "rstrip", "normalized", "single_word")
    return AddedToken(int(i), content, **{flag: bool(values.get(flag, False)) for flag in flags})


def special_contents(config: dict) -> set[str]:
    """Further special tokens that the config lists, or names in an object."""
    listed = [config.get(key) or [] for key in ("additional_special_tokens", "extra_special_tokens")]
    flat = [token for part in listed for token in (part.values() if isinstance(part, dict) else part)]
    return {content for token in flat if (content := content_of(token))}


def adds_bos(config: dict, spec: dict | None, begin: str | None) -> bool:
    """Whether prompts start with the begin token, by tokenizer.json, else the config, else the family.

    Where tokenizer.json has a template of what surrounds a text, transformers goes by it, not by the config.
    """
    if has((spec or {}).get("post_processor"), "TemplateProcessing"):
        return begin is not None
    if isinstance(config.get("add_bos_token"), bool):
        return config["add_bos_token"]
    if spec is not None and spec.get("post_processor"):
        return False
    return tokenizer_class(config) in BEGINS_WITH_BOS and (spec is None or bool(tokenizer_class(config)))


def read_chat_templates(folder: Path, config: dict) -> dict[str, str]:
    """Name -> source of every chat template, "default" where it has no name. Files beat the config."""
    source = folder / ("tokenizer_config.json" if config.get("chat_template") else "chat_template.json")
    found = config.get("chat_template") or read_json(source).get("chat_template")
    if isinstance(found, list):
        for row in found:
            if not isinstance(row, dict) or not {"name", "template"} <= row.keys():
                raise ValueError(
                    f"{source}: chat_template lists {str(row)[:80]}, expected an object with name and "
                    "template; download the file again"
                )
        templates = {row["name"]: row["template"] for row in found}
    elif isinstance(found, dict):
        templates = dict(found)
    else:
        templates = {"default": found} if found else {}
    for path in sorted((folder / TEMPLATE_FOLDER).glob("*.jinja")):
        templates[path.stem] = path.read_text(encoding="utf-8")
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return templates


def default_template(templates: dict[str, str]) -> str | None:
    return next(iter(templates.values())) if len(templates) == 1 else templates.get("default")


def digest_tokenizer(folder: Path) -> str:
    """16 hex digits over names and bytes of the tokenizer files; the same for a copy elsewhere."""
    digest = hashlib.sha256()
    paths = [folder / name for name in TOKENIZER_FILES]
    for path in [*paths, *sorted((folder / TEMPLATE_FOLDER).glob("*.jinja"))]:
        if path.is_file():
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
