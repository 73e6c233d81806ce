"""Paths to routes: a bounded set of names."""

from __future__ import annotations

import pytest

from functions.core.routes import Routes, method_of

ROUTES = Routes(("/", "/api/process", "/users/{user_id}", "/merchants/{merchant_id}/users/{user_id}"))


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("", "other"),
        ("/api/process", "/api/process"),
        ("/api/process/", "/api/process"),
        ("/users/ann", "/users/{user_id}"),
        ("/users/a%2Fb", "/users/{user_id}"),
        ("/users/a/b", "other"),
        ("/merchants/m/users/u", "/merchants/{merchant_id}/users/{user_id}"),
        ("/wp-login.php", "other"),
        ("//", "/"),
    ],
)
def test_a_path_has_the_route_of_its_template(path: str, route: str) -> None:
    """What no template fits is `other`, however long the list of paths that a scanner tries."""
    assert route == ROUTES.of(path)


def test_methods_that_nobody_knows_have_one_name() -> None:
    """A method is a label only where it is one of HTTP's."""
    assert ["POST", "_OTHER", "_OTHER"] == [method_of("POST"), method_of("BREW"), method_of("post")]
