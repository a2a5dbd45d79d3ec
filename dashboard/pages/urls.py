"""The addresses of the pages, below /dashboard/."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path, re_path

from . import certificate, certificates, issuers, log, overview, requests, tokens

_SERIAL = r"(?P<serial>[0-9a-f]{1,40})"

app_name = "dashboard"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("login/", LoginView.as_view(template_name="dashboard/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("certificates/", certificates.certificates, name="certificates"),
    path("certificates.csv", certificates.export, {"form": "csv"}, name="certificates-csv"),
    path("certificates.json", certificates.export, {"form": "json"}, name="certificates-json"),
    re_path(rf"^certificates/{_SERIAL}/\Z", certificate.certificate, name="certificate"),
    re_path(rf"^certificates/{_SERIAL}\.(?P<form>pem|der|chain\.pem|receipt\.json)\Z", certificate.download, name="certificate-file"),
    path("requests/", requests.requests, name="requests"),
    path("requests/<uuid:request_id>/", requests.one, name="request"),
    path("issuers/", issuers.issuers, name="issuers"),
    path("issuers/<slug:name>/", issuers.issuer, name="issuer"),
    path("log/", log.log, name="log"),
    path("log/consistency/", log.consistency, name="consistency"),
    path("log/checkpoint.txt", log.checkpoint, name="checkpoint-file"),
    path("log/<int:position>/", log.event, name="event"),
    path("tokens/", tokens.tokens, name="tokens"),
]
