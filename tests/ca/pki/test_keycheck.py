"""Which public keys may be certified, in which encoding, and which are weak."""

from __future__ import annotations

import random
import subprocess
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from ca.pki import keycheck
from ca.pki.violations import Violation

from . import forge

_RANDOM = random.Random(20261123)


def odd(bits: int) -> int:
    """A number of exactly that many bits without a small factor."""
    while True:
        n = _RANDOM.getrandbits(bits) | 1 << bits - 1 | 1
        if all(n % prime for prime in range(3, 70_000, 2)):
            return n


def spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def refusal(data: bytes) -> str:
    with pytest.raises(Violation) as found:
        keycheck.load(data)
    assert found.value.where == "csr.key"
    return found.value.code


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_allowed_kinds(kind: str) -> None:
    data = forge.spki_of(forge.key(kind))
    assert keycheck.kind_of(data) == kind
    assert spki(keycheck.load(data)) == data
    keycheck.check_strength(data, keycheck.load(data))


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_sizes(bits: int) -> None:
    data = forge.rsa_spki(odd(bits))
    assert keycheck.kind_of(data) == f"RSA-{bits}"
    assert spki(keycheck.load(data)) == data


def test_kinds_are_these_six() -> None:
    assert keycheck.KINDS == ("P-256", "P-384", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096")


@pytest.mark.parametrize("bits", [512, 1024, 2040, 2047, 2049, 2056, 3071, 8192, 16384])
def test_other_rsa_sizes(bits: int) -> None:
    assert refusal(forge.rsa_spki(_RANDOM.getrandbits(bits) | 1 << bits - 1 | 1)) in ("keySize", "keyInvalid")


@pytest.mark.parametrize("exponent", [3, 5, 17, 65535, 65539, 2**32 + 1])
def test_other_exponents(exponent: int) -> None:
    assert refusal(forge.rsa_spki(odd(2048), exponent)) == "keyExponent"


def test_exponent_of_2040_bits() -> None:
    assert refusal(forge.rsa_spki(odd(2048), _RANDOM.getrandbits(2040) | 1 << 2039 | 1)) in ("keyExponent", "keyInvalid")


@pytest.mark.parametrize("exponent", [0, 1, 2, 65536])
def test_exponents_that_are_none(exponent: int) -> None:
    assert refusal(forge.rsa_spki(odd(2048), exponent)) in ("keyExponent", "keyInvalid")


def test_even_modulus() -> None:
    assert refusal(forge.rsa_spki(odd(2048) - 1)) == "keyInvalid"


def test_modulus_with_a_leading_zero_too_many() -> None:
    known = bytearray(forge.rsa_spki(odd(2048)))
    known[-261] &= 0x7F  # the first octet of the modulus: what is left has 2047 bits, in the length of 2048
    assert refusal(bytes(known)) in ("keyInvalid", "keySize")


@pytest.mark.parametrize(
    "key",
    [
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
        ed448.Ed448PrivateKey.generate,
        x25519.X25519PrivateKey.generate,
        lambda: dsa.generate_private_key(1024),
    ],
)
def test_other_kinds(key) -> None:  # type: ignore[no-untyped-def]
    assert refusal(spki(key().public_key())) == "keyKind"


def test_explicit_curve_parameters(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Of openssl's making: P-256 in all but name (CVE-2020-0601 chose another generator there)."""
    pem = tmp_path / "key.pem"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-param_enc", "explicit", "-genkey", "-noout", "-out", pem], check=True)
    data = subprocess.run(["openssl", "pkey", "-in", pem, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    assert refusal(data) == "keyExplicitCurve"


def test_explicit_parameters_that_nothing_can_load() -> None:
    algorithm = forge.der.tlv(0x30, forge.der.oid("1.2.840.10045.2.1"), forge.der.tlv(0x30, forge.der.integer(1)))
    assert refusal(forge.der.tlv(0x30, algorithm, forge.der.bits(bytes(65)))) == "keyExplicitCurve"


def test_compressed_point() -> None:
    """It loads, and would give the same key a second hash, past the list of blocked keys."""
    public = forge.key().public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    data = forge.ec_spki("1.2.840.10045.3.1.7", public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint))
    assert load_der_public_key(data) == public
    assert refusal(data) == "keyEncoding"


def test_rsa_key_without_null_parameters() -> None:
    """The same key in another spelling."""
    known = forge.spki_of(forge.key("RSA-2048"))
    algorithm = forge.der.tlv(0x30, forge.der.oid("1.2.840.113549.1.1.1"))
    other = forge.der.tlv(0x30, algorithm, known[known.index(b"\x03\x82") :])
    assert refusal(other) in ("keyEncoding", "keyInvalid")


@pytest.mark.parametrize("change", [{-1: 1}, {27: 0xFF}, {26: 0x05}, {0: 0x31}])
def test_point_off_the_curve_or_not_a_point(change: dict[int, int]) -> None:
    data = bytearray(forge.spki_of(forge.key()))
    for place, flip in change.items():
        data[place] ^= flip
    assert refusal(bytes(data)) == "keyInvalid"


@pytest.mark.parametrize("data", [b"", b"0", b"\x30\x00", b"\x30\x80", bytes(91), bytes(44), bytes(294), b"\xff" * 120])
def test_what_is_no_key(data: bytes) -> None:
    assert refusal(data) == "keyInvalid"


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_key_identifier_is_rfc_7093_method_1(kind: str) -> None:
    public = forge.key(kind).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        octets = public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        octets = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    else:
        assert isinstance(public, ed25519.Ed25519PublicKey)
        octets = public.public_bytes_raw()
    assert keycheck.key_id(forge.spki_of(forge.key(kind))) == sha256(octets).digest()[:20]


# --- weak keys


def weakness(data: bytes) -> str:
    with pytest.raises(Violation) as found:
        keycheck.check_strength(data, keycheck.load(data))
    assert (found.value.code, found.value.where) == ("keyWeak", "csr.key")
    return found.value.detail


def test_fermat_key() -> None:
    assert "fermat" in weakness(forge.spki_of(forge.fermat_key()))


def test_roca_key() -> None:
    assert "roca" in weakness(forge.rsa_spki(forge.roca_modulus()))


def test_modulus_with_a_small_factor() -> None:
    n = 65521 * ((1 << 2047) // 65521 | 1)
    while n.bit_length() != 2048:
        n += 2 * 65521
    assert "smallfactors" in weakness(forge.rsa_spki(n))


def test_modulus_with_a_pattern() -> None:
    n = odd(2048)
    block = int.from_bytes(b"\x5a" * 32, "big") << 800
    assert "pattern" in weakness(forge.rsa_spki(n & ~((1 << 256) - 1 << 800) | block))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_tiny_private_keys(curve: ec.EllipticCurve) -> None:
    order = {256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551}.get(curve.key_size)
    for number in (1, 2, 16, *((order - 1,) if order else ())):
        assert "tiny" in weakness(spki(ec.derive_private_key(number, curve).public_key()))
    keycheck.check_strength(data := spki(ec.derive_private_key(2**200 + 7, curve).public_key()), keycheck.load(data))


P25519 = 2**255 - 19
D25519 = -121665 * pow(121666, -1, P25519) % P25519


def doubled(y: int) -> int | None:
    """y of 2·(x, y) on edwards25519; None if y is on no point. Independent of x's sign: 2y' = (y² + x²)/(2 + x² - y²)."""
    square = (y * y - 1) * pow(D25519 * y * y + 1, -1, P25519) % P25519
    if square and pow(square, (P25519 - 1) // 2, P25519) != 1:
        return None
    return (y * y + square) * pow(2 - (y * y - square), -1, P25519) % P25519


def test_the_small_order_points_are_those_of_order_one_to_eight() -> None:
    assert len(keycheck._SMALL_ORDER) == 5
    for y in keycheck._SMALL_ORDER:
        for _ in range(3):
            found = doubled(y)
            assert found is not None
            y = found
        assert y == 1


@pytest.mark.parametrize("sign", [0, 0x80])
def test_small_order_ed25519_keys(sign: int) -> None:
    prefix = forge.spki_of(forge.key("Ed25519"))[:12]
    for y in keycheck._SMALL_ORDER:
        raw = bytearray(y.to_bytes(32, "little"))
        raw[31] |= sign
        assert "small order" in weakness(prefix + bytes(raw))


def test_ed25519_key_that_is_not_reduced() -> None:
    data = forge.spki_of(forge.key("Ed25519"))[:12] + (P25519 + 5).to_bytes(32, "little")
    with pytest.raises(Violation) as found:
        keycheck.check_strength(data, keycheck.load(data))
    assert found.value.code == "keyEncoding"


def test_good_rsa_key_passes_every_check() -> None:
    data = forge.spki_of(forge.key("RSA-2048"))
    keycheck.check_strength(data, keycheck.load(data))
