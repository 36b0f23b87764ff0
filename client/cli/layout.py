"""How `fetchd top` looks: a board in, lines out, for any size of the screen. No output here."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from fetchd.protocol.job import JobSnapshot, State

from . import text
from .board import Board, Host
from .progress import describe_state

NEXT = 10
"""Jobs that wait and are shown, at most."""

HELD = 3
"""Lines about what holds jobs, at most."""

GAP = "  "

BOLD, DIM, ALARM = "bold", "dim", "bold red"


class Line(NamedTuple):
    """A line and how it is emphasised."""

    text: str
    style: str = ""


class Table(NamedTuple):
    """Columns in the order to be seen; `rank` is the order in which they find a place, the first always does.

    `elastic` ones may be cut: the cells that they keep, and those that they take at most.
    """

    columns: tuple[str, ...]
    rank: tuple[str, ...]
    elastic: Mapping[str, tuple[int, int]]
    right: frozenset[str] = frozenset()


RUNNING = Table(
    ("ID", "NAME", "HOST", "DONE", "SIZE", "SPEED", "ETA", "TRY", "CONN", "MEMORY", "CPU"),
    ("NAME", "DONE", "SPEED", "ETA", "MEMORY", "CPU", "HOST", "ID", "SIZE", "CONN", "TRY"),
    {"NAME": (16, 60), "HOST": (12, 30), "ID": (8, 16)},
    frozenset({"DONE", "SIZE", "SPEED", "ETA", "TRY", "CONN", "MEMORY", "CPU"}),
)
WAITING = Table(("ID", "NAME", "HOST", "WHY"), ("NAME", "WHY", "HOST", "ID"),
                {"NAME": (16, 40), "WHY": (16, 80), "HOST": (12, 30), "ID": (8, 16)})  # fmt: skip
HOSTS = Table(("HOST", "RUNNING", "SPEED", "WAITING"), ("HOST", "RUNNING", "SPEED", "WAITING"),
              {"HOST": (12, 60)}, frozenset({"RUNNING", "SPEED", "WAITING"}))  # fmt: skip


def draw(board: Board, now: float, width: int | None = None, height: int | None = None) -> list[Line]:
    """The view at `now` (seconds since 1970), no wider and no longer than the screen; None: as it needs."""
    head = _head(board, now, width)
    running, waiting, hosts = board.running, board.waiting[:NEXT], board.hosts
    sections = [
        _Section(RUNNING, [_run(board, job) for job in running], len(running)),
        _Section(WAITING, [_wait(job, now) for job in waiting], board.pending, _reasons(board)),
        _Section(HOSTS, [_host(name, host) for name, host in hosts.items()], len(hosts)),
    ]
    sections = [section for section in sections if section.rows or section.title]
    if height is not None:
        _share(sections, height - len(head))
    lines = head + [line for section in sections for line in section.lines(width)]
    return [_fit(line, width) for line in lines[:height]]


class _Section:
    """A table under its title, `room` rows of it, and how many there are in all."""

    def __init__(
        self, table: Table, rows: Sequence[Mapping[str, str]], total: int, title: str | None = None
    ) -> None:
        self.table = table
        self.rows = rows
        self.total = total
        self.title = title
        self.room: int | None = None

    @property
    def frame(self) -> int:
        """Lines beside the rows."""
        return 1 + (self.title is not None) + bool(self.rows)

    def lines(self, width: int | None) -> list[Line]:
        if self.room is not None and self.room <= 0:
            return []
        whole = self.room is None or self.total <= self.room
        shown = self.rows if whole or self.room is None else self.rows[: self.room - 1]
        lines = [Line("")]
        if self.title is not None:
            lines.append(Line(self.title, BOLD))
        if shown:
            lines += _table(self.table, shown, width)
        if self.total > len(shown) and self.rows:
            lines.append(Line(f"… and {self.total - len(shown):,} more", DIM))
        return lines


def _share(sections: list[_Section], height: int) -> None:
    """Room for each section; the last ones go where it gets narrow, the first gets what the others leave."""
    while len(sections) > 1 and height - sum(section.frame for section in sections) < 2 * len(sections):
        sections.pop()
    space = height - sum(section.frame for section in sections)
    for section in reversed(sections[1:]):
        section.room = max(1, min(section.total, len(section.rows) + 1, space // 4))
    if sections:
        sections[0].room = max(1, space - sum(section.room or 0 for section in sections[1:]))


def _head(board: Board, now: float, width: int | None) -> list[Line]:
    daemon, slots = board.daemon, board.slots
    up = text.duration(max(0.0, now - daemon.started / 1e6))
    parts = [
        text.speed(board.speed),
        f"{slots.total - slots.free} of {slots.total} slots busy" if slots is not None else None,
        f"up {up}{', restarted' if board.restarted else ''}",
        f"fetchd {text.clean(daemon.version)}",
        f"pid {daemon.pid}",
    ]
    counts = [f"{number:,} {text.clean(state)}" for state, number in board.counts.items() if number]
    lines = [Line(line, BOLD) for line in _pack([part for part in parts if part], width)]
    lines += [Line(line) for line in _pack(counts or ["no jobs"], width)]
    if not board.connected:
        lines.append(Line("the daemon is gone; waiting for it", ALARM))
    elif board.draining:
        lines.append(Line("the daemon is stopping", ALARM))
    lines += [Line(f"held: {text.held(held)}", ALARM) for held in board.held[:HELD]]
    if len(board.held) > HELD:
        lines.append(Line(f"… and {len(board.held) - HELD} more", ALARM))
    for layer, state in board.sandbox().items():
        lines.append(Line(text.clean(f"sandbox: {layer}: {state}"), ALARM))
    return lines


def _run(board: Board, job: JobSnapshot) -> dict[str, str]:
    worker = board.workers.get(job.id)
    done = text.percent(job.bytes, job.total)
    segments = worker.connections if worker is not None else None
    return {
        "ID": job.id,
        "NAME": text.name_of(job),
        "HOST": text.host_of(job),
        "DONE": "?" if done is None else f"{done} %",
        "SIZE": f"{text.size(job.bytes)}/{text.size(job.total)}",
        "SPEED": text.speed(job.speed) if job.state is State.RUNNING else str(job.state),
        "ETA": text.duration(job.eta),
        "TRY": str(job.attempt),
        "CONN": "?" if segments is None else str(segments),
        "MEMORY": text.size(worker.memory if worker is not None else None),
        "CPU": text.share(worker.cpu if worker is not None else None),
    }


def _wait(job: JobSnapshot, now: float) -> dict[str, str]:
    return {
        "ID": job.id,
        "NAME": text.name_of(job),
        "HOST": text.host_of(job),
        "WHY": describe_state(job, now),
    }


def _host(name: str, host: Host) -> dict[str, str]:
    return {
        "HOST": name,
        "RUNNING": str(host.running),
        "SPEED": text.speed(host.speed),
        "WAITING": str(host.pending),
    }


def _reasons(board: Board) -> str | None:
    """How many jobs wait, and why; of more than are known, why those do."""
    if not board.pending:
        return None
    reasons = board.reasons
    known = sum(reasons.values())
    why = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
    if board.pending <= known:
        return f"waiting: {why}"
    return f"waiting: {board.pending:,}" + (f"; of {known:,} of them {why}" if known else "")


def _table(table: Table, rows: Sequence[Mapping[str, str]], width: int | None) -> list[Line]:
    needs = {name: max(cell_len(name), *(cell_len(row[name]) for row in rows)) for name in table.columns}
    widths = needs if width is None else _widths(table, needs, width)
    shown = [name for name in table.columns if name in widths]

    def line(cell: Callable[[str], str]) -> str:
        cells = []
        for name in shown:
            value = cut(cell(name), widths[name])
            space = " " * (widths[name] - cell_len(value))
            cells.append(space + value if name in table.right else value + space)
        return GAP.join(cells).rstrip()

    return [Line(line(lambda name: name), DIM), *(Line(line(row.__getitem__)) for row in rows)]


def _widths(table: Table, needs: Mapping[str, int], width: int) -> dict[str, int]:
    """Widths of the columns that find a place; what is left over is for the elastic ones, in turn."""
    least = {name: min(need, table.elastic.get(name, (need,))[0]) for name, need in needs.items()}
    first, *others = table.rank
    widths, left = {first: least[first]}, width - least[first]
    for name in others:
        if least[name] + len(GAP) <= left:
            widths[name] = least[name]
            left -= least[name] + len(GAP)
    for name in table.rank:
        if name in widths and name in table.elastic:
            more = max(0, min(needs[name], table.elastic[name][1], widths[name] + left) - widths[name])
            widths[name] += more
            left -= more
    return widths


def cut(words: str, width: int) -> str:
    """What fits into so many cells, with an ellipsis where something is missing."""
    return words if cell_len(words) <= width else set_cell_size(words, max(0, width - 1)).rstrip() + "…"


def _fit(line: Line, width: int | None) -> Line:
    return line if width is None else line._replace(text=cut(line.text, width))


def _pack(parts: Sequence[str], width: int | None) -> list[str]:
    """Parts beside each other, on as few lines as they need."""
    lines = [parts[0]]
    for part in parts[1:]:
        if width is None or cell_len(lines[-1]) + 2 + cell_len(part) <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines
