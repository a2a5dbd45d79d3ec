"""`python bench_presign.py COUNT FILE`: COUNT certificates of the CA "bench", each with its OCSP response pre-signed as
django-ca's periodic task does it. FILE gets the CA in PEM and the serials as JSON; prints {"seconds"} of the pre-signing."""

import json
import os
import sys
import time

import django
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench_settings")
django.setup()

from django_ca.models import Certificate, CertificateAuthority  # noqa: E402 - Django must be set up before


def main(count, file):
    """Issue, pre-sign, report."""
    ca = CertificateAuthority.objects.get(name="bench")
    options, csr = ca.key_backend.get_use_private_key_options(ca, {}), _csr()
    certificates = [Certificate.objects.create_cert(ca, options, csr, subject=csr.subject) for _ in range(count)]
    start = time.perf_counter()
    for certificate in certificates:
        certificate.generate_ocsp_response()
    seconds = time.perf_counter() - start
    with open(file, "w") as output:
        json.dump({"ca": ca.pub.pem, "serials": [certificate.serial for certificate in certificates]}, output)
    print(json.dumps({"seconds": seconds}))


def _csr():
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node.bench.internal")])
    return x509.CertificateSigningRequestBuilder(subject).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
