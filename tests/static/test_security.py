"""daemon/SECURITY.md says the truth: every test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?!attack|---)[^|]+ \| [^|]+ \| `(tests/[\w/]+\.py)::(test_\w+)` \|$")


def test_every_attack_has_its_test() -> None:
    text = (ROOT / "daemon" / "SECURITY.md").read_text().splitlines()
    rows = [line for line in text if line.startswith("|") and not re.match(r"\| (attack|---)", line)]
    named = [ROW.match(line) for line in rows]
    assert len(rows) > 40
    assert not [line for line, found in zip(rows, named, strict=True) if found is None]
    files = {found[1] for found in named if found}
    trees = {file: ast.parse((ROOT / file).read_text()) for file in files}
    known = {
        file: {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        for file, tree in trees.items()
    }
    assert not [found[0] for found in named if found and found[2] not in known[found[1]]]
