"""Where dashboard's views are."""

from __future__ import annotations

from django.urls import path, re_path

from . import api

urlpatterns = [
    path("api/v1/services/", api.ServicesView.as_view(), name="services"),
    re_path(r"^api/v1/services/(?P<name>[A-Za-z0-9._-]{1,100})/\Z", api.ServiceView.as_view(), name="service"),
]
