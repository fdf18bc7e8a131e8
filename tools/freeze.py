"""Write constraints.txt from what the running environment holds: the exact versions that everything was tried with."""

import subprocess
import sys
from pathlib import Path

HEAD = """\
# The exact versions that the committed outputs were made with and that every test passed with (Python 3.11, CPU).
# Use: pip install -c constraints.txt -e '.[dev]'. `make constraints` writes this file anew from .venv.
"""


def frozen() -> list[str]:
    """`name==version` for every package here but ours, without local version labels such as +cpu."""
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--exclude", "chapter38"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted((line.partition("+")[0] for line in lines if "==" in line), key=str.lower)


def main() -> None:
    path = Path(__file__).resolve().parents[1] / "constraints.txt"
    path.write_text(HEAD + "\n".join(frozen()) + "\n", "utf-8")
    print(f"{path.name}: {len(frozen())} versions")


if __name__ == "__main__":
    main()
