"""Whose numbers a reader is shown, decided once for every route and format: nothing else looks at who asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from functions.core.errors import MisconfiguredError, RequestRefusedError
from functions.core.pseudonyms import LEAST_SECRET_CHARACTERS, Pseudonyms

if TYPE_CHECKING:
    from functions.core.read_access import Reader
    from functions.core.settings import Settings

OFF: Final = "off"
LEAST_USERS_OF_A_PARTNER: Final = 5
"""In a group that is shown to readers bound to a merchant, where no setting says how many."""
_MAKING: Final = "`openssl rand -hex 32` makes one"


@dataclass(frozen=True, slots=True)
class View:
    """What one answer is made from."""

    merchant: str | None = None
    """Whose flyers; None: those of all merchants together."""
    bound: bool = False
    """Whether the reader may see this merchant alone; then nothing is shown that is over all of them, as the books."""
    pseudonyms: Pseudonyms | None = None
    """What stands in place of user ids; None: they do themselves."""
    least_users: int = 1
    """In each group that summaries show."""

    def key(self) -> str:
        """Return a text that is the same exactly for the same view of users."""
        return f"{self.merchant!r}|{self.bound}|{self.pseudonyms and self.pseudonyms.fingerprint}"


class Views:
    """Gives readers their views: to those bound to a merchant pseudonyms and no small groups, unless that is off."""

    def __init__(self, settings: Settings, *, may_be_bound: bool) -> None:
        """Take what the views hang on.

        Args:
            settings: Those of this process.
            may_be_bound: Whether some reader may be bound to a merchant.

        Raises:
            MisconfiguredError: Pseudonyms would have to be made without a secret, or with one that can be guessed.
        """
        self._secret = None if settings.pseudonyms == OFF else settings.pseudonym_secret
        if self._secret is not None and len(self._secret) < LEAST_SECRET_CHARACTERS:
            raise MisconfiguredError(
                "bad_settings",
                f"FLYERTIME_PSEUDONYM_SECRET must have at least {LEAST_SECRET_CHARACTERS} characters: {_MAKING}",
            )
        if self._secret is None and settings.pseudonyms != OFF and may_be_bound:
            raise MisconfiguredError(
                "no_pseudonym_secret",
                "a key or a token may be bound to a merchant, and its readers are to see pseudonyms in place of user "
                f"ids: set FLYERTIME_PSEUDONYM_SECRET to a random text that stays the same ({_MAKING}), or "
                "FLYERTIME_PSEUDONYMS=off where merchants may know the ids and so join their data",
            )
        least = settings.min_group_users
        self._everybody = View(least_users=1 if least is None else least)
        self._least_users_of_a_partner = LEAST_USERS_OF_A_PARTNER if least is None else least

    def of(self, reader: Reader, merchant: str | None) -> View:
        """Return what a reader sees who asks for a merchant (None: for no one in particular).

        Readers bound to a merchant see it wherever they look; `GET /` shows them its users.

        Raises:
            RequestRefusedError: It is another merchant than theirs (403), whether or not there is such a one.
        """
        if reader.merchant is None:
            return self._everybody if merchant is None else replace(self._everybody, merchant=merchant)
        if merchant is not None and merchant != reader.merchant:
            raise RequestRefusedError("other_merchant", "this key is bound to another merchant", status=403)
        pseudonyms = None if self._secret is None else Pseudonyms(self._secret, reader.merchant)
        return View(reader.merchant, bound=True, pseudonyms=pseudonyms, least_users=self._least_users_of_a_partner)
