"""Settings of the test suite: the real ones, with named crash points allowed and a database file that processes share."""

from quicklime_site.settings import *  # noqa: F403
from quicklime_site.settings import DATABASES, STATE

CRASH_POINTS = True
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "sessionid", "csrftoken"  # a browser takes the real names on HTTPS alone
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": str(STATE / "test.sqlite3")}
else:
    DATABASES["default"]["OPTIONS"]["pool"] |= {"min_size": 0, "max_size": 40, "timeout": 20}
