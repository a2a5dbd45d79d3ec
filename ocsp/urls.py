"""Addresses of certificate status, as the responder has them."""

from django.urls import path

from . import views

urlpatterns = [
    path("ocsp", views.post),
    path("ocsp/<path:path>", views.get),
    path("crl/<slug:issuer>.crl", views.crl),
    path("crl/<slug:issuer>/<int:shard>.crl", views.crl),
]
