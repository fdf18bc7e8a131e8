"""Write what follows from pyproject's [tool.chapter38] repository and from the lessons that are there (`make links`):
the README's links and its table of lessons, and the first cell of every lesson, which installs the course on Colab.
"""

import re
from pathlib import Path

from tools.notebooks import ROOT, lessons
from tools.pages import lessons_table
from tools.site import settings

FIRST_CELL = """\
# %%
# On Colab this installs the course and replaces nothing that Colab ships; elsewhere it does nothing.
import importlib.util
import subprocess
import sys
{more}
if importlib.util.find_spec("chapter38") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", {course}], check=True)
"""
WHEEL = 'wheel = next(Path().glob("chapter38-*.whl"), "chapter38-*.whl")  # upload the file that `make wheel` builds'


def first_cell(repository: str) -> str:
    """The cell that installs the course: from the repository's address, or, without one, from a wheel beside it."""
    if repository:
        return FIRST_CELL.format(more="", course=f'"chapter38[notebooks] @ git+{repository}"')
    return FIRST_CELL.format(more=f"from pathlib import Path\n\n{WHEEL}", course='f"{wheel}[notebooks]"')


def with_first_cell(lesson: str, repository: str) -> str:
    """A lesson's source with its first code cell as it should be."""
    first = re.compile(r"^# %%\n.*?(?=^# %%)", re.MULTILINE | re.DOTALL)
    return first.sub(lambda _: first_cell(repository) + "\n", lesson, count=1)


def ways(repository: str) -> str:
    """The README's line about the repository's address."""
    if repository:
        name = repository.removeprefix("https://github.com/")
        colab = f"https://colab.research.google.com/github/{name}/blob/main/notebooks/38_0_ladder.ipynb"
        return f"The repository: <{repository}>. Open the first lesson [in Colab]({colab})."
    return (
        "This copy does not know its public address. Whoever publishes it sets `repository` under `[tool.chapter38]` in "
        "`pyproject.toml` and runs `make links`: the links to Colab and to the repository follow from it."
    )


def filled(text: str, name: str, content: str) -> str:
    """A Markdown file with what stands between `<!-- name -->` and `<!-- /name -->` replaced."""
    return re.sub(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL
    )


def readme(text: str, repository: str) -> str:
    return filled(filled(text, "ways", ways(repository)), "lessons", lessons_table())


def files() -> dict[Path, str]:
    """path -> the text it should have."""
    repository = settings()["repository"].rstrip("/")
    readme_path = ROOT / "README.md"
    wanted = {path: with_first_cell(path.read_text("utf-8"), repository) for path in lessons()}
    return {readme_path: readme(readme_path.read_text("utf-8"), repository), **wanted}


def main() -> None:
    for path, text in files().items():
        if path.read_text("utf-8") != text:
            path.write_text(text, "utf-8", newline="\n")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
