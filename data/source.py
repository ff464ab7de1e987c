"""Source text of statements: lines as Python counts them, columns in bytes as `ast` gives them."""

import ast
import re


def byte_lines(source: str) -> list[bytes]:
    """Lines as Python counts them (CR, CRLF and LF end one), ends kept: columns of `ast` are in bytes."""
    return re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", source.encode())


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def source_bytes(lines: list[bytes], node: ast.stmt, first: int) -> bytes:
    """Bytes of a statement from line `first` (1-based; its own column when it starts there)."""
    if first == node.end_lineno:  # many statements may share a long line
        return lines[first - 1][node.col_offset : node.end_col_offset]
    piece = lines[first - 1 : node.end_lineno]
    piece[-1] = piece[-1][: node.end_col_offset]
    if first == node.lineno:
        piece[0] = piece[0][node.col_offset :]
    return b"".join(piece)
