"""How wide text is, without fonts: the advance widths of DejaVu Sans, the widest common sans."""

import unicodedata

__all__ = ["text_width"]

# Hundredths of an em, from space to '~'. A narrower font on the reader's side only adds room.
# fmt: off
ASCII_WIDTHS = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84, 84, 84, 53,
    100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79,
    60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50,
    50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61,
    63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
)
# fmt: on


def text_width(text: str, size: float) -> float:
    """Width in pixels of one line of `text` set at `size` pixels."""
    return sum(_hundredths(char) for char in text) * size / 100


def _hundredths(char: str) -> int:
    if " " <= char <= "~":
        return ASCII_WIDTHS[ord(char) - 32]
    if unicodedata.combining(char):
        return 0
    # 84 covers DejaVu's Greek, Cyrillic, arrows and mathematical signs.
    return 100 if unicodedata.east_asian_width(char) in "WF" else 84
