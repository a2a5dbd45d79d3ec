"""The URLs of the django-ca peer: its own, nothing else."""

from django.urls import include, path

urlpatterns = [path("django_ca/", include("django_ca.urls"))]
