"""Certification requests, well-made and hostile, from parts: every field can be another than it should be."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import gmpy2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.pki import der

ECDSA_SHA256 = der.tlv(der.SEQUENCE, der.oid("1.2.840.10045.4.3.2"))
RSA_SHA256 = der.tlv(der.SEQUENCE, der.oid("1.2.840.113549.1.1.11"), der.tlv(der.NULL))
ED25519 = der.tlv(der.SEQUENCE, der.oid("1.3.101.112"))
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
SAN, BASIC_CONSTRAINTS, KEY_USAGE, EXT_KEY_USAGE = "2.5.29.17", "2.5.29.19", "2.5.29.15", "2.5.29.37"
EMPTY_NAME = der.tlv(der.SEQUENCE)


@cache
def key(kind: str = "P-256") -> CertificateIssuerPrivateKeyTypes:
    """One private key of each kind for the whole run; "issuer P-256" and the like are others."""
    kind = kind.removeprefix("issuer ")
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("RSA-"):
        return rsa.generate_private_key(65537, int(kind[4:]))
    return ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[kind])


def spki_of(private: CertificateIssuerPrivateKeyTypes) -> bytes:
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(private: CertificateIssuerPrivateKeyTypes, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.sign(data, ec.ECDSA(algorithm or hashes.SHA256()))
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(data, padding.PKCS1v15(), algorithm or hashes.SHA256())
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    return private.sign(data)


def algorithm_of(private: CertificateIssuerPrivateKeyTypes) -> bytes:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return ECDSA_SHA256
    return RSA_SHA256 if isinstance(private, rsa.RSAPrivateKey) else ED25519


def request(
    attributes: Iterable[bytes] = (),
    *,
    subject: bytes = EMPTY_NAME,
    private: CertificateIssuerPrivateKeyTypes | None = None,
    version: bytes = b"\x02\x01\x00",
    spki: bytes | None = None,
    algorithm: bytes | None = None,
    signature: bytes | None = None,
    digest: hashes.HashAlgorithm | None = None,
) -> bytes:
    """A DER CertificationRequest of these parts, signed by `private`."""
    private = private or key()
    info = der.tlv(der.SEQUENCE, version, subject, spki or spki_of(private), der.tlv(0xA0, *attributes))
    signature = sign(private, info, digest) if signature is None else signature
    return der.tlv(der.SEQUENCE, info, algorithm or algorithm_of(private), der.bits(signature))


def asking(*extensions: bytes, **parts: object) -> bytes:
    """A request whose one attribute asks for these extensions."""
    return request([extension_request(*extensions)], **parts)  # type: ignore[arg-type]


def attribute(oid: str, *values: bytes) -> bytes:
    return der.tlv(der.SEQUENCE, der.oid(oid), der.tlv(der.SET, *values))


def extension_request(*extensions: bytes) -> bytes:
    return attribute(EXTENSION_REQUEST, der.tlv(der.SEQUENCE, *extensions))


def extension(oid: str, value: bytes, critical: bool = False) -> bytes:
    return der.tlv(der.SEQUENCE, der.oid(oid), b"\x01\x01\xff" if critical else b"", der.tlv(der.OCTET_STRING, value))


def san(*names: bytes, critical: bool = False) -> bytes:
    return extension(SAN, der.tlv(der.SEQUENCE, *names), critical)


def dns(text: str | bytes) -> bytes:
    return der.tlv(0x82, text.encode() if isinstance(text, str) else text)


def ip(octets: bytes) -> bytes:
    return der.tlv(0x87, octets)


def uri(text: str | bytes) -> bytes:
    return der.tlv(0x86, text.encode() if isinstance(text, str) else text)


def name(*attributes: tuple[str, int, bytes]) -> bytes:
    """An RDNSequence of single-valued (OID, string tag, octets)."""
    return der.tlv(
        der.SEQUENCE, *(der.tlv(der.SET, der.tlv(der.SEQUENCE, der.oid(oid), der.tlv(tag, octets))) for oid, tag, octets in attributes)
    )


def common_name(text: str, tag: int = der.UTF8_STRING) -> bytes:
    return name(("2.5.4.3", tag, text.encode()))


def rsa_spki(n: int, e: int = 65537) -> bytes:
    """An RSA SubjectPublicKeyInfo of any numbers."""
    algorithm = der.tlv(der.SEQUENCE, der.oid("1.2.840.113549.1.1.1"), der.tlv(der.NULL))
    return der.tlv(der.SEQUENCE, algorithm, der.bits(der.tlv(der.SEQUENCE, der.integer(n), der.integer(e))))


def ec_spki(curve: str, point: bytes) -> bytes:
    algorithm = der.tlv(der.SEQUENCE, der.oid("1.2.840.10045.2.1"), der.oid(curve))
    return der.tlv(der.SEQUENCE, algorithm, der.bits(point))


@cache
def fermat_key() -> rsa.RSAPrivateKey:
    """RSA-2048 whose primes are neighbours."""
    p = int(gmpy2.next_prime(0xC7 << 1016 | 0x1234567 << 500))
    return private_key(p, int(gmpy2.next_prime(p + 2**40)))


@cache
def roca_modulus() -> int:
    """A 2048-bit modulus of the form of CVE-2017-15361: primes k·M + (65537^a mod M), M the product of the first 126 primes."""
    primorial, prime = 1, 1
    for _ in range(126):
        prime = int(gmpy2.next_prime(prime))
        primorial *= prime
    found: list[int] = []
    k = (0xC8 << 1016) // primorial
    while len(found) < 2:
        k += 1
        candidate = k * primorial + pow(65537, 1000 + k % 1000, primorial)
        if gmpy2.is_prime(candidate):
            found.append(candidate)
    return found[0] * found[1]


def private_key(p: int, q: int) -> rsa.RSAPrivateKey:
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()
