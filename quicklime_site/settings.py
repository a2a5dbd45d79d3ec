"""Django's settings, all from the environment (see env.py, which names and checks each variable)."""

import os
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from ca.jwt_issuers import JwtIssuer
from dashboard.directory_settings import Directory
from dashboard.oidc_settings import Provider
from dashboard.smtp import Server

from . import env

try:
    _e = env.read(os.environ)
    SECRET_KEY = _e["SECRET_KEY"] or env.made_once(_e["QUICKLIME_STATE"] / "secret_key")
except env.SettingError as error:
    sys.exit(f"quicklime: {error}")

BASE_DIR = Path(__file__).resolve().parent.parent
STATE: Path = _e["QUICKLIME_STATE"]
ROLE: str = _e["QUICKLIME_ROLE"]
ZONES, IP_RANGES, SPIFFE_TRUST_DOMAINS = _e["QUICKLIME_ZONES"], _e["QUICKLIME_IP_RANGES"], _e["QUICKLIME_SPIFFE_TRUST_DOMAINS"]
PUBLIC_URL, AIA_URL, OCSP_URL = _e["QUICKLIME_PUBLIC_URL"], _e["QUICKLIME_AIA_URL"], _e["QUICKLIME_OCSP_URL"]
OCSP_VALIDITY = _e["QUICKLIME_OCSP_HOURS"]
OCSP_SIGNERS: dict[str, str] = _e["QUICKLIME_OCSP_SIGNER"]  # issuer → "issuer" or "delegated", "*" for all that are not named
OCSP_NONCES: int = _e["QUICKLIME_OCSP_NONCES"]
CRL_URL, CRL_SHARDS, CRL_VALIDITY = _e["QUICKLIME_CRL_URL"], _e["QUICKLIME_CRL_SHARDS"], _e["QUICKLIME_CRL_HOURS"]
STATUS_CHANNELS: dict[str, tuple[str, ...]] = _e["QUICKLIME_STATUS_CHANNELS"]  # for every profile
APPROVAL: tuple[str, ...] = _e["QUICKLIME_APPROVAL"]  # profiles
APPROVAL_TIME: timedelta = _e["QUICKLIME_APPROVAL_HOURS"]
STATUS_DIR: Path | None = _e["QUICKLIME_STATUS_DIR"]
KEYS_DIR: Path = _e["QUICKLIME_KEYS"] or STATE / "keys"
KEY_PASSPHRASE: str = _e["QUICKLIME_KEY_PASSPHRASE"]
KEY_PASSPHRASE_FILE: Path | None = _e["QUICKLIME_KEY_PASSPHRASE_FILE"]
REVOCATION_KEY_FILE: Path = _e["QUICKLIME_REVOCATION_KEY_FILE"] or STATE / "revocation.key"
BACKUP_AGE: timedelta = _e["QUICKLIME_BACKUP_HOURS"]
CHECKPOINT_DIR: Path = _e["QUICKLIME_CHECKPOINT_DIR"] or STATE / "checkpoints"
LOG_ORIGIN, LOG_PUBLIC = _e["QUICKLIME_LOG_ORIGIN"], _e["QUICKLIME_LOG_PUBLIC"]
EMAIL: Server | None = _e["EMAIL_URL"]
MAIL_FROM: str = _e["QUICKLIME_MAIL_FROM"] or f"quicklime@{urlsplit(PUBLIC_URL).hostname}"
MAIL_TO: tuple[str, ...] = _e["QUICKLIME_MAIL_TO"]
WEBHOOK_URL: str = _e["QUICKLIME_WEBHOOK_URL"]
WEBHOOK_SECRET_FILE: Path | None = _e["QUICKLIME_WEBHOOK_SECRET_FILE"]
PKILINT_SAMPLE, RATE, WAITERS = _e["QUICKLIME_PKILINT_SAMPLE"], _e["QUICKLIME_RATE"], _e["QUICKLIME_WAITERS"]
TRUSTED_PROXIES = _e["QUICKLIME_TRUSTED_PROXIES"]
CLIENT_CERTIFICATE_HEADER: str = _e["QUICKLIME_CLIENT_CERTIFICATE_HEADER"]
SECOND_FACTOR: frozenset[str] = frozenset(_e["QUICKLIME_SECOND_FACTOR"])  # roles
LDAP: Directory | None = _e["QUICKLIME_LDAP"]
OIDC: Provider | None = _e["QUICKLIME_OIDC"]
JWT_ISSUERS: tuple[JwtIssuer, ...] = _e["QUICKLIME_JWT_ISSUERS"]
CRASH_POINTS = False  # only the test settings turn named crash points on

DEBUG = False
ALLOWED_HOSTS = [urlsplit(PUBLIC_URL).hostname or "localhost", "localhost", "127.0.0.1", "[::1]", *_e["QUICKLIME_ALLOWED_HOSTS"]]
ROOT_URLCONF = "quicklime_site.urls"
WSGI_APPLICATION = "quicklime_site.wsgi.application"
INSTALLED_APPS = [
    "dashboard.apps.AdminConfig",  # django.contrib.admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django.contrib.humanize",  # for allauth's templates
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "eventlog",
    "ca",
    "ocsp",
    "dashboard",
]
MIDDLEWARE = [
    "quicklime_site.correlation.request_id",
    "quicklime_site.measuring.requests",
    "quicklime_site.middleware.client_certificate",
    "quicklime_site.middleware.client_address",
    "django.middleware.security.SecurityMiddleware",
    "quicklime_site.middleware.headers",
    "dashboard.visible.hidden_made_visible",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "quicklime_site.middleware.bounded",
    "quicklime_site.middleware.Sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "quicklime_site.middleware.Authentication",
    "quicklime_site.middleware.Messages",
    "allauth.account.middleware.AccountMiddleware",
]
HEADERS = {
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "DIRS": [BASE_DIR / "dashboard" / "templates"],  # before the apps', so that the admin has our look
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.access.rights",
            ]
        },
    }
]
DATABASES = {"default": env.database(_e["DATABASE_URL"], STATE, _e["QUICKLIME_DB_POOL"], ROLE)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "account_login", "dashboard:overview", "account_login"
ACCOUNT_ADAPTER, MFA_ADAPTER = "dashboard.sign_in.Accounts", "dashboard.sign_in.Factors"
ACCOUNT_LOGIN_METHODS, ACCOUNT_SIGNUP_FIELDS, ACCOUNT_EMAIL_VERIFICATION = {"username"}, ["username*", "password1*"], "none"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_RATE_LIMITS = {"login": "30/m/ip", "login_failed": "20/m/ip,5/5m/key", "reauthenticate": "5/m/user"}
MFA_SUPPORTED_TYPES, MFA_ALLOW_UNVERIFIED_EMAIL, MFA_RECOVERY_CODES_SHOW_ONCE = ["totp", "webauthn", "recovery_codes"], True, True
MFA_FORMS = {
    "add_webauthn": "dashboard.sign_in_forms.AddSecurityKey",
    "authenticate_webauthn": "dashboard.sign_in_forms.ShowSecurityKey",
    "reauthenticate_webauthn": "dashboard.sign_in_forms.ShowSecurityKeyAgain",
}
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
if LDAP:  # behind it, and only then: it needs python-ldap
    AUTHENTICATION_BACKENDS.append("dashboard.directory_sign_in.DirectoryBackend")
DASHBOARD = {"health": "quicklime_site.health.latest"} | {  # what its pages ask of rooms that they may not enter
    name: f"quicklime_site.served.{name}" for name in ("ocsp", "crl", "crl_facts", "crls", "delegates", "sign_again")
}
LANGUAGE_CODE, TIME_ZONE, USE_TZ, USE_I18N = "en", "UTC", True, False
FORMAT_MODULE_PATH = ["quicklime_site.formats"]
APPEND_SLASH = False  # a redirect would drop a POST's body, and an OCSP GET path may end in anything
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # the default makes cookie signers for every request
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

_https = PUBLIC_URL.startswith("https:")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_HTTPONLY = True  # forms carry the token; no script needs to read it
SESSION_COOKIE_AGE, SESSION_EXPIRE_AT_BROWSER_CLOSE = 12 * 3600, True
if _https:  # a name that only this very host can set, for all of its paths (RFC 6265bis §4.1.3.2)
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SECURE_SSL_REDIRECT = False  # the API listens on TLS only; there is no plain-HTTP twin to redirect from
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = False
SECURE_REFERRER_POLICY = "same-origin"
# the three SECURE_ choices just above, and X-Frame-Options, which stands in HEADERS
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021", "security.W002"]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["ca.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["ca.api.authentication.DenyUnlessDeclared"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["ca.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "ca.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Quicklime",
    "DESCRIPTION": "A private certificate authority whose event log is the truth.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",  # 3.0 knows no client certificates
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "CertificateStatus": ["active", "expired", "revoked"],
        "GenerationStatus": ["current", "left_behind", "expired", "revoked", "superseded"],
    },
}

REDIS_URL = _e["REDIS_URL"] or f"unix://{env.redis_socket(STATE)}"
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "queue_order_strategy": "priority",  # BRPOP looks at later steps first: a batch that began ends before another begins
    "socket_connect_timeout": 1,
    "socket_timeout": 5,
    "visibility_timeout": 60,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # Redis refuses every write while its disk is full: not a reason to end the worker
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_SEND_SENT_EVENT = CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SYNC_EVERY = 10  # messages between two writes of when each task was last sent, which /readyz looks at
CELERY_TIMEZONE, CELERY_ENABLE_UTC = "UTC", True

LOGGING_CONFIG = "quicklime_site.logs.configure"
LOGGING = {"level": _e["QUICKLIME_LOG_LEVEL"], "format": _e["QUICKLIME_LOG_FORMAT"]}
