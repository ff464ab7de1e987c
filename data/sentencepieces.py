"""Ids of text by a sentencepiece model and the tokens that the files beside it add (Llama 2, Mistral, Gemma,
...).

The vocabulary interface, shared with data/tokenizer_json.py: `ids_of` content -> id, `control` ids that no
plain text may give, `bytes_of` what each id adds to decoded text (nothing for control ids), `encode`,
`encode_batch`, `strips_space` whether decoding from the start takes back one space. Where a text begins or
ends with control tokens is not decided here (data/tokenizer.py).
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import sentencepiece

from data.added_tokens import AddedToken, Prefix, TokenSplitter

SPACE = "\u2581"  # how sentencepiece writes a space
# `normalizer_spec { add_dummy_prefix }` off and on: appended to a serialised model, it overrides that one
# field
WITHOUT_PREFIX, WITH_PREFIX = b"\x1a\x02\x18\x00", b"\x1a\x02\x18\x01"
USER_DEFINED, CONTROL = 4, 3  # SentencePiece.Type


class SentencePieces:
    """The vocabulary of a tokenizer.model; ValueError when the file is not one.

    `named` are the contents of bos_token, eos_token and the like, `stop` ids that end a text: both are
    control tokens. Without a `prefix` the model's own setting holds, in front of the very start only.
    With `normalizes`, added tokens marked so are looked for only when spaces are replaced and the space in
    front is there, and are themselves written that way: <tok> is then found as "\u2581<tok>", and decoded
    with that space.
    """

    def __init__(
        self,
        path: Path,
        added: Iterable[AddedToken] = (),
        named: Iterable[str] = (),
        stop: Iterable[int] = (),
        prefix: Prefix | None = None,
        normalizes: bool = False,
    ) -> None:
        serialized = path.read_bytes()
        model = load_model(serialized, path)
        count = model.get_piece_size()
        pieces = [model.id_to_piece(i) for i in range(count)]
        added = {token.id: token for token in added}
        self.size = max([count, *(i + 1 for i in added)])
        self.bos_id, self.eos_id = (i if i >= 0 else None for i in (model.bos_id(), model.eos_id()))
        self.ids_of = {piece: i for i, piece in enumerate(pieces)} | {t.content: i for i, t in added.items()}

        user_defined = user_defined_pieces(serialized)
        bare = load_model(serialized + WITHOUT_PREFIX, path)
        special = {i for i, token in added.items() if token.special}
        special |= {self.ids_of[name] for name in named if name in self.ids_of}
        self.control = {i for i in range(count) if model.is_control(i) or model.is_unknown(i)}
        self.control |= {  # what a text can give is no control token: some files pad with an ordinary piece
            i for i in special if i >= count or pieces[i] in user_defined or bare.encode(pieces[i]) != [i]
        }
        words = special - self.control
        self.control |= {i for i in stop if i < self.size}

        self.bytes_of = [b""] * self.size
        for i in set(range(count)) - self.control:
            if not model.is_unused(i):
                self.bytes_of[i] = piece_bytes(pieces[i], model.is_byte(i))
        if prefix is None:
            prefix = Prefix(
                "first" if model.encode("a") != model_without(serialized).encode("a") else "never"
            )
        lead = normalizes and prefix.scheme != "never"  # as found, so written: with the space in front
        for i in added.keys() - self.control - words:
            self.bytes_of[i] = b" " * (lead and added[i].normalized) + piece_bytes(added[i].content)

        # The model matches its user-defined pieces by itself, but must not match those that are control
        # tokens.
        editable = bytearray(serialized)
        for i in self.control & set(range(count)):
            if pieces[i] in user_defined:
                editable[user_defined[pieces[i]]] = CONTROL
        matched = {i: token for i, token in added.items() if i not in self.control | words}
        plain = {i: token for i, token in matched.items() if token.content not in user_defined}
        control = {i: added.get(i) or AddedToken(i, pieces[i]) for i in self.control}
        late = {i for i, token in (plain | control).items() if normalizes and token.normalized}
        self.plain_tokens, self.all_tokens = (
            TokenSplitter(token for i, token in tokens.items() if i not in late)
            for tokens in (plain, plain | control)
        )
        self.late_tokens = {
            (all_of_them, spaced): TokenSplitter(
                replace(
                    token,
                    content=SPACE * (spaced or (lead and i in plain)) + token.content.replace(" ", SPACE),
                )
                for i, token in (plain | control if all_of_them else plain).items()
                if i in late
            )
            for all_of_them in (False, True)
            for spaced in (False, True)
        }

        self.prefix = prefix
        self.strips_space = prefix.scheme != "never"
        self.bare = load_model(bytes(editable) + WITHOUT_PREFIX, path)
        self.prefixed = load_model(bytes(editable) + WITH_PREFIX, path) if self.strips_space else self.bare

    def encode(self, text: str, *, control: bool = False, start: bool = True) -> list[int]:
        """Ids of `text`. `control`: recognise control tokens in it; `start`: nothing precedes it."""
        ids: list[int] = []
        for part in (self.all_tokens if control else self.plain_tokens).split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                spaced = bool(start or ids) and self.prefix.wanted(part, at_start=not ids)
                ids += self.encode_stretch(part, control, spaced)
        return ids

    def encode_stretch(self, text: str, control: bool, spaced: bool) -> list[int]:
        """Ids of text between added tokens, with or without a space in front."""
        late = self.late_tokens[control, spaced]
        if late.pattern is None:
            return encode_part(self.prefixed if spaced else self.bare, text)
        parts = late.split(SPACE * spaced + text.replace(" ", SPACE))
        return [
            i for part in parts for i in ([part] if isinstance(part, int) else encode_part(self.bare, part))
        ]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of many plain texts."""
        matched = self.plain_tokens.pattern or self.late_tokens[False, False].pattern
        if matched is None and self.prefix.scheme == "never":
            return self.bare.encode(texts)
        return [self.encode(text) for text in texts]


def load_model(serialized: bytes, path: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        model = sentencepiece.SentencePieceProcessor(
            model_proto=serialized or b"\0"
        )  # b"" would load nothing
    except (RuntimeError, OSError):
        raise ValueError(
            f"{path} ({len(serialized)} bytes) is not a sentencepiece model, or only a part of one; "
            f"{next_step(serialized)}"
        ) from None
    return model


def next_step(content: bytes) -> str:
    """What to do about a file that is not what its name says."""
    if content.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer: run `git lfs pull` in that folder"
    return "download the file again"


def encode_part(model: sentencepiece.SentencePieceProcessor, text: str) -> list[int]:
    try:
        return model.encode(text)
    except RuntimeError:
        text.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError that says where
        raise


def model_without(serialized: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=serialized + WITHOUT_PREFIX)


def piece_bytes(piece: str, is_byte: bool = False) -> bytes:
    """What one piece adds to the text; byte pieces are written <0x0A>."""
    return bytes([int(piece[1:-1], 16)]) if is_byte else piece.replace(SPACE, " ").encode()


def user_defined_pieces(serialized: bytes) -> dict[str, int]:
    """Content of every user-defined piece -> position of its type byte in the serialised model.

    A model begins with its pieces, each `0A length (0A length content) (15 score) (18 type)`; the type is
    left out for ordinary ones.
    """
    found: dict[str, int] = {}
    ending, position = bytes([0x18, USER_DEFINED]), 0
    if ending not in serialized:
        return found
    while position < len(serialized) and serialized[position] == 0x0A:
        length, begin = read_varint(serialized, position + 1)
        position = begin + length
        if serialized.endswith(ending, begin, position):
            size, content = read_varint(serialized, begin + 1)
            found[serialized[content : content + size].decode()] = position - 1
    return found


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A protobuf integer -> its value, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def as_document(path: Path) -> dict:
    """A tokenizer.model without a space in front of text, for programs that read tokenizer.json only.

    Merges are every way to put a piece together from two others, in the order the pieces were learnt.
    """
    model = load_model(path.read_bytes(), path)
    pieces = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    control = [piece for piece, i in pieces.items() if model.is_control(i) or model.is_unknown(i)]
    learnt = [piece for piece, i in pieces.items() if piece not in control and not model.is_byte(i)]
    begin, unknown = model.id_to_piece(model.bos_id()), model.id_to_piece(model.unk_id())
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(learnt, key=lambda piece: (-model.get_score(pieces[piece]), pieces[piece]))
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": pieces[name], "content": name} | flags for name in control],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": begin, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {begin: {"id": begin, "ids": [pieces[begin]], "tokens": [begin]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": pieces,
            "merges": merges,
        },
    }
