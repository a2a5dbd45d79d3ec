"""What relying parties fetch without TLS: an issuer's certificate, to complete a chain (RFC 5280 §4.2.2.1).

Owns the URLs of the plain-HTTP process. Must never serve anything that is secret or that a client should trust because
of where it came from: all of it is signed, and TLS here would need the chain that is being fetched.
"""

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from ca.models import Issuer


@require_safe
def issuer(request: HttpRequest, name: str) -> HttpResponse:
    """GET /issuers/{name}.der → application/pkix-cert. 404 for a name nobody has, 503 while the database is away."""
    try:
        row = Issuer.objects.filter(name=name).first()
    except DatabaseError:
        return HttpResponse(status=503, headers={"Retry-After": "2"})
    if row is None:
        return HttpResponse(status=404)
    return HttpResponse(bytes(row.certificate), content_type="application/pkix-cert", headers={"Cache-Control": "public, max-age=3600"})


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """200 as long as this process answers at all."""
    return HttpResponse("ok\n", content_type="text/plain")


urlpatterns = [path("issuers/<slug:name>.der", issuer), path("livez", livez)]
