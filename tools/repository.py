"""Where the book's repository is: ``repository.url`` of ``_config.yml``, or else the remote that this copy came from.

The address is written in one place only. From here it goes into the first cell of the notebooks and the badge below
their title (``notebooks.py``), and into the buttons of the pages (``book_extension.py``). Where there is none, nothing is
said of it.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_BRANCH = "main"
COLAB = "https://colab.research.google.com"
# In the first cell of every chapter; empty in the sources.
ADDRESS = re.compile(r'^(REPOSITORY, BRANCH = )"[^"\n]*", "[^"\n]*"$', re.MULTILINE)
# Below the title of a chapter's pair; not in the sources.
BADGE = re.compile(rf"\n\n\[!\[[^]\n]*\]\({COLAB}/[^)\n]*\)\]\({COLAB}/[^)\n]*\)")


@dataclass(frozen=True)
class Repository:
    """A repository that readers can reach.

    Attributes:
        url: its address, https, without credentials and without ``.git``.
        branch: the branch that notebooks and buttons point to.
    """

    url: str
    branch: str

    def theme_options(self) -> dict:
        """Return the settings of the theme that show the repository, and, on GitHub, open a chapter in Colab."""
        options = {"repository_url": self.url, "repository_branch": self.branch, "use_repository_button": True}
        if self._on_github():
            options["launch_buttons"] = {"colab_url": COLAB, "notebook_interface": "jupyterlab"}
        return options

    def in_colab(self, path: str) -> str | None:
        """Return the address that opens a notebook of the repository in Colab, or None where Colab cannot read it."""
        place = urlsplit(self.url).path.strip("/")
        return f"{COLAB}/github/{place}/blob/{self.branch}/{path}" if self._on_github() else None

    def _on_github(self) -> bool:
        return urlsplit(self.url).hostname == "github.com"


def repository(root: Path = ROOT) -> Repository | None:
    """Return the repository of the book in ``root``, or None where no address is known that a reader could reach.

    Raises:
        ValueError: as ``configured``.
    """
    url = public_address(_git(root, "remote", "get-url", "origin"))
    return configured(root) or (Repository(url, _branch(root)) if url else None)


def configured(root: Path = ROOT) -> Repository | None:
    """Return the repository that ``_config.yml`` names, with ``repository.branch`` or the branch that is checked out.

    Raises:
        ValueError: if ``repository.url`` is not an https address.
    """
    settings = (yaml.safe_load((root / "_config.yml").read_text()) or {}).get("repository") or {}
    if not settings.get("url"):
        return None
    url = public_address(settings["url"])
    if url is None or not settings["url"].startswith("https://"):
        raise ValueError(f"repository.url of _config.yml must be an https address, got {settings['url']!r}")
    return Repository(url, settings.get("branch") or _branch(root))


def _branch(root: Path) -> str:
    return _git(root, "branch", "--show-current") or DEFAULT_BRANCH


def public_address(remote: str) -> str | None:
    """Return a git remote as an https address without credentials; None for a folder or what is no address."""
    short = re.fullmatch(r"[\w.-]+@([\w.-]+):(?!/)(.+)", remote)
    if short:
        remote = f"ssh://{short[1]}/{short[2]}"
    parts = urlsplit(remote)
    if parts.scheme not in ("https", "http", "ssh", "git") or not parts.hostname or not parts.path.strip("/"):
        return None
    port = f":{parts.port}" if parts.port and parts.scheme == "https" else ""
    return f"https://{parts.hostname}{port}/{parts.path.strip('/').removesuffix('.git')}"


def _git(root: Path, *words: str) -> str:
    try:
        result = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def with_address(source: str, found: Repository | None) -> str:
    """Return a cell's source with the address in its place, empty where there is none; other cells stay as they are."""
    url, branch = (found.url, found.branch) if found else ("", "")
    return ADDRESS.sub(lambda match: f'{match[1]}"{url}", "{branch}"', source)


def with_badge(source: str, address: str | None) -> str:
    """Return a chapter's first text with a badge below its title that leads to ``address``, or without any."""
    title, *rest = BADGE.sub("", source, count=1).split("\n", 1)
    if address:
        title += f"\n\n[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({address})"
    return "\n".join([title, *rest])


def address_in(source: str) -> str | None:
    """Return what a cell's source holds in the address's place, or None if it has no such place."""
    match = ADDRESS.search(source)
    return match[0].removeprefix(match[1]) if match else None
