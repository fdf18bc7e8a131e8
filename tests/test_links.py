"""README and lessons say what pyproject's one setting says."""

import pytest

from tools.links import files, first_cell, readme, with_first_cell
from tools.notebooks import ROOT

ADDRESS = "https://example.org/someone/course"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_is_as_make_links_writes_it(path) -> None:
    assert path.read_text("utf-8") == files()[path], "run `make links`"


def test_an_address_reaches_readme_and_first_cell() -> None:
    text = readme((ROOT / "README.md").read_text("utf-8"), ADDRESS)
    assert ADDRESS in text and "does not know its public address" not in text
    assert f"git+{ADDRESS}" in first_cell(ADDRESS)
    assert "http" not in first_cell("")


@pytest.mark.parametrize("repository", ["", ADDRESS])
def test_the_first_cell_is_replaced_and_nothing_else(repository: str) -> None:
    lesson = "# %% [markdown]\n# # Title\n\n# %%\nold = 1\n\n# %%\nkept = 2\n"
    new = with_first_cell(lesson, repository)
    assert "old" not in new and new.endswith("\n\n# %%\nkept = 2\n")
    compile(new, "lesson", "exec")
    assert with_first_cell(new, repository) == new
