from django.apps import AppConfig
from django.conf import settings


class OcspConfig(AppConfig):
    name = "ocsp"
    verbose_name = "Certificate status"

    def ready(self) -> None:
        from eventlog import listeners

        from . import projections, responses, tasks

        projections.register()
        if settings.ROLE != "web":  # which holds no key
            listeners.before_append("certificate.issued", responses.sign_with_issuance)
        for kind in ("certificate.revoked", "revocation.escalated"):
            listeners.after_commit(kind, tasks.revoked)
