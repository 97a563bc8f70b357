"""Joins a Ray cluster that is running already."""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient  # type: ignore[attr-defined]

from pipeline.interruption import ask_to_be_resumed, catch_signals

logger = logging.getLogger(__name__)

_SECONDS_TO_ANSWER = 10.0
_START = "Start one (cluster/README.md), or leave --ray.address out to use this machine alone."


@contextmanager
def joined_ray(address: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Joins a cluster and leaves it at the end.

    Args:
        address: `auto`, HOST:PORT of the head, or ray://HOST:PORT.
        options: Further arguments of ray.init.

    Raises:
        ConnectionError: No cluster answers there, or it does not accept the token.
        FileNotFoundError: There is no token.
    """
    ask_to_be_resumed()
    if not address.startswith("ray://"):
        _check_token()
        _check_answers(address, _find(address))
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError) as error:
        raise _nothing_answers(address, error) from error
    try:
        catch_signals()
        yield
    finally:
        ray.shutdown()


def _find(address: str) -> str:
    """HOST:PORT of the head."""
    try:
        found = canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        raise _nothing_answers(address, error) from error
    if found is None:
        raise _nothing_answers(address, "no cluster runs on this machine")
    return str(found)


def _check_token() -> None:
    """Raises FileNotFoundError if Ray would look for a token in vain; it would abort the process."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    token = _token_file()
    if not token.is_file():
        raise FileNotFoundError(
            f"The cluster's token is missing: there is no file '{token}' "
            "(RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token). Copy it from the cluster's head, and keep it to "
            "yourself (chmod 600). A cluster without a token is joined with RAY_AUTH_MODE=disabled."
        )
    if stat.S_IMODE(token.stat().st_mode) & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning(
            "other users of this machine can read the cluster's token, '%s': chmod 600 it; make a new one if "
            "they may have",
            token,
        )


def _check_answers(address: str, head: str) -> None:
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()
        GcsClient(address=head).internal_kv_get(b"", namespace=None, timeout=_SECONDS_TO_ANSWER)
    except ray.exceptions.AuthenticationError as error:
        raise ConnectionError(
            f"The cluster at '{head}' does not accept the token of {_token_source()}. Take the one of the "
            "cluster's head."
        ) from error
    except (OSError, ValueError, ray.exceptions.RayError) as error:
        raise _nothing_answers(address, error) from error


def _nothing_answers(address: str, reason: object) -> ConnectionError:
    return ConnectionError(
        f"ray.address is '{address}', but no Ray cluster answers there: {reason}. {_START}"
    )


def _token_file() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def _token_source() -> str:
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return f"this process, which sends none (RAY_AUTH_MODE is '{os.environ['RAY_AUTH_MODE']}')"
    return "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else f"'{_token_file()}'"
