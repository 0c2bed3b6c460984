"""Formats texts and numbers so that they can be shown on one line."""

import unicodedata

_LINE = 2000  # characters
_WHOLE = 100  # numbers from here on are shown without decimals


def one_line(text: str) -> str:
    """Returns a text as one line of readable length.

    Characters that would break the line are escaped as in Python, and the middle of a long text is left out.
    """
    spelled = "".join(repr(c)[1:-1] if unsayable(c) or c in "\u2028\u2029" else c for c in text)
    if len(spelled) <= _LINE:
        return spelled
    return f"{spelled[: _LINE // 2]} ... {spelled[-_LINE // 2 :]}"  # the remedy is at the end


def unsayable(text: str) -> bool:
    """Whether a text has control characters or surrogates (bytes that are no text), which break lines and records."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def in_digits(value: float | None) -> str:
    """Formats a return or a rate: three digits, or no decimals from 100 on; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= _WHOLE else f"{value + 0.0:.3g}"
