"""Whose numbers a reader is shown, decided once for every route and format: nothing else looks at who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.core.errors import RequestRefusedError
from functions.core.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from functions.core.read_access import Reader


@dataclass(frozen=True, slots=True)
class View:
    """What one answer is made from."""

    merchant: str | None = None
    """Whose flyers; None: those of all merchants together."""
    bound: bool = False
    """Whether the reader may see this merchant alone; then nothing is shown that is over all of them, as the books."""
    pseudonyms: Pseudonyms | None = None
    """What stands in place of user ids; None: they do themselves."""

    def key(self) -> str:
        """Return a text that is the same exactly for the same view."""
        return f"{self.merchant!r}|{self.bound}|{self.pseudonyms and self.pseudonyms.fingerprint}"


_EVERYBODY: Final = View()


def view_of(reader: Reader, merchant: str | None, pseudonym_secret: str | None) -> View:
    """Return what a reader sees who asks for a merchant (None: for no one in particular).

    Readers bound to a merchant see it wherever they look; `GET /` shows them its users.

    Raises:
        RequestRefusedError: It is another merchant than theirs (403), whether or not there is such a one.
    """
    if reader.merchant is None:
        return _EVERYBODY if merchant is None else View(merchant)
    if merchant is not None and merchant != reader.merchant:
        raise RequestRefusedError("other_merchant", "this key is bound to another merchant", status=403)
    pseudonyms = None if pseudonym_secret is None else Pseudonyms(pseudonym_secret, reader.merchant)
    return View(reader.merchant, bound=True, pseudonyms=pseudonyms)
