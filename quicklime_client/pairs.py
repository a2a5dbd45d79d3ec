"""The key and certificate where a service reads them.

    OUT/current              a symbolic link to versions/N-SERIAL; one rename changes key and certificate together
    OUT/versions/N-SERIAL/   the files of one generation, never changed once they are there
    OUT/keystore.password    beside a PKCS #12; made once

Owns the layouts and the switch. Must never touch the generation that `current` leads to, nor let it lead to one that is not
whole and on the disk. The record in the state directory is the original, all of this can be made again from it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from . import files, keys
from .failures import Failure
from .records import Pair, Place, Record

Files = Mapping[str, bytes]
_PASSWORD = "keystore.password"  # noqa: S105  the file's name


def in_place(record: Record) -> bool:
    """Whether `current` leads to the record's generation, complete."""
    assert record.current
    out = Path(record.place.out)
    names = _NAMES[record.place.layout]
    link = out / "current"
    return link.is_symlink() and link.readlink() == _target(record.current) and all((link / name).is_file() for name in names)


def put(record: Record) -> None:
    """Have the record's pair in place, durably. A crash at any line leaves `current` at the old pair or at the new one, both
    whole; the next call completes what is missing. Raises OSError, Failure."""
    assert record.current
    out, target = prepare(record.place), _target(record.current)
    fresh, final = out / "versions/.new", out / target
    files.new_directory(fresh)
    for name, data in LAYOUTS[record.place.layout](record).items():
        files.create(fresh / name, data, files.PUBLIC if name in _OPEN else files.PRIVATE)
    files.sync_directory(fresh)
    before = _before(out)
    if before != target or not final.exists():
        _make_room(final)
        fresh.rename(final)
        files.sync_directory(final.parent)
    else:
        _complete(fresh, final)
    files.point(out / "current", str(target))
    _prune(out, keep={target.name, before.name})


def _complete(fresh: Path, final: Path) -> None:
    """`current` leads here and something is missing, as somebody removed or changed it: file by file, as the directory
    cannot be replaced by one rename. The pair is the same, so the files fit together at every moment."""
    for path in fresh.iterdir():
        path.replace(final / path.name)
    files.sync_directory(final)


def _make_room(final: Path) -> None:
    """A directory of that name which `current` does not lead to, left by a crash or by hand."""
    if final.exists():
        shutil.rmtree(final)


def prepare(place: Place) -> Path:
    """Have the directories, so that a place which cannot be written to is known before a certificate is asked for. Raises
    OSError, Failure."""
    out = Path(place.out)
    (out / "versions").mkdir(mode=0o755, parents=True, exist_ok=True)
    if (out / "current").exists() and not (out / "current").is_symlink():
        raise Failure(f"{out}/current", "it is there and was not made by quicklime", "remove it, or choose another --out")
    return out


def _target(pair: Pair) -> Path:
    return Path("versions", f"{pair.generation}-{pair.serial}")


def _before(out: Path) -> Path:
    link = out / "current"
    return link.readlink() if link.is_symlink() else Path("versions")


def _prune(out: Path, keep: set[str]) -> None:
    """Keep this generation and the last: a service may be reading that one just now."""
    for path in (out / "versions").iterdir():
        if path.name not in keep:
            shutil.rmtree(path)


# --- layouts


def _nginx(record: Record) -> Files:
    assert record.current
    return {"key.pem": record.current.key.encode(), "fullchain.pem": (record.current.pem + record.current.chain).encode()}


def _haproxy(record: Record) -> Files:
    assert record.current
    return {"combined.pem": (record.current.pem + record.current.chain + record.current.key).encode()}


def _separate(record: Record) -> Files:
    assert record.current
    pair = record.current
    return {"key.pem": pair.key.encode(), "cert.pem": pair.pem.encode(), "chain.pem": pair.chain.encode()}


def _pkcs12(record: Record) -> Files:
    assert record.current
    pair = record.current
    chain = x509.load_pem_x509_certificates(pair.chain.encode()) if pair.chain else []
    sealed = BestAvailableEncryption(_password(Path(record.place.out)))
    key = keys.load(pair.key)
    return {"keystore.p12": pkcs12.serialize_key_and_certificates(record.label.encode(), key, pair.leaf, chain, sealed)}


def _password(out: Path) -> bytes:
    """The same for every generation, so that no configuration has to change; made with the first, unless it was put there."""
    path = out / _PASSWORD
    if not path.exists():
        files.replace(path, f"{secrets.token_urlsafe(24)}\n".encode(), files.PRIVATE)
    return path.read_bytes().strip()


LAYOUTS: Mapping[str, Callable[[Record], Files]] = {"nginx": _nginx, "haproxy": _haproxy, "pkcs12": _pkcs12, "separate": _separate}
_NAMES: Mapping[str, tuple[str, ...]] = {
    "nginx": ("key.pem", "fullchain.pem"),
    "haproxy": ("combined.pem",),
    "pkcs12": ("keystore.p12",),
    "separate": ("key.pem", "cert.pem", "chain.pem"),
}
_OPEN = frozenset({"fullchain.pem", "cert.pem", "chain.pem"})  # no key in them


def usage(place: Place) -> list[str]:
    """How a service is told of the files, for people to copy."""
    at = f"{place.out}/current"
    return {
        "nginx": [f"ssl_certificate     {at}/fullchain.pem;", f"ssl_certificate_key {at}/key.pem;"],
        "haproxy": [f"bind :443 ssl crt {at}/combined.pem"],
        "pkcs12": [f"server.ssl.key-store={at}/keystore.p12", f"server.ssl.key-store-password: the line in {place.out}/{_PASSWORD}"],
        "separate": [f"{at}/{name}" for name in _NAMES["separate"]],
    }[place.layout]
