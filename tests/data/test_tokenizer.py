"""Tokenizers built here, imitating the files of published families, against other implementations."""

import builtins
import json
import re
from pathlib import Path

import pytest
import sentencepiece

from data.added_tokens import AddedToken, TokenSplitter
from data.sentencepieces import as_document
from data.tokenizer import StreamDecoder, check_vocabulary, load_tokenizer, train_tokenizer

ROOT = Path(__file__).parents[2]
PROGRAMS = [path.read_text(encoding="utf-8")[:6000] for path in sorted((ROOT / "data").glob("*.py"))[:12]]
NASTY = [
    "",
    " ",
    "\n",
    "\t",
    "x",
    " x",
    "x ",
    "    return x",
    "\treturn x\n\t\t# tab",
    "a\r\nb\r\n",
    "def f():\r\n\treturn  1\n",
    *(" " * n + "x" + "\n" * n for n in range(2, 40, 3)),
    "\n\n\n    \n\t \n",
    "é ü ß ĳ",
    "e\u0301 a\u0308 n\u0303",
    "日本語のコメント # 你好",
    "🎉👩‍👩‍👧🏳️‍🌈 emoji",
    "\u00a0\u2003\u200b\ufeff spaces",
    "1234567890 0x1F 3.14e-10",
    "<s></s><unk><pad><|im_start|>user<|im_end|><|endoftext|>[INST] x [/INST]<0x0A>",
    "<start_of_turn>user\n<end_of_turn> <|eot_id|><|begin_of_text|><｜begin of sentence｜>",
    "'quotes' \"double\" `tick` \\back\\slash",
    "control \x00\x01\x7f bytes",
    "price €5, Ω≈ç√",
]
LOSSY = "a\u2581b \u2581 c"  # sentencepiece writes spaces so, and cannot tell them apart
TEXTS = PROGRAMS + NASTY
CONTROL = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False) | {"special": True}


def write(folder: Path, **files: object) -> Path:
    """JSON files by stem."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def train_pieces(folder: Path, *, kind: str = "bpe", size: int = 700, **settings: object) -> Path:
    """A tiny sentencepiece model with Llama 2's settings, <unk> <s> </s> first."""
    folder.mkdir(parents=True, exist_ok=True)
    defaults = {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": True,
        "byte_fallback": True,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "hard_vocab_limit": False,
        "max_sentence_length": 100000,
        "num_threads": 1,
        "minloglevel": 2,
    }
    lines = (line for text in PROGRAMS for line in text.split("\n"))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines,
        model_prefix=str(folder / "tokenizer"),
        model_type=kind,
        vocab_size=size,
        **(defaults | settings),
    )
    (folder / "tokenizer.vocab").unlink()
    return folder


BEGIN = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}


def document(
    folder: Path, prefix: str | None, added: dict[str, int], begin: bool, **properties: bool
) -> dict:
    """tokenizer.model as the tokenizer.json of converters; `prefix`: Prepend, first, always or None."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    joined = [piece for piece, i in pieces.items() if not (model.is_control(i) or model.is_byte(i) or i == 0)]
    merges = [
        [piece[:cut], piece[cut:]]
        for piece in sorted(joined, key=lambda piece: -model.get_score(pieces[piece]))
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps = [{"type": "Prepend", "prepend": "▁"}, replace] if prefix == "Prepend" else [replace]
    spaced = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix, "split": False}
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []),
    ]
    return {
        "version": "1.0",
        "added_tokens": [
            CONTROL
            | {"id": i, "content": name}
            | (properties if name not in ("<s>", "</s>", "<unk>") else {})
            for name, i in added.items()
        ],
        "normalizer": None if prefix in ("first", "always") else {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": spaced if prefix in ("first", "always") else None,
        "post_processor": BEGIN if begin else None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": pieces,
            "merges": merges,
        },
    }


NAMES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
BASIC = {"<unk>": 0, "<s>": 1, "</s>": 2}
FIM = ["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"]
RUNS = ["\n\n", "▁▁", "▁▁▁▁"]  # Gemma's user-defined pieces, which its tokenizer.json adds as plain tokens
CHATML = ["<|im_start|>", "<|im_end|>"]


def sentencepiece_family(folder: Path, name: str) -> Path:
    """Folders as published, with tokenizer.model beside the tokenizer.json that transformers reads."""
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"} | NAMES
    prefix, added, config, properties, settings = (
        "Prepend",
        dict(BASIC),
        fast | {"add_bos_token": True},
        {},
        {},
    )
    if name == "llama2-legacy":
        config |= {"legacy": True}
    elif name == "llama2":
        prefix, config = "first", config | {"tokenizer_class": "LlamaTokenizer", "legacy": False}
    elif name == "codellama":
        settings["control_symbols"] = FIM
        added |= {piece: 3 + n for n, piece in enumerate(FIM)}
    elif name == "mistral":
        prefix, config = "always", config | {"tokenizer_class": "LlamaTokenizer", "legacy": True}
    elif name == "gemma":
        symbols = ["<start_of_turn>", "<end_of_turn>", *RUNS]
        prefix = None
        settings |= {"user_defined_symbols": symbols, "add_dummy_prefix": False}
        added |= {symbol: 3 + n for n, symbol in enumerate(symbols)}
    elif name == "codeqwen":
        prefix, settings["add_dummy_prefix"] = None, False
        config |= {"add_bos_token": False, "eos_token": "<|im_end|>"}
        added |= {piece: 700 + n for n, piece in enumerate(CHATML)}
    elif name == "yi":
        config |= {"add_bos_token": False}
        added |= {piece: 700 + n for n, piece in enumerate(CHATML)}
    elif name == "phi3":
        properties["rstrip"] = True
        added |= {
            token: 700 + n
            for n, token in enumerate(["<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>"])
        }
        config |= {"add_bos_token": True, "eos_token": "<|endoftext|>"}
    train_pieces(folder, **settings)
    spec = document(folder, prefix, added, config["add_bos_token"], **properties)
    for row in spec["added_tokens"]:
        row["special"] = row["content"] not in RUNS
    config["added_tokens_decoder"] = {
        str(row["id"]): {key: value for key, value in row.items() if key != "id"}
        for row in spec["added_tokens"]
    }
    return write(folder, tokenizer=spec, tokenizer_config=config)


SENTENCEPIECE = ["llama2-legacy", "llama2", "codellama", "mistral", "gemma", "codeqwen", "yi", "phi3"]
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = ["qwen2", "deepseek", "starcoder2", "llama3", "granite", "smollm", "olmo2", "gpt2"]
END = {"qwen2": "<|im_end|>", "deepseek": "<|EOT|>", "llama3": "<|eot_id|>"}


def byte_level_family(folder: Path, name: str) -> Path:
    """tokenizer.json with each family's way of cutting text into words."""
    tokenizers = pytest.importorskip("tokenizers", reason="byte-level BPE needs the tokenizers package")
    pre, normalizers, processors = tokenizers.pre_tokenizers, tokenizers.normalizers, tokenizers.processors
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=name == "llama3"))
    whole, joined = (
        pre.ByteLevel(add_prefix_space=False),
        pre.ByteLevel(add_prefix_space=False, use_regex=False),
    )

    def words(pattern: str) -> object:
        return pre.Split(tokenizers.Regex(pattern), "isolated")

    qwen = LLAMA3_WORDS.replace("{1,3}", "")
    tokenizer.pre_tokenizer = {
        "qwen2": lambda: pre.Sequence([words(qwen), joined]),
        "deepseek": lambda: pre.Sequence(
            [words(r"[\r\n]"), words(r"\s?\p{L}+"), words(r"\s?\p{P}+"), words(r"[一-龥ࠀ-一가-퟿]+")]
            + [pre.Digits(individual_digits=True), joined]
        ),
        "llama3": lambda: pre.Sequence([words(LLAMA3_WORDS), joined]),
        "olmo2": lambda: pre.Sequence([words(LLAMA3_WORDS), joined]),
        "gpt2": lambda: whole,
    }.get(name, lambda: pre.Sequence([pre.Digits(individual_digits=True), whole]))()
    tokenizer.normalizer = normalizers.NFC() if name == "qwen2" else None
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    end = END.get(name, "<|endoftext|>")
    special = list(dict.fromkeys(["<|endoftext|>", "<|im_start|>", "<s>", end]))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=800, show_progress=False, initial_alphabet=pre.ByteLevel.alphabet(), special_tokens=special
    )
    tokenizer.train_from_iterator(PROGRAMS, trainer)
    tokenizer.add_tokens(["<tool_call>", tokenizers.AddedToken("    ", normalized=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end,
        "clean_up_tokenization_spaces": False,
    }
    if name in ("llama3", "deepseek"):
        begin = tokenizer.token_to_id("<s>")
        template = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", begin)]
        )
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, template])
        config |= {"bos_token": "<s>"}
    if name == "deepseek":
        config |= {"bos_token": "<s>", "add_bos_token": True, "tokenizer_class": "LlamaTokenizerFast"}
    if name == "qwen2":
        config |= {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "unk_token": None}
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return write(folder, tokenizer_config=config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> folder, built once."""
    built: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in built:
            maker = sentencepiece_family if name in SENTENCEPIECE else byte_level_family
            built[name] = maker(tmp_path_factory.mktemp(name) / "checkpoint", name)
        return built[name]

    return build


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    train_tokenizer(PROGRAMS, folder, 900)
    return load_tokenizer(folder)


def published(folder: Path, text: str, tokenizer: object) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def auto_tokenizer(folder: Path) -> object:
    transformers = pytest.importorskip("transformers", reason="ids are compared with transformers")
    return transformers.AutoTokenizer.from_pretrained(folder)


# ---- our own vocabulary


@pytest.mark.parametrize("text", TEXTS)
def test_own_tokenizer_gives_every_text_back(own, text):
    assert own.decode(own.encode(text)) == text
    assert own.completion_text(own.completion_ids(text)) == text
    assert all(i in own.usable_ids for i in own.completion_ids(text))


def test_own_tokenizer_is_the_same_each_time(tmp_path, own):
    train_tokenizer(PROGRAMS, tmp_path, 900)
    assert load_tokenizer(tmp_path).digest == own.digest
    assert own.size == 900


def test_own_tokenizer_has_indentation_and_line_ends_as_pieces(own):
    pieces = [own.bytes_of[i] for i in own.encode("def f(x):\n        return 1\n")]
    assert b"        " in pieces
    assert pieces.count(b"\n") == 2


def test_a_program_splits_where_its_prompt_ends(own):
    prompt, answer = "def add(a, b):\n", "    return a + b\n"
    assert own.prompt_ids(prompt) + own.completion_ids(answer) == [
        own.bos_id,
        *own.encode(prompt + answer),
        own.eos_id,
    ]


def test_own_tokenizer_is_read_alike_by_transformers(own):
    other = auto_tokenizer(own.folder)
    for text in TEXTS:
        assert own.encode(text) == published(own.folder, text, other)
        assert own.prompt_ids(text) == other.encode(text, split_special_tokens=True)
        assert other.decode(own.completion_ids(text), skip_special_tokens=True) == text


def test_whole_pieces_survive_in_tokenizer_json(tmp_path):
    """Runs of spaces and line ends that sentencepiece matches by itself come out of merges as well."""
    train_pieces(
        tmp_path, user_defined_symbols=["\n", "\t", *("▁" * n for n in (16, 8, 4, 2))], add_dummy_prefix=False
    )
    ours = load_tokenizer(tmp_path)
    write(tmp_path, tokenizer=as_document(tmp_path / "tokenizer.model"))
    other = auto_tokenizer(tmp_path)
    for text in [*TEXTS, *(" " * n + "x" for n in range(40))]:
        assert ours.encode(text) == load_tokenizer(tmp_path).encode(text) == published(tmp_path, text, other)


def test_too_small_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no tokenizer of 10 pieces"):
        train_tokenizer(PROGRAMS, tmp_path, 10)


# ---- published families


@pytest.mark.parametrize("name", SENTENCEPIECE + BYTE_LEVEL)
def test_ids_equal_the_published_tokenizer(folders, name):
    ours, other = load_tokenizer(folders(name)), auto_tokenizer(folders(name))
    for text in [*TEXTS, LOSSY]:
        assert ours.encode(text) == published(folders(name), text, other), repr(text[:60])
    assert ours.encode_batch(TEXTS) == [ours.encode(text) for text in TEXTS]


@pytest.mark.parametrize("name", SENTENCEPIECE + BYTE_LEVEL)
def test_a_prompt_has_the_published_begin_token_once(folders, name):
    ours, other = load_tokenizer(folders(name)), auto_tokenizer(folders(name))
    ids = ours.prompt_ids("def f():")
    assert ids == other("def f():")["input_ids"]
    assert ids.count(ours.bos_id) == (
        name in ("llama3", "deepseek", *SENTENCEPIECE) and name not in ("yi", "codeqwen")
    )


@pytest.mark.parametrize("name", SENTENCEPIECE + BYTE_LEVEL)
def test_text_comes_back_where_the_published_tokenizer_gives_it_back(folders, name):
    ours, other = load_tokenizer(folders(name)), auto_tokenizer(folders(name))
    for text in TEXTS:
        if other.decode(published(folders(name), text, other)) == text:
            assert ours.decode(ours.encode(text)) == text
        if name != "qwen2":  # normalises combined characters
            assert ours.completion_text(ours.completion_ids(text)) == text


@pytest.mark.parametrize("name", SENTENCEPIECE + BYTE_LEVEL)
def test_control_tokens_in_a_chat_are_the_published_ones(folders, name):
    ours, other = load_tokenizer(folders(name)), auto_tokenizer(folders(name))
    for text in [
        "<s> x</s>\n  y<unk>",
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
        "<s><|user|>\n  x<|end|>\n<|assistant|>\n",
        "<s><start_of_turn>user\nx<end_of_turn>\n",
        "<tool_call>    x<|EOT|><|eot_id|> ▁<PRE> x<|endoftext|>",
        *NASTY,
    ]:
        expected = other.encode(text, add_special_tokens=False)
        assert ours.vocabulary.encode(text, control=True) == expected, repr(text)


@pytest.mark.parametrize("name", SENTENCEPIECE + BYTE_LEVEL)
def test_no_text_gives_a_control_token(folders, name):
    ours = load_tokenizer(folders(name))
    names = [name for name, i in ours.vocabulary.ids_of.items() if i in ours.vocabulary.control]
    for text in ["".join(names), *names, *NASTY]:
        assert not ours.vocabulary.control & set(ours.encode(text)), text
        assert not ours.vocabulary.control & set(ours.completion_ids(text)[:-1]), text


@pytest.mark.parametrize("name", ["llama2-legacy", "codellama", "gemma", "codeqwen"])
def test_without_tokenizer_json_ids_are_those_of_sentencepiece(folders, tmp_path, name):
    source = folders(name)
    (tmp_path / "tokenizer.model").write_bytes((source / "tokenizer.model").read_bytes())
    (tmp_path / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
    model = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    ours = load_tokenizer(tmp_path)
    for text in TEXTS:
        if "<start_of_turn>" not in text:
            assert ours.encode(text) == model.encode(text)
            assert ours.decode(ours.encode(text)) == text


def test_a_unigram_model_gives_the_ids_of_sentencepiece(tmp_path):
    train_pieces(tmp_path, kind="unigram", size=600)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    ours = load_tokenizer(tmp_path)
    assert [ours.encode(text) for text in TEXTS] == model.encode(TEXTS)
    assert ours.prompt_ids("x")[0] == ours.bos_id == 1


def test_a_model_that_collapses_spaces_behaves_as_published(tmp_path):
    train_pieces(tmp_path, normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert [load_tokenizer(tmp_path).encode(text) for text in TEXTS] == model.encode(TEXTS)


@pytest.mark.parametrize(
    ("config", "prefixes"), [({}, 1), ({"add_prefix_space": False}, 0), ({"legacy": True}, 2)]
)
def test_the_space_in_front_of_text(tmp_path, config, prefixes):
    """add_prefix_space: False, never; otherwise at the start; legacy: after each control token too."""
    write(train_pieces(tmp_path), tokenizer_config=NAMES | config)
    ours = load_tokenizer(tmp_path)
    text = ours.completion_text(ours.vocabulary.encode("x</s>x", control=True))
    assert text.count(" ") == prefixes
    assert ours.decode(ours.encode(" x")) == " x"


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_a_completion_gets_no_space_in_front(folders, name):
    """A completion goes on where the prompt ended, so its ids say exactly its characters."""
    ours = load_tokenizer(folders(name))
    for text in ("return x", "    return x", "\n", " "):
        ids = ours.completion_ids(text)
        assert b"".join(ours.bytes_of[i] for i in ids).decode() == text
        assert ids[-1] == ours.eos_id


@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
def test_vocab_and_merges_alone_are_enough(folders, tmp_path, name):
    tokenizers = pytest.importorskip("tokenizers", reason="byte-level BPE needs the tokenizers package")
    source = folders(name)
    tokenizers.Tokenizer.from_file(str(source / "tokenizer.json")).model.save(str(tmp_path))
    spec = json.loads((source / "tokenizer.json").read_text())
    rows = {str(row["id"]): {key: row[key] for key in row if key != "id"} for row in spec["added_tokens"]}
    config = json.loads((source / "tokenizer_config.json").read_text()) | {"added_tokens_decoder": rows}
    config["tokenizer_class"] = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer"}[name]
    write(tmp_path, tokenizer_config=config)
    ours, whole = load_tokenizer(tmp_path), load_tokenizer(source)
    other = auto_tokenizer(tmp_path)
    for text in TEXTS:
        assert ours.encode(text) == whole.encode(text) == published(tmp_path, text, other)
        assert ours.vocabulary.encode(text, control=True) == other.encode(text, add_special_tokens=False)
    assert (ours.size, ours.eos_id, ours.stop_ids) == (whole.size, whole.eos_id, whole.stop_ids)


def test_named_tokens_of_vocab_and_merges_are_control(folders, tmp_path):
    """Special tokens that only tokenizer_config.json and special_tokens_map.json name, by content."""
    tokenizers = pytest.importorskip("tokenizers", reason="byte-level BPE needs the tokenizers package")
    tokenizers.Tokenizer.from_file(str(folders("gpt2") / "tokenizer.json")).model.save(str(tmp_path))
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    write(tmp_path, tokenizer_config=config, special_tokens_map={"additional_special_tokens": ["<s>"]})
    ours, other = load_tokenizer(tmp_path), auto_tokenizer(tmp_path)
    for text in ["x<|endoftext|>y<s>", "<s>", "x <|endoftext|> y"]:
        ids = ours.vocabulary.encode(text, control=True)
        assert ids == other.encode(text, add_special_tokens=False)
        assert ours.vocabulary.control & set(ids)
        assert not ours.vocabulary.control & set(ours.encode(text))
        assert ours.encode(text) == published(tmp_path, text, other)
        assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize("name", ["gpt2", "own"])
def test_a_pad_token_that_is_a_word_stays_text(folders, own, tmp_path, name):
    """Some checkpoints pad with "!"; programs need it."""
    source = own.folder if name == "own" else folders(name)
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"pad_token": "!"}
    number = load_tokenizer(tmp_path).vocabulary.ids_of["!"]
    for decoder in ({}, {str(number): CONTROL | {"content": "!"}}):
        decoder = config.get("added_tokens_decoder", {}) | decoder
        write(tmp_path, tokenizer_config=config | {"added_tokens_decoder": decoder})
        ours = load_tokenizer(tmp_path)
        assert ours.encode("a != b!") == load_tokenizer(source).encode("a != b!")
        assert ours.decode(ours.encode("a != b!")) == "a != b!"
        assert number in ours.usable_ids


@pytest.mark.parametrize(
    ("name", "kind"), [("starcoder2", "GPT2Tokenizer"), ("llama2-legacy", "LlamaTokenizer")]
)
def test_tokenizer_json_counts_and_not_the_class_beside_it(folders, tmp_path, name, kind):
    """transformers 5 rebuilds some classes by rules of its own and forgets the file's digits and spaces."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizer.json needs the tokenizers package")
    source = folders(name)
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((source / "tokenizer_config.json").read_text()) | {"tokenizer_class": kind}
    write(tmp_path, tokenizer_config=config, config={"model_type": "llama"})
    ours, file = load_tokenizer(tmp_path), tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    file.encode_special_tokens = True
    for text in [*TEXTS, "x =   123", " x"]:
        assert ours.encode(text) == file.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word", "normalized"])
@pytest.mark.parametrize("name", ["llama2-legacy", "mistral", "gemma"])
def test_added_tokens_may_be_looked_for_in_normalised_text(folders, tmp_path, name, flag, special):
    """With spaces replaced and one put in front, "a<tok>" holds no such token, but "a <tok>" does."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizer.json needs the tokenizers package")
    spec = json.loads((folders(name) / "tokenizer.json").read_text())
    size = len(spec["model"]["vocab"])
    for i, content in enumerate(["<|im_start|>", "<|im_end|>", "<tok>"]):
        token = CONTROL | {"id": size + i, "content": content, "special": special, "normalized": True}
        spec["added_tokens"].append(token | {flag: True})
    (tmp_path / "tokenizer.model").write_bytes((folders(name) / "tokenizer.model").read_bytes())
    write(tmp_path, tokenizer=spec, tokenizer_config=NAMES)
    ours, file = load_tokenizer(tmp_path), tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in [*NASTY, "a<tok>b", " <tok>", "a <tok> b", "<tok><tok>", "<s>x</s><tok>\n", "  <tok>  "]:
        for control in (False, True):
            file.encode_special_tokens = not control
            expected = file.encode(text, add_special_tokens=False).ids
            assert ours.vocabulary.encode(text, control=control) == expected, repr(text)


@pytest.mark.parametrize("model_file", [True, False])
@pytest.mark.parametrize("name", ["llama2-legacy", "mistral", "gemma"])
def test_a_token_found_with_the_space_in_front_is_decoded_with_it(folders, tmp_path, name, model_file):
    """So "a <tok>b" comes back, as a text and as one that continues another, where it does as published."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizer.json needs the tokenizers package")
    spec = json.loads((folders(name) / "tokenizer.json").read_text())
    token = {"id": len(spec["model"]["vocab"]), "content": "<tok>", "special": False, "normalized": True}
    spec["added_tokens"].append(CONTROL | token)
    if model_file:
        (tmp_path / "tokenizer.model").write_bytes((folders(name) / "tokenizer.model").read_bytes())
    write(tmp_path, tokenizer=spec, tokenizer_config=NAMES)
    ours, file = load_tokenizer(tmp_path), tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ["<tok>", "a <tok>b", "a<tok>b", "a  <tok> b", "x <tok><tok>", "def f():\n    <tok>\n"]:
        ids = file.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == file.decode(ids)
        completion = ours.completion_ids(text)[:-1]
        if file.decode(ids) == text:  # Mistral's puts a space in front of what follows an added token, too
            assert ours.completion_text(completion) == text
        if text.startswith("a"):
            assert (token["id"] in completion) == (token["id"] in ids)


@pytest.mark.parametrize("begins", [True, False])
def test_the_template_of_tokenizer_json_decides_about_the_begin_token(folders, tmp_path, begins):
    """It has been kept in step with the model; add_bos_token beside it may be left over."""
    for path in folders("llama3").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    if not begins:
        text = {"Sequence": {"id": "A", "type_id": 0}}
        spec["post_processor"] = BEGIN | {"single": [text], "special_tokens": {}}
        spec["post_processor"]["pair"] = [text, {"Sequence": {"id": "B", "type_id": 1}}]
    config = {"bos_token": "<|im_start|>" if begins else "<s>", "eos_token": "<|eot_id|>"}
    write(tmp_path, tokenizer=spec, tokenizer_config=config | {"add_bos_token": not begins})
    ours, other = load_tokenizer(tmp_path), auto_tokenizer(tmp_path)
    ids = ours.prompt_ids("def f():")
    assert ids == other("def f():")["input_ids"]
    assert ids.count(ours.vocabulary.ids_of["<s>"]) == begins


def test_sentencepiece_in_tokenizer_json_alone(folders, tmp_path):
    """Llama-like folders without tokenizer.model: the same ids, completions without the space in front."""
    pytest.importorskip("tokenizers", reason="tokenizer.json needs the tokenizers package")
    for name in ("llama2-legacy", "llama2", "mistral", "gemma", "phi3"):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).write_bytes((folders(name) / file).read_bytes())
        ours, whole = load_tokenizer(folder), load_tokenizer(folders(name))
        assert ours.bytes_of == whole.bytes_of
        assert ours.usable_ids == whole.usable_ids
        for text in TEXTS:
            assert ours.prompt_ids(text) == whole.prompt_ids(text)
            assert ours.completion_ids(text) == whole.completion_ids(text)
            assert ours.decode(ours.encode(text)) == whole.decode(whole.encode(text))


def test_added_tokens_are_cut_out_longest_first_with_the_space_they_take():
    def parts(text: str, *contents: str, **flags: bool) -> list[str | int]:
        return list(TokenSplitter(AddedToken(i, c, **flags) for i, c in enumerate(contents)).split(text))

    assert parts("a<b><b>x", "<b>", "<b><b>") == ["a", 1, "x"]
    assert parts("a <b>  c", "<b>") == ["a ", 0, "  c"]
    assert parts("a <b>  c", "<b>", lstrip=True) == ["a", 0, "  c"]
    assert parts("a <b>  c", "<b>", rstrip=True) == ["a ", 0, "c"]
    assert parts("ab b", "b", single_word=True) == ["ab ", 0]
    assert parts("") == parts("", "<b>") == []
    assert parts("plain") == ["plain"]


# ---- decoding, sampling


@pytest.mark.parametrize("name", ["own", "llama2", "starcoder2"])
def test_streamed_text_is_the_decoded_text(folders, own, name):
    ours = own if name == "own" else load_tokenizer(folders(name))
    for text in TEXTS:
        ids = ours.completion_ids(text)
        stream = StreamDecoder(ours)
        parts = [stream.push(i) for i in ids]
        assert "".join(parts) + stream.finish() == text
        assert not any("\ufffd" in part for part in parts if "\ufffd" not in text)


def test_a_cut_character_is_shown_only_at_the_end(own):
    ids = own.encode("é")
    stream = StreamDecoder(own)
    assert len(ids) == 2
    assert (stream.push(ids[0]), stream.finish()) == ("", "\ufffd")
    assert own.decode(ids[:1]) == "\ufffd"


def test_decoding_is_exact_at_every_offset(own):
    ids = own.encode(PROGRAMS[0][:500])
    for cut in range(len(ids)):
        assert own.completion_text(ids[:cut]) + own.completion_text(ids[cut:]) == PROGRAMS[0][:500]


def test_the_stop_set_is_a_union(folders, tmp_path):
    for path in folders("gemma").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    template = (
        "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    )
    (tmp_path / "chat_template.jinja").write_text(template)
    write(tmp_path, config={"eos_token_id": 9}, generation_config={"eos_token_id": [1, 7]})
    ours = load_tokenizer(tmp_path)
    turn = ours.vocabulary.ids_of["<end_of_turn>"]
    assert ours.stop_ids == {ours.eos_id, 9, 1, 7, turn}
    assert ours.end_of_turn == turn
    assert ours.stop_ids <= set(ours.usable_ids)
    assert load_tokenizer(folders("gemma")).digest != ours.digest


@pytest.mark.parametrize("name", SENTENCEPIECE + BYTE_LEVEL)
def test_only_ids_with_text_and_stop_ids_are_sampled(folders, name):
    ours = load_tokenizer(folders(name))
    assert ours.usable_ids == sorted(set(ours.usable_ids))
    for i in ours.usable_ids:
        assert ours.bytes_of[i] or i in ours.stop_ids
    assert not (set(ours.usable_ids) & ours.vocabulary.control) - ours.stop_ids
    assert ours.usable_ids[-1] < ours.size


def test_a_stop_id_is_control_even_where_its_token_is_not_special(folders, tmp_path):
    """DeepSeek-Coder's <|EOT|> is an ordinary added token, and ends every answer."""
    pytest.importorskip("tokenizers", reason="tokenizer.json needs the tokenizers package")
    spec = json.loads((folders("starcoder2") / "tokenizer.json").read_text())
    token = next(row for row in spec["added_tokens"] if row["content"] == "<tool_call>")
    write(tmp_path, tokenizer=spec, tokenizer_config={"eos_token": "<|endoftext|>"})
    plain = load_tokenizer(tmp_path)
    assert plain.encode("<tool_call>") == [token["id"]]
    assert plain.decode([token["id"]]) == "<tool_call>"
    write(tmp_path, generation_config={"eos_token_id": [token["id"]]})
    ours = load_tokenizer(tmp_path)
    assert token["id"] not in ours.encode("<tool_call>")
    assert ours.decode([token["id"]]) == ""
    assert ours.stop_ids == {ours.eos_id, token["id"]}


def test_what_only_the_config_calls_special_is_text_where_tokenizer_json_says_so(folders, tmp_path):
    """transformers 5 lists every user-defined piece as an extra special token, indentation too."""
    pytest.importorskip("tokenizers", reason="tokenizer.json needs the tokenizers package")
    source = folders("gemma")
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["extra_special_tokens"] = ["<start_of_turn>", "<end_of_turn>", *RUNS]
    spec = json.loads((source / "tokenizer.json").read_text())
    write(tmp_path, tokenizer=spec, tokenizer_config=config)
    text = "def f(x):\n\n    return x"
    for ours in (load_tokenizer(source), load_tokenizer(tmp_path)):
        ids = ours.encode(text)
        assert ids == published(source, text, auto_tokenizer(source))
        assert ours.decode(ids) == text
        assert set(ids) <= set(ours.usable_ids)


def test_templates_know_extra_tokens_by_their_names(folders, tmp_path):
    source = folders("gemma")
    (tmp_path / "tokenizer.model").write_bytes((source / "tokenizer.model").read_bytes())
    write(tmp_path, tokenizer_config=NAMES | {"extra_special_tokens": {"boi_token": "<start_of_turn>"}})
    ours = load_tokenizer(tmp_path)
    assert ours.named["boi_token"] == "<start_of_turn>"


# ---- bad input


def test_a_folder_without_tokenizer_names_what_it_holds(tmp_path):
    write(tmp_path, config={})
    with pytest.raises(ValueError, match=r"holds no tokenizer.*found \['config.json'\]"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        load_tokenizer(tmp_path / "absent")


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"<!DOCTYPE html>" + b, lambda b: b""]
)
def test_a_damaged_model_file_is_named(tmp_path, damage):
    path = train_pieces(tmp_path) / "tokenizer.model"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"tokenizer\.model .*not a sentencepiece model.*download the file again"
    ):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer_config.json"])
def test_a_pointer_of_git_lfs_is_recognised(tmp_path, name):
    (train_pieces(tmp_path) / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\n")
    with pytest.raises(ValueError, match=rf"{name}.*run `git lfs pull`"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_damaged_json_is_named(tmp_path, text):
    (train_pieces(tmp_path) / "tokenizer_config.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape("tokenizer_config.json")):
        load_tokenizer(tmp_path)


def test_an_unreadable_tokenizer_json_is_named(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizer.json needs the tokenizers package")
    for spec in (
        {"model": {}},
        {"model": None},
        {"model": {"type": "No", "vocab": {"a": 0}}, "decoder": {"type": "ByteLevel"}},
    ):
        write(tmp_path, tokenizer=spec)
        with pytest.raises(ValueError, match=r"tokenizer\.json"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"a"'])
def test_an_unreadable_vocab_json_is_named(tmp_path, text):
    (tmp_path / "merges.txt").write_text("")
    (tmp_path / "vocab.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'vocab.json'}")):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"added_tokens_decoder": {"9": {"special": True}}},
            "added token 9 is .'special': True., expected",
        ),
        ({"added_tokens_decoder": {"9": "<x>"}}, "added token 9 is <x>, expected"),
        ({"added_tokens_decoder": {"x": {"content": "<x>"}}}, "added token x is .*a whole number as its id"),
        ({"chat_template": [{"template": "{{ x }}"}]}, "chat_template lists .*with name and template"),
        ({"chat_template": ["{{ x }}"]}, "chat_template lists .*with name and template"),
    ],
)
def test_a_row_that_lacks_what_it_needs_is_named_with_its_file(tmp_path, config, message):
    write(train_pieces(tmp_path), tokenizer_config=config)
    with pytest.raises(ValueError, match=rf"tokenizer_config\.json: {message}"):
        load_tokenizer(tmp_path)


def test_rows_of_the_other_files_are_named_with_them(tmp_path):
    write(train_pieces(tmp_path), chat_template={"chat_template": [{"name": "default"}]})
    with pytest.raises(ValueError, match=r"/chat_template\.json: chat_template lists"):
        load_tokenizer(tmp_path)
    write(tmp_path, tokenizer={"added_tokens": [{"id": 9}]})
    with pytest.raises(ValueError, match=r"/tokenizer\.json: added token 9 is"):
        load_tokenizer(tmp_path)


def test_without_the_tokenizers_package_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name: str, *rest: object, **named: object) -> object:
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    write(tmp_path, tokenizer={"model": {"type": "BPE", "vocab": {"a": 0}}, "decoder": {"type": "ByteLevel"}})
    with pytest.raises(ValueError, match="pip install tokenizers"):
        load_tokenizer(tmp_path)


def test_more_ids_than_embedding_rows_is_an_error(own):
    check_vocabulary(own, own.size)
    check_vocabulary(own, own.size + 100)
    with pytest.raises(ValueError, match=f"{own.size} ids.*{own.size - 1} rows"):
        check_vocabulary(own, own.size - 1)


def test_text_that_is_not_unicode_is_a_value_error(own):
    with pytest.raises(ValueError, match="surrogate"):
        own.encode("a\ud800b")


def test_the_digest_is_that_of_the_files_not_of_the_place(folders, tmp_path):
    for path in folders("llama2").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write(tmp_path, config={"vocab_size": 5})
    assert load_tokenizer(tmp_path).digest == load_tokenizer(folders("llama2")).digest
