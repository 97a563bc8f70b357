"""Files in an object store: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure.

Credentials come from the environment alone, by the names that each store's own tools use (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, ...).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BufferedIOBase, BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")
# A request that fails is repeated with growing pauses for this long.
SECONDS_OF_RETRIES = 5.0
# Asked for credentials where the environment has none.
_METADATA_SERVICE = "169.254.169.254"


class StoreAway(OSError):
    """A store cannot be reached, or fails for a reason that may pass."""


class ObjectFiles:
    """Files below a prefix of an object store; also those of a run.

    An object is written whole or not at all.

    Args:
        uri: SCHEME://BUCKET/PREFIX, with a scheme of SCHEMES.
        seconds_of_retries: How long a failing request is repeated.

    Raises:
        ValueError: The URI is not of this form.
    """

    def __init__(self, uri: str, seconds_of_retries: float = SECONDS_OF_RETRIES) -> None:
        self.uri = uri.rstrip("/")
        self._seconds_of_retries = seconds_of_retries
        self._store = _connect(self.uri, seconds_of_retries)

    def __str__(self) -> str:
        return self.uri

    def __reduce__(self) -> tuple[type[ObjectFiles], tuple[str, float]]:
        return ObjectFiles, (self.uri, self._seconds_of_retries)

    def open(self, name: str) -> BufferedIOBase:
        return BytesIO(self._get(name)[0])

    def put(self, name: str, data: bytes) -> None:
        with self._errors(name):
            self._store.put(name, data)

    def list(self, folder: str) -> list[str]:
        prefix = folder.rstrip("/") + "/" if folder else ""
        with self._errors(folder):
            objects = [o["path"] for batch in self._store.list(prefix) for o in batch]
        return sorted(objects)

    def delete(self, name: str) -> None:
        with self._errors(name):
            try:
                self._store.delete(name)
            except FileNotFoundError:
                return

    def exists(self, name: str) -> bool:
        with self._errors(name):
            try:
                self._store.head(name)
            except FileNotFoundError:
                return False
            return True

    def flush(self) -> None:
        """Nothing waits."""

    def read_version(self, name: str) -> tuple[bytes, str] | None:
        """The content of a file and the version of it that `replace` compares; None if there is none."""
        try:
            return self._get(name)
        except FileNotFoundError:
            return None

    def replace(self, name: str, data: bytes, version: str | None) -> str | None:
        """Writes a file only if it still has a version; two processes never both succeed.

        Args:
            name: Its name.
            data: The new content.
            version: As `read_version` returned it; None: only if there is no such file.

        Returns:
            The new version, or None if the file has another one by now.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if version is None else {"e_tag": version}
        with self._errors(name):
            try:
                return str(self._store.put(name, data, mode=mode)["e_tag"])
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return None

    def _get(self, name: str) -> tuple[bytes, str]:
        with self._errors(name):
            result = self._store.get(name)
            return bytes(result.bytes()), str(result.meta["e_tag"])

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Turns the store's errors into OSErrors that name the file."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        shown = f"'{self.uri}/{name}'"
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{shown} does not exist.") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise PermissionError(
                f"{shown} is refused by the store: check the credentials in the environment and what they "
                f"permit. {_reason(error)}"
            ) from error
        except BaseError as error:
            if _METADATA_SERVICE in str(error):
                raise PermissionError(
                    f"{shown} needs credentials, and the environment has none: set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or what your store's own tools take."
                ) from error
            raise StoreAway(f"{shown} cannot be reached: {_reason(error)}") from error


def _connect(uri: str, seconds_of_retries: float) -> ObjectStore:
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    scheme, _, rest = uri.partition("://")
    if scheme not in SCHEMES or not rest.partition("/")[0]:
        raise ValueError(
            f"'{uri}' is no known storage: give a folder, or {', '.join(f'{s}://' for s in SCHEMES)} "
            "followed by a bucket and a prefix."
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    try:
        return from_url(
            uri,
            client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=60)},
            retry_config={
                "max_retries": 1000,
                "retry_timeout": timedelta(seconds=seconds_of_retries),
                "backoff": {
                    "init_backoff": timedelta(seconds=0.1),
                    "max_backoff": timedelta(seconds=3),
                    "base": 2,
                },
            },
        )
    except (BaseError, ValueError) as error:
        raise ValueError(f"'{uri}' cannot be used as storage: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first line of an error, without the store's XML."""
    return str(error).partition("\n")[0].partition("<?xml")[0].strip().rstrip(".,:") + "."
