"""Reads the imports of our modules and checks them against rules: the one-way flow between rooms."""

import ast
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

OURS = "fetchd"
ROOMS = ("protocol", "client", "daemon")


@dataclass(frozen=True)
class Import:
    """One imported name of a module, absolute: `fetchd.protocol.ids` or `os.path`, and its line."""

    name: str
    line: int


@dataclass(frozen=True)
class Rule:
    """A rule about some modules: what of ours they may import, and what of everyone else.

    `applies` lists name prefixes, `but` prefixes that are excepted. `ours` are the prefixes of our modules
    that are allowed, `never` prefixes of ours that are not (it wins). `others` are allowed top-level names
    besides the standard library; `stdlib` narrows the standard library down. None: anything.
    """

    name: str
    applies: tuple[str, ...]
    but: tuple[str, ...] = ()
    ours: frozenset[str] | None = None
    never: frozenset[str] = frozenset()
    others: frozenset[str] | None = None
    stdlib: frozenset[str] | None = None

    def governs(self, module: str) -> bool:
        """Whether the rule is about this module."""
        return _within(module, self.applies) and not _within(module, self.but)

    def objection(self, imported: str) -> str | None:
        """Why this import breaks the rule, or None."""
        if _within(imported, (OURS,)):
            if _within(imported, self.never):
                return "this room is out of bounds"
            if self.ours is not None and not _within(imported, self.ours):
                return f"of ours only {_listing(self.ours)} may be imported"
            return None
        top = imported.partition(".")[0]
        if top in sys.stdlib_module_names:
            if self.stdlib is None or _within(imported, self.stdlib):
                return None
            return f"of the standard library only {_listing(self.stdlib)} may be imported"
        if self.others is None or top in self.others:
            return None
        return f"besides the standard library only {_listing(self.others)} may be imported"


@dataclass
class Sources:
    """Our modules by dotted name, with their text."""

    texts: Mapping[str, str]
    packages: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, root: Path) -> "Sources":
        """All modules of the three packages below the repository's root."""
        texts: dict[str, str] = {}
        packages: set[str] = set()
        for room in ROOMS:
            for path in sorted((root / room).rglob("*.py")):
                parts = [OURS, *path.relative_to(root).with_suffix("").parts]
                if parts[-1] == "__init__":
                    packages.add(".".join(parts[:-1]))
                    parts.pop()
                texts[".".join(parts)] = path.read_text()
        return cls(texts, frozenset(packages))

    def imports(self, module: str) -> list[Import]:
        """All imports of a module, those inside functions and `if TYPE_CHECKING` too."""
        found: list[Import] = []
        for node in ast.walk(ast.parse(self.texts[module])):
            if isinstance(node, ast.Import):
                found += (Import(alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                for alias in node.names:  # a name may be a module of ours, and then that is what is imported
                    name = f"{base}.{alias.name}"
                    found.append(Import(name if self._is_module(name) else base, node.lineno))
        return found

    def violations(self, rules: Iterable[Rule]) -> list[str]:
        """One line for each import that breaks a rule."""
        found = []
        for rule in rules:
            for module in self.texts:
                if rule.governs(module):
                    for imported in self.imports(module):
                        if why := rule.objection(imported.name):
                            line = f"{module}:{imported.line} imports {imported.name}"
                            found.append(f"{line}: {why} (rule: {rule.name})")
        return found

    def _is_module(self, name: str) -> bool:
        return name in self.texts or any(known.startswith(f"{name}.") for known in self.texts)

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        keep = len(parts) - node.level + (module in self.packages)
        return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def _within(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
