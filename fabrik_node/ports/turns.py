"""How agents keep out of each other's way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # it imports this
    from fabrik_node.ports import ItemView

__all__ = ["Turns"]


class Turns(Protocol):
    """Who asks for which item first. A matter of courtesy: who has an item say claims alone."""

    def choose(self, views: Sequence[ItemView], labels: Sequence[str], room: int) -> list[tuple[bytes, float]]:
        """Of these candidates, best first, those that fall to an agent with these labels and room, and after how many seconds. To be asked again when anything changed."""
        ...

    def intent(self, item: bytes) -> AbstractContextManager[float]:
        """Tells the others that this agent asks for the item, until it is left. Gives the seconds to listen before :meth:`Pipeline.is_candidate` is asked once more."""
        ...

    def say_now(self) -> None:
        """What this agent says of itself is to be told to the others at once, not in the next beat."""
        ...
