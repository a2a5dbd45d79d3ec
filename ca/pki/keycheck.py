"""Which public keys may be certified.

Owns the allowed kinds, their exact encodings and the search for weak ones. Must never trust a parser's leniency: a
SubjectPublicKeyInfo is accepted only if it is, byte for byte outside the key material, one of six templates. That leaves
no room for explicit curve parameters, compressed points, odd exponents or a second spelling that would give the same key
another hash, and so a way round the list of blocked keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from . import der
from .violations import Violation

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
WHERE = "csr.key"
RSA_SIZES = (2048, 3072, 4096)
_EXPONENT = der.integer(65537)
_EC_KEY, _RSA_KEY = der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.113549.1.1.1")
# badkeys' checks for RSA by name: its default list holds "blocklist", which ends the process where no list was downloaded,
# and "smalld", which cannot apply to the one exponent allowed here.
_RSA_CHECKS = ("fermat", "roca", "rsainvalid", "rsapoly", "rsabias", "sharedprimes", "smallfactors", "pattern")


@dataclass(frozen=True, slots=True)
class _Template:
    """An SPKI is `prefix`, the key material, `suffix`; `key_bits` is where the BIT STRING's octets begin."""

    kind: str
    prefix: bytes
    suffix: bytes
    key_bits: int


def _point(kind: str, curve: str, size: int) -> tuple[int, _Template]:
    algorithm = der.tlv(der.SEQUENCE, _EC_KEY, der.oid(curve))
    prefix = der.tlv(der.SEQUENCE, algorithm, der.bits(b"\x04" + bytes(2 * size)))[: -2 * size]
    return len(prefix) + 2 * size, _Template(kind, prefix, b"", len(prefix) - 1)


def _edwards() -> tuple[int, _Template]:
    prefix = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, der.oid("1.3.101.112")), der.bits(bytes(32)))[:-32]
    return len(prefix) + 32, _Template("Ed25519", prefix, b"", len(prefix))


def _modulus(size: int) -> tuple[int, _Template]:
    key = der.tlv(der.SEQUENCE, der.integer(1 << size - 1), _EXPONENT)
    spki = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, _RSA_KEY, der.tlv(der.NULL)), der.bits(key))
    prefix = spki[: -len(_EXPONENT) - size // 8]
    return len(spki), _Template(f"RSA-{size}", prefix, _EXPONENT, len(spki) - len(key))


# The six lengths differ, so the length alone says which template must match.
_TEMPLATES = dict([_point("P-256", "1.2.840.10045.3.1.7", 32), _point("P-384", "1.3.132.0.34", 48), _edwards(), *map(_modulus, RSA_SIZES)])
KINDS = tuple(template.kind for template in _TEMPLATES.values())


def kind_of(spki: bytes) -> str:
    """The kind of key in a DER SubjectPublicKeyInfo: one of KINDS. Raises Violation with the reason for any other."""
    return _template(spki).kind


def key_id(spki: bytes) -> bytes:
    """The subject key identifier: the leftmost 160 bits of SHA-256 over the key's BIT STRING (RFC 7093 §2, method 1)."""
    return sha256(_key_octets(spki)).digest()[:20]


def _key_octets(spki: bytes) -> bytes:
    """The contents of the BIT STRING, whole octets in all six kinds."""
    return spki[_template(spki).key_bits :]


def _template(spki: bytes) -> _Template:
    template = _TEMPLATES.get(len(spki))
    if template is None or not (spki.startswith(template.prefix) and spki.endswith(template.suffix)):
        raise _explain(spki)
    return template


def load(spki: bytes) -> PublicKey:
    """The key of an SPKI that kind_of accepts. Raises Violation if there is no such key, e.g. a point off its curve."""
    template = _template(spki)
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Violation("keyInvalid", "the public key is not a valid one of its kind", WHERE) from error
    if template.suffix and not spki[-len(template.suffix) - 1] & 1:
        raise Violation("keyInvalid", "an RSA modulus is odd", WHERE)
    assert isinstance(key, PublicKey), "the templates hold these three algorithms only"
    return key


def check_strength(spki: bytes, key: PublicKey) -> None:
    """Raise Violation "keyWeak" for a key whose private half others can find. `key` is load(spki). RSA: about 0.5 ms; the
    others: a microsecond."""
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key.public_numbers())
    elif isinstance(key, ec.EllipticCurvePublicKey):
        _check_point(_key_octets(spki), key.curve.name)
    else:
        _check_edwards(_key_octets(spki))


def _check_rsa(numbers: rsa.RSAPublicNumbers) -> None:
    import badkeys  # 0.2 s and 20 MB that no process pays which sees elliptic curves only

    found = badkeys.checkrsa(numbers.n, numbers.e, checks=_RSA_CHECKS)
    if found:
        raise _weak(f"badkeys finds: {', '.join(found)}")


def _check_point(point: bytes, curve: str) -> None:
    """`point` is 0x04, x, y (SEC 1 §2.3.3)."""
    if point[1 : 1 + len(point) // 2] in _tiny_multiples(curve):
        raise _weak("its private key is a tiny number")


@cache
def _tiny_multiples(curve: str) -> frozenset[bytes]:
    """x of d·G for the private keys 1..16, and so for their negatives: what a broken generator or a test vector leaves."""
    named, size = {"secp256r1": (ec.SECP256R1(), 32), "secp384r1": (ec.SECP384R1(), 48)}[curve]
    points = (ec.derive_private_key(number, named).public_key().public_numbers() for number in range(1, 17))
    return frozenset(point.x.to_bytes(size, "big") for point in points)


_P25519 = 2**255 - 19
_ORDER_EIGHT = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# y of the eight points of small order: under such a key one signature fits every message.
_SMALL_ORDER = frozenset((0, 1, _P25519 - 1, _ORDER_EIGHT, _P25519 - _ORDER_EIGHT))


def _check_edwards(raw: bytes) -> None:
    y = int.from_bytes(raw, "little") & (1 << 255) - 1  # the top bit is the sign of x
    if y >= _P25519:
        raise Violation("keyEncoding", "the Ed25519 key is not in canonical form", WHERE)
    if y in _SMALL_ORDER:
        raise _weak("it is a point of small order")


def _weak(reason: str) -> Violation:
    return Violation("keyWeak", f"the public key is weak: {reason}", WHERE)


def _explain(spki: bytes) -> Violation:
    """Why an SPKI fits no template. Nothing is computed with the key here: a 16,384-bit modulus must cost nothing."""
    try:
        key = load_der_public_key(spki)
    except UnsupportedAlgorithm:
        return _unloadable(spki, "keyKind", f"the algorithm or curve is not supported; use one of {', '.join(KINDS)}")
    except ValueError:
        return _unloadable(spki, "keyInvalid", "the public key cannot be read")
    if isinstance(key, rsa.RSAPublicKey):
        return _explain_rsa(key.public_numbers())
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _explain_curve(spki, key)
    return _refused("keyKind", f"the key is none of {', '.join(KINDS)}")


def _explain_rsa(numbers: rsa.RSAPublicNumbers) -> Violation:
    if numbers.n.bit_length() not in RSA_SIZES:
        return _refused("keySize", f"an RSA key has 2048, 3072 or 4096 bits, this one {numbers.n.bit_length()}")
    if numbers.e != 65537:
        return _refused("keyExponent", "an RSA key has the public exponent 65537")
    return _refused("keyEncoding", "the RSA key is not in its canonical encoding")


def _explain_curve(spki: bytes, key: ec.EllipticCurvePublicKey) -> Violation:
    if key.curve.name not in ("secp256r1", "secp384r1"):
        return _refused("keyKind", f"the curve {key.curve.name} is not allowed; use P-256 or P-384")
    return _unloadable(spki, "keyEncoding", "the point is not in uncompressed form")


def _unloadable(spki: bytes, code: str, detail: str) -> Violation:
    if _has_explicit_curve(spki):
        return _refused("keyExplicitCurve", "the curve must be named, not spelled out as parameters")
    return _refused(code, detail)


def _has_explicit_curve(spki: bytes) -> bool:
    try:
        algorithm, _ = der.fields(spki, der.whole(spki), der.SEQUENCE, der.BIT_STRING)
        kind, parameters = der.children(spki, algorithm)
    except ValueError:  # not even this much structure: the caller's reason stands
        return False
    return der.encoded(spki, kind) == _EC_KEY and parameters.tag == der.SEQUENCE


def _refused(code: str, detail: str) -> Violation:
    return Violation(code, detail, WHERE)
