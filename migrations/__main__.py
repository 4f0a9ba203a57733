"""`python -m migrations`: brings the database that the settings name up to date, and says what it did."""

import sys

from sqlalchemy import make_url

from migrations.run import upgrade
from shared.errors import SettingsError
from shared.settings import Settings


def main() -> int:
    try:
        url = Settings.from_env().sqlalchemy_url
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    done = upgrade(url)
    where = make_url(url).render_as_string(hide_password=True)
    if done:
        print(f"{where}: {', '.join(done)}")
    else:
        print(f"{where}: already up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
