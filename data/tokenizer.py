"""Text to token ids and back, exactly: the same ids in training and sampling, the same bytes after decoding.

`train_tokenizer` makes a sentencepiece model that keeps every byte of a program; `load_tokenizer` reads the
tokenizer files of a checkpoint folder. Two functions hold the only places where a begin or end token is added:
`prompt_ids` and `completion_ids`. Decoding joins the bytes of the pieces and does nothing else.
"""

import codecs
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from data.jsonl import write_json

SPACE = "\u2581"  # what sentencepiece writes for a space
PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
WHOLE_PIECES = ["\n", "\t", *(SPACE * n for n in (16, 12, 8, 4, 2))]  # never merged with what follows


def train_tokenizer(texts: Iterable[str], folder: Path | str, size: int) -> None:
    """Train sentencepiece BPE on `texts` and write tokenizer.model and tokenizer_config.json into `folder`.

    Identity normalisation, no dummy prefix, every space kept, digits apart, unknown characters as bytes: what
    is encoded comes back. `size` is an upper bound, reached unless the texts hold too few different pairs.
    The same texts in the same order give the same file.
    """
    folder = Path(folder)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            byte_fallback=True,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            user_defined_symbols=WHOLE_PIECES,
            required_chars="".join(map(chr, range(33, 127))),
            character_coverage=0.9995,
            max_sentence_length=1 << 20,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece=PAD,
            bos_piece=BOS,
            eos_piece=EOS,
            unk_piece=UNK,
            num_threads=1,  # the same file every time
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(f"no tokenizer of {size} pieces can be trained on these texts: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "add_prefix_space": False,
            "legacy": False,
            "clean_up_tokenization_spaces": False,
            "pad_token": PAD,
            "bos_token": BOS,
            "eos_token": EOS,
            "unk_token": UNK,
        },
    )


class Tokenizer:
    """One vocabulary. `size` counts its pieces; a model's embedding may have more rows, never fewer."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.model"
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.size: int = self.pieces.get_piece_size()
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        self.bos_id: int | None = self.pieces.bos_id()
        self.eos_id: int | None = self.pieces.eos_id()
        self.stop_ids = frozenset({self.eos_id})
        self.chat_template: str | None = None
        self.bytes_of = [self.piece_bytes(i) for i in range(self.size)]
        self.usable_ids = [i for i in range(self.size) if self.bytes_of[i] or i in self.stop_ids]

    def piece_bytes(self, i: int) -> bytes:
        """What one id adds to the text; nothing for control ids."""
        if self.pieces.is_control(i) or self.pieces.is_unknown(i) or self.pieces.is_unused(i):
            return b""
        piece = self.pieces.id_to_piece(i)
        if self.pieces.is_byte(i):
            return bytes([int(piece[1:-1], 16)])
        return piece.replace(SPACE, " ").encode()

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; text that looks like a control token stays text."""
        return self.pieces.encode(text)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return self.pieces.encode(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; control ids give nothing, bytes that are not UTF-8 give U+FFFD."""
        return b"".join(self.bytes_of[i] for i in ids).decode("utf-8", errors="replace")

    def prompt_ids(self, text: str) -> list[int]:
        return [self.bos_id, *self.encode(text)]

    def completion_ids(self, text: str) -> list[int]:
        return [*self.encode(text), self.eos_id]


class StreamDecoder:
    """Decode one id at a time; text appears as soon as its last byte has.

    The pieces returned by `push` and the final `finish`, joined, equal `tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.bytes_of = tokenizer.bytes_of
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, i: int) -> str:
        return self.decoder.decode(self.bytes_of[i])

    def finish(self) -> str:
        return self.decoder.decode(b"", final=True)


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer in a checkpoint folder."""
    folder = Path(folder)
    if not (folder / "tokenizer.model").is_file():
        raise ValueError(
            f"{folder} holds no tokenizer.model; expected the tokenizer files of a checkpoint there"
        )
    return Tokenizer(folder)
