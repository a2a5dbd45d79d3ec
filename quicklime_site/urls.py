"""The addresses of the HTTPS server."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from . import health, metrics

handler400 = "ca.api.problems.bad_request"
handler404 = "ca.api.problems.not_found"
handler500 = "ca.api.problems.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="dashboard:overview")),
    path("", include("ca.api.urls")),
    path("", include("ocsp.urls")),
    path("", include("dashboard.urls")),
    path("dashboard/", include("dashboard.sign_in_urls")),
    path("dashboard/", include("dashboard.pages.urls")),
    path("admin/", admin.site.urls),
    path("reminders/", include("dashboard.silencing_urls")),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
]
