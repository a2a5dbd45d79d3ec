"""The addresses behind the links in a reminder, below /reminders/."""

from django.urls import path

from . import silencing_views

urlpatterns = [
    path("snooze/<str:token>", silencing_views.snooze, name="snooze"),
    path("unsubscribe/<str:token>", silencing_views.unsubscribe, name="unsubscribe"),
]
