"""What the OpenAPI description says of each view.

Owns the description only: no answer passes through these serializers, the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from ca import checkins
from ca.pki.reasons import PERMITTED

from .headers import MAX_WAIT
from .listing import MAX_LIMIT
from .negotiation import DER, JSON, PEM
from .problems import CONTENT_TYPE
from .representations import ACTIVE, AWAITING, EXPIRED, ISSUED, PENDING, REJECTED, REVOKED
from .revocations import MAX_SECRET
from .submissions import MAX_DAYS

View = TypeVar("View", bound=Callable[..., Any])
_HEX = r"^[0-9a-f]+$"


_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "An API token: `manage.py create_token`"},
    "jwt": {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "In place of a token: a JWT of an issuer that the operator trusts (QUICKLIME_JWT_ISSUERS), such as a Kubernetes "
        "service account's or a CI job's. The issuer's rules say what it may do.",
    },
    "certificate": {
        "type": "mutualTLS",
        "description": "The certificate that is asked about, shown in TLS without a token. It has to be for TLS clients, unexpired and "
        "not revoked, and opens nothing else.",
    },
}  # fmt: skip
_Security = Sequence[Any]  # of {scheme: []}: any one of these will do
_BEARER: _Security = ({"token": []}, {"jwt": []})
_HOLDER: _Security = (*_BEARER, {"certificate": []})
_EVIDENCE: _Security = (*_BEARER, {})  # or what the body proves
_HOLDER_OR_EVIDENCE: _Security = (*_HOLDER, {})


class Schemes(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Registers itself by being defined."""

    target_class = "ca.api.authentication.TokenAuthentication"
    name = list(_SCHEMES)

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return list(_SCHEMES.values())

    def get_security_requirement(self, auto_schema: Any) -> Any:
        return list(_BEARER)


class PlaceSerializer(serializers.Serializer[Any]):
    where = serializers.CharField()
    detail = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457. `code` names the rule."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    errors = PlaceSerializer(many=True)  # type: ignore[assignment]  # a member of that name, not the serializer's


class CertificateSerializer(serializers.Serializer[Any]):
    """`pem` is the leaf, `chain` the intermediates, issuer first, without the root. `revocation_secret` is there only for the
    token that requested the certificate."""

    serial = serializers.RegexField(_HEX)
    issuer = serializers.CharField()
    subject = serializers.CharField(allow_blank=True)
    names = serializers.ListField(child=serializers.CharField())
    profile = serializers.CharField()
    service = serializers.CharField(allow_blank=True)
    node = serializers.CharField(allow_blank=True)
    owner = serializers.CharField()
    not_before = serializers.DateTimeField()
    not_after = serializers.DateTimeField()
    status = serializers.ChoiceField([ACTIVE, EXPIRED, REVOKED])
    revoked_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField(allow_null=True)
    replaces = serializers.CharField(allow_null=True)
    replaced_by = serializers.CharField(allow_null=True)
    replace_by = serializers.DateTimeField(allow_null=True)
    fingerprint = serializers.RegexField(_HEX)
    key_type = serializers.CharField()
    pem = serializers.CharField()
    chain = serializers.CharField(allow_blank=True)
    log_position = serializers.IntegerField(min_value=1)
    renewal_challenge = serializers.CharField()
    revocation_secret = serializers.CharField(required=False)


class RequestSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField([PENDING, AWAITING, ISSUED, REJECTED])
    certificate = CertificateSerializer(allow_null=True)
    error = ProblemSerializer(allow_null=True)


class CertificatePageSerializer(serializers.Serializer[Any]):
    """`next` leads to the older ones; a page may be short, or empty, and still have a next one."""

    results = CertificateSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class SubmissionSerializer(serializers.Serializer[Any]):
    """`csr`, or CFSSL's `certificate_request`, is needed. `hosts`, if sent, repeats the names of the CSR."""

    csr = serializers.CharField(required=False, help_text="PKCS #10, as PEM or as base64 of the DER")
    certificate_request = serializers.CharField(required=False, help_text="the same as csr")
    hosts = serializers.ListField(child=serializers.CharField(), required=False)
    profile = serializers.CharField(required=False, default="server")
    service = serializers.CharField(required=False, allow_blank=True)
    node = serializers.CharField(required=False, allow_blank=True)
    validity_days = serializers.IntegerField(required=False, min_value=1, max_value=MAX_DAYS)
    not_after = serializers.DateTimeField(required=False)


class RevocationSerializer(serializers.Serializer[Any]):
    """Either `secret` or `proof`, or a token that may revoke. The proof is a signature by the certificate's key over
    "quicklime-revocation-v1", a zero byte, the issuer's key id, the serial in 20 bytes and the reason's name."""

    reason = serializers.ChoiceField(PERMITTED["operator"], required=False, default="unspecified", help_text="needed beside a proof")
    secret = serializers.CharField(required=False, max_length=MAX_SECRET)
    proof = serializers.CharField(required=False, help_text="base64")


class RenewalSerializer(serializers.Serializer[Any]):
    """The proof is a signature by the key of the certificate that is renewed, ECDSA, RSA (PKCS #1 v1.5 or PSS) with SHA-256 or
    Ed25519, over "quicklime-renewal-v1", a zero byte, the key id of its issuer, its serial in 20 bytes, its renewal challenge (32
    bytes, which base64 stands for in the certificate object) and the SHA-256 of the new request's DER."""

    csr = serializers.CharField(help_text="PKCS #10, as PEM or as base64 of the DER")
    proof = serializers.CharField(required=False, help_text="base64; needed unless the certificate itself is shown in TLS")


class CheckInSerializer(serializers.Serializer[Any]):
    """The proof is a signature by the certificate's key, of the kinds that renew, over "quicklime-checkin-v1", a zero byte, the key id
    of its issuer, its serial in 20 bytes, `time` and `served` (nothing for null) as they are sent."""

    served = serializers.RegexField(
        f"^({checkins.SERVED})$", allow_null=True,
        help_text="the serial that the service shows, none if it shows no certificate, null where nobody looked",
    )  # fmt: skip
    time = serializers.RegexField(
        f"^{checkins.TIME}$", help_text="UTC, as in 2030-01-31T12:00:00Z; near the server's, and later than in the check-in before"
    )
    proof = serializers.CharField(help_text="base64")


class CheckedInSerializer(serializers.Serializer[Any]):
    """What a node should know of its certificate. `replace_by`: renew it before then, at a moment of your own choice."""

    serial = serializers.RegexField(_HEX)
    status = serializers.ChoiceField([ACTIVE, EXPIRED, REVOKED])
    revoked_at = serializers.DateTimeField(allow_null=True)
    replaced_by = serializers.CharField(allow_null=True)
    replace_by = serializers.DateTimeField(allow_null=True)


class BulkSerializer(serializers.Serializer[Any]):
    requests = SubmissionSerializer(many=True)


class BulkItemSerializer(serializers.Serializer[Any]):
    """What a submission by itself would have been answered: 201, 202, or the problem's status."""

    status = serializers.IntegerField()
    request = RequestSerializer(allow_null=True)
    error = ProblemSerializer(allow_null=True)


class BulkResultSerializer(serializers.Serializer[Any]):
    results = BulkItemSerializer(many=True)


class IssuerSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    kind = serializers.ChoiceField(["root", "intermediate"])
    parent = serializers.CharField(allow_null=True)  # type: ignore[assignment]
    subject = serializers.CharField()
    key_id = serializers.RegexField(_HEX)
    fingerprint = serializers.RegexField(_HEX)
    not_before = serializers.DateTimeField()
    not_after = serializers.DateTimeField()
    profiles = serializers.ListField(child=serializers.CharField())
    pem = serializers.CharField()


class IssuersSerializer(serializers.Serializer[Any]):
    results = IssuerSerializer(many=True)


class ReceiptSerializer(serializers.Serializer[Any]):
    """`event` is the log's entry, byte for byte; `tlog_proof` a C2SP tlog-proof of it, signed by `log_key`."""

    event = serializers.CharField()
    position = serializers.IntegerField(min_value=1)
    tlog_proof = serializers.CharField()
    log_key = serializers.CharField()


_FAILURES = {
    ("4XX", CONTENT_TYPE): OpenApiResponse(ProblemSerializer, description="the request is refused; `code` says by which rule"),
    ("5XX", CONTENT_TYPE): OpenApiResponse(ProblemSerializer, description="not available just now; see Retry-After"),
}


def described(
    name: str,
    summary: str,
    responses: Mapping[Any, Any],
    request: Any = None,
    parameters: Sequence[OpenApiParameter] = (),
    security: _Security | None = None,
) -> Callable[[View], View]:
    """A view's method: its answers by status (and media type), besides the problems that each may answer with; `security` where it is
    another than that of the view."""
    return extend_schema(
        operation_id=name, summary=summary, request=request, parameters=list(parameters), responses={**responses, **_FAILURES},
        auth=security,
    )  # fmt: skip


def query(name: str, help_text: str, kind: Any = str) -> OpenApiParameter:
    """A query parameter."""
    return OpenApiParameter(name, kind, OpenApiParameter.QUERY, description=help_text)


def _header(name: str, help_text: str) -> OpenApiParameter:
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=help_text)


def path(name: str, pattern: str) -> OpenApiParameter:
    """A part of the address."""
    return OpenApiParameter(name, {"type": "string", "pattern": pattern}, OpenApiParameter.PATH)


def _text(media_type: str) -> dict[Any, Any]:
    return {(200, media_type): OpenApiTypes.STR}


def _bytes(media_type: str) -> dict[Any, Any]:
    return {(200, media_type): OpenApiTypes.BINARY}


_SUBMITTING = (
    _header("Prefer", f"wait=N: answer when the certificates exist, or after N ≤ {MAX_WAIT} seconds"),
    _header("Idempotency-Key", "1 to 200 visible ASCII characters; the same key gives the same request"),
)
_OF_BARE_CSR = tuple(
    query(name, "beside a bare CSR; in a JSON body it is a field") for name in ("profile", "service", "node", "validity_days", "not_after")
)
_SERIAL = (path("serial", "^[0-9a-f]{1,40}$"),)
_FINGERPRINT = (path("fingerprint", "^[0-9a-f]{64}$"),)

submit = described(
    "submit", "Ask for a certificate",
    {201: RequestSerializer, 202: RequestSerializer},
    request={JSON: SubmissionSerializer, "application/pkcs10": OpenApiTypes.BINARY, "application/x-pem-file": OpenApiTypes.STR},
    parameters=(*_SUBMITTING, *_OF_BARE_CSR),
)  # fmt: skip
bulk = described(
    "submit_bulk", "Ask for up to 1000 certificates; one result for each, in order",
    {200: BulkResultSerializer}, request={JSON: BulkSerializer}, parameters=_SUBMITTING,
)  # fmt: skip
request = described("request", "How far a request has come", {200: RequestSerializer})
certificates = described(
    "certificates", "Certificates, newest first",
    {200: CertificatePageSerializer},
    parameters=(
        query("service", "of this service"),
        query("node", "of this node"),
        query("name", "with this name"),
        query("profile", "of this profile"),
        OpenApiParameter("status", str, OpenApiParameter.QUERY, enum=[ACTIVE, EXPIRED, REVOKED]),
        query("expires_before", "that expire before this time", OpenApiTypes.DATETIME),
        query("expires_after", "that expire after this time", OpenApiTypes.DATETIME),
        query("q", "of which a name, the serial or the fingerprint begins so"),
        query("limit", f"1 to {MAX_LIMIT}", int),
        query("cursor", "from a page's `next`"),
    ),
)  # fmt: skip
certificate = described(
    "certificate", "One certificate",
    {(200, JSON): CertificateSerializer} | _text(PEM) | _bytes(DER), parameters=_SERIAL, security=_HOLDER,
)  # fmt: skip
renew = described(
    "renew", "Ask for its one successor: by its key, with or without a token of its owner",
    {201: RequestSerializer, 202: RequestSerializer}, request={JSON: RenewalSerializer}, parameters=(*_SERIAL, *_SUBMITTING),
    security=_HOLDER_OR_EVIDENCE,
)  # fmt: skip
revoke = described(
    "revoke", "Revoke it for good; again: the same answer",
    {200: CertificateSerializer}, request={JSON: RevocationSerializer}, parameters=_SERIAL, security=_HOLDER_OR_EVIDENCE,
)  # fmt: skip
checkin = described(
    "checkin", "Say by its key what is served, and learn whether it is to be replaced",
    {200: CheckedInSerializer}, request={JSON: CheckInSerializer}, parameters=_SERIAL, security=_EVIDENCE,
)  # fmt: skip
receipt = described("receipt", "Offline proof that the log holds it", {200: ReceiptSerializer}, parameters=_SERIAL, security=_HOLDER)
issuers = described("issuers", "Every root and intermediate", {200: IssuersSerializer})
issuer = described("issuer", "One root or intermediate", {200: IssuerSerializer})
issuer_pem = described("issuer_pem", "Its certificate as PEM", _text(PEM))
issuer_der = described("issuer_der", "Its certificate as DER", _bytes(DER))
root = described(
    "root",
    "The root with this SHA-256 fingerprint",
    {(200, PEM): OpenApiTypes.STR, (200, DER): OpenApiTypes.BINARY},
    parameters=_FINGERPRINT,
)
checkpoint = described("checkpoint", "The newest signed checkpoint (C2SP tlog-checkpoint)", _text("text/plain"))
tile = described("tile", "A tile (C2SP tlog-tiles)", _bytes("application/octet-stream"))
entries = described(
    "entries", "The log's entries after a position, as NDJSON", _text("application/x-ndjson"),
    parameters=(query("after", "a position; 0 is the beginning", int), query("limit", "how many at most", int)),
)  # fmt: skip
schema = extend_schema(exclude=True)
