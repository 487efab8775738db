"""Every page in both themes, as axe-core judges it: no violation of any of its rules.

The inside of formulas is left out: MathJax makes it, hides it from assistive technology and gives that its own markup.
"""

import pytest

from pages import PAGES, Visit, address_of


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_barrier(browser, site, name, mode):
    from axe_playwright_python.sync_playwright import Axe

    with Visit(browser, address_of(site, name), mode) as visit:
        if visit.page.locator(".math").count():
            visit.wait_for_mathematics()
        found = Axe().run(
            visit.page,
            context={"exclude": [["mjx-container"]]},
            options={"preload": False, "resultTypes": ["violations"]},
        )
        assert [(v["id"], [node["target"] for node in v["nodes"]]) for v in found.response["violations"]] == []
