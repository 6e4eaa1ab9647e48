"""The digest of somebody's own class follows the code that it runs, and nothing else."""

import importlib
import subprocess
import sys
import textwrap

import pytest

from lra_bench import registry
from lra_bench.own_source import source_digest

FILES = {
    "own/__init__.py": "",
    "own/mixers/__init__.py": "from .attention import Mine\n",
    "own/mixers/attention.py": """
        import torch
        from ..kernels import fast
        from own import sizes

        class Mine(torch.nn.Module):
            def forward(self, x, mask):
                from own.late import scale
                return scale * fast(x)
        """,
    "own/kernels.py": "import helper_of_own\n\ndef fast(x):\n    return x\n",
    "own/sizes.py": "WIDTH = 4\n",
    "own/late.py": "scale = 2\n",
    "own/unused.py": "raise RuntimeError('nobody imports it')\n",
    "helper_of_own.py": "VALUE = 1\n",
    "other_of_own.py": "VALUE = 1\n",
}

ASK = """
from lra_bench.own_source import source_digest
from own.mixers import Mine
print(source_digest(Mine))
"""


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


@pytest.fixture
def digest(project, monkeypatch):
    """A function: the digest in a new interpreter's place, everything of the project imported anew."""
    monkeypatch.syspath_prepend(project)

    def ask():
        for name in [one for one in sys.modules if one.split(".")[0] in {"own", "helper_of_own"}]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return source_digest(importlib.import_module("own.mixers").Mine)

    yield ask
    for name in [one for one in sys.modules if one.split(".")[0] in {"own", "helper_of_own"}]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "name",
    [name for name in FILES if name not in ("own/unused.py", "other_of_own.py")],
)
def test_it_changes_with_what_the_class_runs(project, digest, name):
    before = digest()
    assert len(before) == 64
    assert digest() == before
    path = project / name
    path.write_text(path.read_text() + "# another\n")
    assert digest() != before


def test_it_stays_with_what_the_class_does_not_run(project, digest):
    before = digest()
    for name in ("own/unused.py", "other_of_own.py"):
        (project / name).write_text("VALUE = 2\n")
    for name in FILES:  # as a checkout on another system may have them
        path = project / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert digest() == before


def test_it_does_not_depend_on_what_else_is_loaded(project, digest):
    alone = subprocess.run(
        [sys.executable, "-c", ASK], cwd=project, capture_output=True, text=True, check=True
    ).stdout.strip()
    importlib.import_module("helper_of_own")
    assert digest() == alone


def test_an_installed_package_is_followed_within_itself_alone(project, digest, tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    site.mkdir()
    (project / "own").rename(site / "own")
    (project / "helper_of_own.py").rename(site / "helper_of_own.py")
    monkeypatch.syspath_prepend(site)
    before = digest()
    (site / "helper_of_own.py").write_text("VALUE = 3\n")
    assert digest() == before
    (site / "own" / "kernels.py").write_text("def fast(x):\n    return 2 * x\n")
    assert digest() != before


@pytest.mark.parametrize("entry", [*registry.models, *registry.tasks], ids=lambda entry: entry.name)
def test_what_is_registered_has_none(entry):
    assert source_digest(entry.load()) == ""
