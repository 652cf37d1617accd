"""How work on many items tells how far it is: it passes them through what its caller gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

#: Passes items on, for instance with a bar: ``progress(items, label, total)``.
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
#: The same for work of one kind, whose caller knows what to call it: ``progress(items, total)``.
Counted = Callable[[Iterable[Any], int], Iterable[Any]]


def silent(items: Iterable[Any], label: str, total: int) -> Iterable[Any]:
    """Pass items on and tell nothing: what work does that nobody watches."""
    return items
