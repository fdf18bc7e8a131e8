"""Do the tests notice? A seeded sample of small changes to three modules (mutants), each run against that module's tests.

    python -m tests.mutants                      all three modules; writes tests/mutants.json
    python -m tests.mutants graph --count 20     one of them, a smaller sample

Cosmic Ray makes the changes, in a copy of the repository. A mutant that no test notices has survived and is listed with
its change, for a person to look at.
"""

import argparse
import datetime
import json
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tests" / "mutants.json"
SEED, COUNT, BAR = 38, 150, 0.8
# What changes no meaning that a test could see: annotations, and the two spellings of the same arithmetic on names of types.
QUIET = ("core/ReplaceBinaryOperator_BitOr",)


@dataclass(frozen=True)
class Subject:
    path: str
    tests: str
    seconds: int  # after which a mutant counts as killed: it made the tests hang


SUBJECTS = {
    "samplers": Subject("chapter38/code/samplers.py", "tests/code/test_samplers.py", 300),
    "graph": Subject("chapter38/canvas/graph.py", "tests/canvas/test_graph.py", 300),
    "cost": Subject("chapter38/call/cost.py", "tests/call/test_cost.py tests/call/test_bill.py", 120),
}


def copy_of_repository(folder: Path) -> Path:
    """Every file that git knows, as it stands in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def sample(session: Path, count: int) -> int:
    """Keep `count` mutants of a session, chosen by SEED; returns how many there were."""
    with use_db(str(session), WorkDB.Mode.open) as db:
        items = [i for i in db.work_items if not any(m.operator_name.startswith(QUIET) for m in i.mutations)]
        items.sort(key=lambda i: [(*m.start_pos, m.operator_name, m.occurrence, str(m.operator_args)) for m in i.mutations])
        db.clear()
        db.add_work_items(random.Random(SEED).sample(items, min(count, len(items))))
    return len(items)


def mutate(subject: Subject, count: int) -> dict[str, Any]:
    """Run `count` mutants of one module; which died, and the changes of those that did not."""
    with tempfile.TemporaryDirectory() as folder:
        tree, config, session = copy_of_repository(Path(folder) / "tree"), Path(folder) / "c.toml", Path(folder) / "s.sqlite"
        command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider -p no:randomly {subject.tests}"
        config.write_text(
            f'[cosmic-ray]\nmodule-path = "{subject.path}"\ntimeout = {subject.seconds}\nexcluded-modules = []\n'
            f"test-command = {json.dumps(command)}\n[cosmic-ray.distributor]\nname = 'local'\n", "utf-8",
        )  # fmt: skip
        subprocess.run(command.split(), cwd=tree, check=True, stdout=sys.stderr)  # unchanged, they pass
        tool = [sys.executable, "-c", "from cosmic_ray.cli import main; main()"]
        subprocess.run([*tool, "init", str(config), str(session)], cwd=tree, check=True)
        there = sample(session, count)
        subprocess.run([*tool, "exec", str(config), str(session)], cwd=tree, check=True)
        with use_db(str(session), WorkDB.Mode.open) as db:
            results = [result for _, result in db.results]
    survived = [result.diff or "" for result in results if result.test_outcome == TestOutcome.SURVIVED]
    return {"module": subject.path, "mutants": there, "run": len(results), "killed": len(results) - len(survived),
            "survived": sorted(map(change, survived))}  # fmt: skip


def change(diff: str) -> str:
    """The lines of a diff that differ, without the file's name."""
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *SUBJECTS], metavar="|".join(SUBJECTS))
    parser.add_argument("--count", type=int, default=COUNT, help="mutants a module (default: %(default)s)")
    options = parser.parse_args()
    names = options.names or list(SUBJECTS)
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(lambda name: mutate(SUBJECTS[name], options.count), names), strict=True))
    old = json.loads(TARGET.read_text("utf-8"))["modules"] if TARGET.exists() else {}
    report = {"date": datetime.date.today().isoformat(), "seed": SEED, "modules": {**old, **found}}
    TARGET.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for name, told in found.items():
        print(f"{name}: {told['killed']} of {told['run']} killed ({told['mutants']} possible)")
    sys.exit(any(told["killed"] < BAR * told["run"] for told in found.values()))


if __name__ == "__main__":
    main()
