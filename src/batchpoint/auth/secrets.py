"""Secrets at rest: AES-256-GCM under a key of this home, bound to the row that holds them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import tempfile
from pathlib import Path

from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.formats.durable import storage_error, sync_folder

KEY_FILE = "secrets.key"
_FORM = "bp1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_ID_DIGITS = 16
_KEY_FILE_BYTES_MAX = 64 * 1024


class SecretBox:
    """Seals and opens secrets; safe to share by threads and processes of one home.

    What it seals reads `bp1.KEY.NONCE.CIPHERTEXT`: the id of the key, then base64. The newest key
    seals; each key that is still there opens what it once sealed.
    """

    def __init__(self, file: Path, given: tuple[bytes, ...]) -> None:
        """Use `open` instead."""
        self._file = file
        self._given = given

    @classmethod
    def open(cls, home: Path, key_text: str | None) -> SecretBox:
        """Open the box of a home; its key is made when something is sealed for the first time.

        Args:
            home: the folder in which `secrets.key` lies.
            key_text: the key to seal with in place of that file's (setting `secrets_key`), 32
                bytes as base64 or 64 hexadecimal digits; several, newest first, with space or comma
                between. What the file's keys have sealed can still be opened.

        Raises:
            Invalid: `key_text` holds no such keys (`settings_invalid`).
        """
        if key_text is None or not key_text.strip():
            return cls(home / KEY_FILE, ())
        keys = _keys_in(key_text)
        if keys is None:
            raise Invalid(
                "expected 32 bytes as base64 (`openssl rand -base64 32`), or several such keys, "
                "newest first",
                code="settings_invalid",
                where="secrets_key",
            )
        return cls(home / KEY_FILE, keys)

    def __repr__(self) -> str:
        """Tell where the keys lie, and nothing of them."""
        return f"SecretBox({str(self._file)!r})"

    def seal(self, plain: bytes, about: str) -> str:
        """Seal a secret so that only `open_sealed` with the same `about` reads it again.

        Args:
            plain: the secret.
            about: what it belongs to (the id of its row): another row cannot take it over.

        Raises:
            Unavailable: the key cannot be made or read (`storage_unavailable`, `storage_full`,
                `secrets_unreadable`).
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # 30 ms

        key = self._all_keys(make=True)[0]
        nonce = os.urandom(_NONCE_BYTES)  # never the same twice: not for callers to choose
        sealed = AESGCM(key).encrypt(nonce, plain, _bound(about))
        return ".".join((_FORM, _key_id(key), _text(nonce), _text(sealed)))

    def open_sealed(self, text: str, about: str) -> bytes:
        """Return the secret that `seal` was given.

        Raises:
            Unavailable: `secrets_unreadable`: the key is not there, or somebody has changed the
                text or moved it to another row; `storage_unavailable`.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # 30 ms
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        form, key_id, nonce, sealed = _parts(text, about)
        if form != _FORM:
            raise _unreadable(about, "were sealed by a newer batchpoint")
        keys = {_key_id(key): key for key in self._all_keys(make=False)}
        if key_id not in keys:
            raise _unreadable(
                about,
                f"were sealed with the key {key_id}, which is not in {self._file} "
                f"(there: {', '.join(keys) or 'none'})",
            )
        try:
            return AESGCM(keys[key_id]).decrypt(nonce, sealed, _bound(about))
        except (InvalidTag, ValueError) as error:
            raise _unreadable(about, "have been changed or belong to something else") from error

    def _all_keys(self, *, make: bool) -> tuple[bytes, ...]:
        # Read each time: another process may have made or changed the file.
        keys = self._given + self._read(self._file)
        if not keys and make:
            _make(self._file)
            keys = self._read(self._file)
        return keys

    def _read(self, file: Path) -> tuple[bytes, ...]:
        try:
            with file.open("rb") as opened:
                data = opened.read(_KEY_FILE_BYTES_MAX)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise storage_error(error, file) from error
        keys = _keys_in(data.decode("ascii", "replace"))
        if keys is None:
            raise Unavailable(
                f"{file} holds no keys; restore it from a backup, or delete it and give the "
                "credentials of all datastores again",
                code="secrets_unreadable",
            )
        return keys


def _make(file: Path) -> None:
    """Make a key file that is complete from the first moment; the first of two processes wins."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Readable by this user alone, which is how mkstemp makes files.
        fd, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        temporary = Path(name)
        try:
            with os.fdopen(fd, "w", encoding="ascii") as opened:
                opened.write(
                    "# Opens the credentials in this home; a new key goes on top.\n"
                    f"{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}\n"
                )
                opened.flush()
                os.fsync(opened.fileno())
            try:
                file.hardlink_to(temporary)
            except FileExistsError:
                return
            sync_folder(file.parent)
        finally:
            temporary.unlink()
    except OSError as error:
        raise storage_error(error, file) from error


def _keys_in(text: str) -> tuple[bytes, ...] | None:
    lines = [line.partition("#")[0] for line in text.splitlines()]
    words = re.split(r"[\s,]+", " ".join(lines).strip())
    keys = tuple(_key(word) for word in words)
    return None if b"" in keys else keys


def _key(word: str) -> bytes:
    """Read one key; empty when it is none."""
    try:
        if re.fullmatch(r"[0-9A-Fa-f]{64}", word):
            return bytes.fromhex(word)
        key = base64.b64decode(word.replace("-", "+").replace("_", "/") + "=" * (-len(word) % 4))
    except (ValueError, binascii.Error):
        return b""
    return key if len(key) == _KEY_BYTES else b""


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"batchpoint key id" + key).hexdigest()[:_KEY_ID_DIGITS]


def _bound(about: str) -> bytes:
    return f"{_FORM} {about}".encode()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def _parts(text: str, about: str) -> tuple[str, str, bytes, bytes]:
    try:
        form, key_id, nonce, sealed = text.split(".")
        return form, key_id, base64.urlsafe_b64decode(nonce), base64.urlsafe_b64decode(sealed)
    except ValueError as error:
        raise _unreadable(about, "are not in the form in which they are kept") from error


def _unreadable(about: str, why: str) -> Unavailable:
    return Unavailable(
        f"the credentials of {about} {why}; restore the key (secrets.key in the home, or the "
        "setting secrets_key), or give the credentials again",
        code="secrets_unreadable",
    )
