"""Where each view of the API is. Whoever adds one declares its actions: without them it answers nobody."""

from __future__ import annotations

from django.urls import include, path, re_path

from . import certificates, checkin, docs, issuers, log, renew, requests, revoke

_ISSUER = r"(?P<name>[A-Za-z0-9_-][A-Za-z0-9._-]{0,63})"
_api = [
    path("certificates/", certificates.CertificatesView.as_view(), name="certificates"),
    path("certificates/bulk/", requests.BulkView.as_view(), name="bulk"),
    re_path(r"^certificates/(?P<serial>[0-9a-f]{1,40})/\Z", certificates.CertificateView.as_view(), name="certificate"),
    re_path(r"^certificates/(?P<serial>[0-9a-f]{1,40})/receipt/\Z", certificates.ReceiptView.as_view(), name="receipt"),
    re_path(r"^certificates/(?P<serial>[0-9a-f]{1,40})/renew/\Z", renew.RenewView.as_view(), name="renew"),
    re_path(r"^certificates/(?P<serial>[0-9a-f]{1,40})/revoke/\Z", revoke.RevokeView.as_view(), name="revoke"),
    re_path(r"^certificates/(?P<serial>[0-9a-f]{1,40})/checkin/\Z", checkin.CheckInView.as_view(), name="checkin"),
    path("requests/<uuid:request_id>/", requests.RequestView.as_view(), name="request"),
    path("issuers/", issuers.IssuersView.as_view(), name="issuers"),
    re_path(rf"^issuers/{_ISSUER}/\Z", issuers.IssuerView.as_view(), name="issuer"),
    re_path(rf"^issuers/{_ISSUER}\.pem\Z", issuers.IssuerPemView.as_view(), name="issuer-pem"),
    re_path(rf"^issuers/{_ISSUER}\.der\Z", issuers.IssuerDerView.as_view(), name="issuer-der"),
    re_path(r"^roots/(?P<fingerprint>[0-9a-f]{64})/\Z", issuers.RootView.as_view(), name="root"),
    path("schema/", docs.SchemaView.as_view(), name="schema"),
    path("docs/", docs.DocsView.as_view(), name="docs"),
]
_log = [
    path("checkpoint", log.CheckpointView.as_view(), name="checkpoint"),
    path("tile/<path:path>", log.TileView.as_view(), name="tile"),
    path("entries", log.EntriesView.as_view(), name="entries"),
]
urlpatterns = [path("api/v1/", include(_api)), path("log/", include(_log))]
