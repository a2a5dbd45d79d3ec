"""The addresses of the pages, below /dashboard/."""

from django.urls import path, re_path

from . import approvals, certificate, certificates, drills, issuers, log, overview, reminders, requests, services, tokens

_SERIAL = r"(?P<serial>[0-9a-f]{1,40})"

app_name = "dashboard"
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("certificates/", certificates.certificates, name="certificates"),
    path("certificates.csv", certificates.export, {"form": "csv"}, name="certificates-csv"),
    path("certificates.json", certificates.export, {"form": "json"}, name="certificates-json"),
    re_path(rf"^certificates/{_SERIAL}/\Z", certificate.certificate, name="certificate"),
    re_path(rf"^certificates/{_SERIAL}/status/\Z", certificate.served_status, name="certificate-status"),
    re_path(rf"^certificates/{_SERIAL}\.(?P<form>pem|der|chain\.pem|receipt\.json)\Z", certificate.download, name="certificate-file"),
    path("requests/", requests.requests, name="requests"),
    path("requests/<uuid:request_id>/", requests.one, name="request"),
    path("approvals/", approvals.approvals, name="approvals"),
    path("approvals/<uuid:request_id>/", approvals.decide, name="approval"),
    path("issuers/", issuers.issuers, name="issuers"),
    path("issuers/<slug:name>/", issuers.issuer, name="issuer"),
    path("log/", log.log, name="log"),
    path("log/consistency/", log.consistency, name="consistency"),
    path("log/checkpoint.txt", log.checkpoint, name="checkpoint-file"),
    path("log/<int:position>/", log.event, name="event"),
    path("services/", services.all_of_them, name="services"),
    re_path(r"^services/(?P<service>.{1,100})/\Z", services.one, name="service"),
    path("reminders/", reminders.reminders, name="reminders"),
    path("drills/", drills.drills, name="drills"),
    re_path(r"^drills/(?P<order>[0-9a-f]{16})/\Z", drills.one, name="drill"),
    path("tokens/", tokens.tokens, name="tokens"),
]
