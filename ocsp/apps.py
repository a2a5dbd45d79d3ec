from django.apps import AppConfig


class OcspConfig(AppConfig):
    name = "ocsp"
