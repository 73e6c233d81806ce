"""What a failed run says: one line with the cause, out of the pages that Spark wraps it in."""

from __future__ import annotations

import pytest

from spark.main import cause_of


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "An error occurred while calling a.\n: java.net.BindException: no such address\n\tat a.B.c\n",
            "java.net.BindException: no such address",
        ),
        (
            ": java.io.IOException: no\n\tat a.B.c\nCaused by: a.B$InnerException: of all this\n\t... 2 more",
            "a.B$InnerException: of all this",
        ),
        (
            "Traceback (most recent call last):\n  File x\nValueError: the answer is 42\n\n\tat a.B.c",
            "ValueError: the answer is 42",
        ),
        ("no cause in sight", "RuntimeError: no cause in sight"),
    ],
    ids=["Java", "Java within Java", "Python within Java", "none"],
)
def test_the_cause_is_found_in_what_spark_says(text: str, cause: str) -> None:
    """Java's own errors too, which stand behind a colon or "Caused by"."""
    assert cause == cause_of(RuntimeError(text))
