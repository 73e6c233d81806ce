"""A lease in the store: who holds it is the only one who does something, as long as it is there to renew it.

Who is killed holds it for some seconds more. Who was only held up for longer than that finds out by ``check``, before
each step that others could not bear twice.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from functions.adapters.redis_client import connect, load_script, translated_errors
from functions.core.errors import FlyertimeError, UnavailableError

if TYPE_CHECKING:
    from functions.core.settings import Settings

_LEASE: Final = load_script("lease")
LEASE_S: Final = 5.0
"""Who holds it is taken to be gone after so long without a sign."""
_RENEWALS: Final = 5
"""In that time."""
_POLL_S: Final = 0.05


class Lease:
    """Held within a ``with`` block.

    Each act has a connection of its own: a thread renews it, and who is interrupted may still get its last reply.
    """

    def __init__(self, settings: Settings, key: str, what: str) -> None:
        self._settings = settings
        self._key = key
        self._what = what
        self._token = secrets.token_hex(8)
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        """Take it, waiting for one whose holder is gone.

        Raises:
            UnavailableError: Somebody holds it and is there, or the store does not answer.
        """
        deadline_s = time.monotonic() + LEASE_S + 2 * _POLL_S
        while not self._act("take"):
            if time.monotonic() > deadline_s:
                raise UnavailableError("held", f"another {self._what} is at work: try again when it has ended")
            time.sleep(_POLL_S)
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._ended.set()
        self._renewing.join()
        with suppress(FlyertimeError):  # it runs out by itself
            self._act("return")

    def is_held(self) -> bool:
        """Tell whether nobody else has taken it, and renew it."""
        return self._act("renew")

    def check(self) -> None:
        """Renew it.

        Raises:
            FlyertimeError: Somebody else has taken it meanwhile.
        """
        if not self.is_held():
            raise FlyertimeError("superseded", f"held up for too long: another {self._what} was begun meanwhile")

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_S / _RENEWALS):
            with suppress(FlyertimeError):  # the next step of the work finds out, too
                if not self._act("renew"):
                    return

    def _act(self, act: str) -> bool:
        client = connect(self._settings)
        try:
            with translated_errors():
                reply = client.eval(_LEASE.text, 1, self._key, act, self._token, int(LEASE_S * 1_000_000))
        finally:
            client.close()
        return bool(reply == 1)
