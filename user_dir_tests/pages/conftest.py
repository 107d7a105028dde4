"""One browser for all pages; without one what needs it is skipped."""

import pytest

from user_dir_tests.pages.chromium import browser, find_chromium


@pytest.fixture(scope="session")
def tab():
    if find_chromium() is None:
        pytest.skip("chromium is absent")
    with browser(find_chromium()) as opened:
        yield opened
