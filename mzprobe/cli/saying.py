"""What the command line says beside a command's own output: one line each, on stderr."""

from rich.console import Console


def say(sentence: str) -> None:
    """One line on stderr, above progress bars where there are any."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, markup=False)
