"""Texts made fit to be shown on one line."""

import unicodedata

_LINE = 2000  # characters
_WHOLE = 100  # from here on digits behind the point are noise


def one_line(text: str) -> str:
    """A text as one line of readable length: what spoils a line is spelled as Python does, the middle is left out."""
    spelled = "".join(repr(c)[1:-1] if unsayable(c) or c in "\u2028\u2029" else c for c in text)
    if len(spelled) <= _LINE:
        return spelled
    return f"{spelled[: _LINE // 2]} ... {spelled[-_LINE // 2 :]}"  # the remedy is at the end


def unsayable(text: str) -> bool:
    """Whether a text has characters that spoil a line or a record: control characters, and bytes that are no text."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def in_digits(value: float | None) -> str:
    """A return or a rate as lines show it: three digits or, from 100 on, whole; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= _WHOLE else f"{value + 0.0:.3g}"
