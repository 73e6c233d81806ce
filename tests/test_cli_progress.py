"""How far long work is: a number on a terminal, gone when the work is over, and nothing anywhere else."""

from __future__ import annotations

import sys

import pytest

from functions.cli_progress import Progress, events, megabytes


def terminals(monkeypatch: pytest.MonkeyPatch, *, output: bool, error: bool) -> None:
    """Say which of standard output and standard error are terminals."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: output)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: error)


def test_the_number_counts_up_and_is_wiped_away_also_where_the_work_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that is said stands above it."""
    terminals(monkeypatch, output=True, error=True)

    def work() -> None:
        with Progress(events) as progress:
            progress.add(1500)
            progress.say("1-1: wrong")
            progress.add(500)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()

    assert "\r1,500 events\r\033[K1-1: wrong\n\r2,000 events\r\033[K" == capsys.readouterr().err


@pytest.mark.parametrize("output", [True, False])
def test_only_lines_are_printed_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: bool
) -> None:
    """As in a log."""
    terminals(monkeypatch, output=output, error=False)
    with Progress(events) as progress:
        progress.add(1500)
        progress.say("1-1: wrong")

    assert "1-1: wrong\n" == capsys.readouterr().err


@pytest.mark.parametrize(("output", "shown"), [(True, ""), (False, "\r2.5 MB\r\033[K")])
def test_it_does_not_disturb_output_on_the_same_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: bool, shown: str
) -> None:
    """It is there where the output goes into a file or a pipe."""
    terminals(monkeypatch, output=output, error=True)
    with Progress(megabytes, beside_output=True) as progress:
        progress.add(2_500_000)

    assert shown == capsys.readouterr().err
