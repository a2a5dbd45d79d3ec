"""The addresses of signing in and of one's own account, below /dashboard/: those of allauth's that are used, and no others."""

from allauth.account import views
from django.urls import include, path
from django.views.decorators.http import require_POST

from . import oidc_views, sign_in_views

urlpatterns = [
    path("login/", sign_in_views.SignIn.as_view(), name="account_login"),
    path("login/company/", oidc_views.begin, name="oidc_begin"),
    path("login/company/done/", oidc_views.done, name="oidc_done"),
    path("logout/", require_POST(views.logout), name="account_logout"),
    path("account/inactive/", views.account_inactive, name="account_inactive"),
    path("account/again/", views.reauthenticate, name="account_reauthenticate"),
    path("account/password/", sign_in_views.ChangePassword.as_view(), name="account_change_password"),
    path("account/", include("allauth.mfa.urls")),
]
