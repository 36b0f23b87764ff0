"""`fetchd get` and `fetchd add`: submit downloads, and follow them or not."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fetchd.protocol.job import JobSnapshot

from . import exits
from .context import Reach, json_option, reaches_daemon
from .options import SINGLE, job_options, wishes
from .output import job_json, print_json
from .progress import MODES

if TYPE_CHECKING:
    from fetchd.client.sync import Client


def specs(
    urls: Iterable[str], *, single: bool, stdin: bool = False, output: str | None, directory: str | None,
    **options: Any,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """The arguments of `Client.submit` for each URL.

    `single`: there is exactly one. `stdin`: the URLs come from there, so that nothing else can.
    """
    for option, parameter in SINGLE.items():
        if not single and (output if parameter == "output" else options[parameter]):
            raise click.UsageError(f"{option} goes with a single URL")
    if not single and options["checksum"] and ":@" not in options["checksum"]:
        raise click.UsageError("--checksum goes with a single URL, or with ALGORITHM:@URL of a list")
    name, where = place(output, directory)
    asked = {"directory": where, "name": name, **wishes(options, stdin=stdin)}
    return ({"url": url, **asked} for url in urls)


def place(output: str | None, directory: str | None) -> tuple[str | None, str]:
    """(name, directory) from -o and -d: the directory part of -o is relative to -d."""
    base = Path(directory or ".")
    if output is None:
        return None, str(base)
    if output.endswith("/") or output in {"", ".", ".."}:
        raise click.UsageError(f"-o {output}: names a directory; use -d for that")
    path = base / Path(output).expanduser()
    return path.name, str(path.parent)


@click.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@job_options
@click.option("--progress", "mode", type=click.Choice(MODES), default="auto", show_default=True,
              help="How to show progress, on stderr.")  # fmt: skip
@click.option("--on-interrupt", type=click.Choice(["detach", "cancel"]), default="detach", show_default=True,
              help="What the first Ctrl-C does.")  # fmt: skip
@json_option
@reaches_daemon
def get(
    reach: Reach, urls: tuple[str, ...], mode: str, on_interrupt: str, as_json: bool, **options: Any
) -> int:
    """Download files: submit, follow, and exit with the result.

    Ctrl-C stops following, not the download; a second one within two seconds cancels it.
    """
    from .follow import Following
    from .interrupt import Act, catching
    from .progress import make_view

    wanted = list(specs(urls, single=len(urls) == 1, **options))
    first = Act.CANCEL if on_interrupt == "cancel" else Act.ANNOUNCE
    with reach() as client:
        jobs = client.submit_many(wanted)
        ids = [job.id for job in jobs]
        view = make_view(mode)
        try:
            with catching() as presses:
                following = Following(client, ids, view, presses, first=first, as_json=as_json)
                code = following.run()
        finally:
            view.close()
        if as_json:
            latest = {**client.find([i for i in ids if i not in following.ended]), **following.ended}
            print_json([job_json(latest[i]) for i in dict.fromkeys(ids) if i in latest])
    return code


@click.command()
@click.argument("urls", metavar="[URL...|-]", nargs=-1)
@click.option("-i", "--input", "source", metavar="FILE",
              type=click.File("r", encoding="utf-8", errors="surrogateescape"),
              help="Read URLs from a file, one a line; - is stdin.")  # fmt: skip
@job_options
@json_option
@reaches_daemon
def add(reach: Reach, urls: tuple[str, ...], source: Any, as_json: bool, **options: Any) -> int:
    """Submit downloads and print their IDs, one a line.

    Empty lines and lines that begin with # are left out of a list. Up to 1,000 downloads go into one
    message, which is accepted as a whole; the IDs are printed when it is.
    """
    if not urls and source is None:
        raise click.UsageError("nothing to add: give URLs, or a list with -i FILE or -")
    listed = source is not None or "-" in urls
    stdin = "-" in urls or getattr(source, "name", None) == sys.stdin.name
    wanted = specs(_all_urls(urls, source), single=len(urls) == 1 and not listed, stdin=stdin, **options)
    shown: list[JobSnapshot] = []
    try:
        with reach() as client:
            for batch in client.submit_batches(wanted):
                if as_json:
                    shown += _snapshots(client, [job.id for job in batch])
                else:
                    sys.stdout.write("".join(f"{job.id}\n" for job in batch))
                    sys.stdout.flush()
    finally:
        if as_json and shown:  # what was accepted before an error is printed all the same
            print_json([job_json(job) for job in shown])
    return exits.OK


def _snapshots(client: "Client", ids: list[str]) -> list[JobSnapshot]:
    found = client.find(ids)
    return [found[job_id] for job_id in ids if job_id in found]


def _all_urls(urls: tuple[str, ...], source: Iterable[str] | None) -> Iterator[str]:
    for url in urls:
        if url == "-":
            yield from _lines(sys.stdin)
        else:
            yield url
    if source is not None:
        yield from _lines(source)


def _lines(source: Iterable[str]) -> Iterator[str]:
    for line in source:
        url = line.strip()
        if url and not url.startswith("#"):
            yield url
