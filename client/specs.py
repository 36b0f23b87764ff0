"""From what a caller writes to the `NewJob` that is sent, and lists of them cut into messages.

Checks only what must be settled on this side of the socket (this process's directory, umask and text
encoding, and the shape of the message); whether a URL or a name is acceptable is the daemon's to say.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from fetchd.protocol import codec
from fetchd.protocol.control import NewJob
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import is_correlation_id, new_correlation_id
from fetchd.protocol.job import Cleanup, JobSpec, Policy

ROOM = codec.MAX_MESSAGE - 4096
"""Bytes of jobs put into one message; the rest is for what surrounds them."""


def new_job(
    url: str,
    *,
    directory: str | os.PathLike[str] | None = None,
    name: str | None = None,
    checksum: str | None = None,
    id: str | None = None,  # noqa: A002  # the public name of a job's identity
    if_exists: Policy = "fail",
    priority: int = 0,
    retries: int = 8,
    headers: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    umask: int | None = None,
    cleanup: Cleanup | None = None,
    keep_partial: bool | None = None,
) -> NewJob:
    """One job to submit. Without `directory` the current one, without `id` a fresh one.

    Raises FetchdError `invalid_id`, `invalid_directory` or `bad_request`.
    """
    if id is None:
        id = new_correlation_id()  # noqa: A001
    elif not is_correlation_id(id):
        raise FetchdError(Code.INVALID_ID, f"{id!r} is not 1 to 64 of A-Z a-z 0-9 _ -")
    spec = JobSpec(
        url=url, directory=absolute(directory), name=name, checksum=checksum, if_exists=if_exists,
        priority=priority, retries=retries, headers=dict(headers or {}), labels=dict(labels or {}),
        umask=current_umask() if umask is None else umask, cleanup=cleaning(cleanup, keep_partial),
    )  # fmt: skip
    job = NewJob(id=id, spec=spec)
    # msgspec does not check what a constructor is given; the daemon would refuse the whole message.
    return codec.decode(codec.encode(job), NewJob)


def cleaning(cleanup: Cleanup | None, keep_partial: bool | None) -> Cleanup:
    """When the workspace is deleted; `keep_partial` is the short way to say what becomes of it on failure."""
    chosen = cleanup or Cleanup()
    if keep_partial is None:
        return chosen
    if chosen.failure is not None:
        raise ValueError("give keep_partial or cleanup.failure, not both")
    return replace(chosen, failure=not keep_partial)


def absolute(directory: str | os.PathLike[str] | None) -> str:
    """An absolute path, as the daemon wants it; what the user wrote is kept unless it has `..` in it."""
    path = Path.cwd() / Path(directory or ".").expanduser()
    if ".." in path.parts:
        path = path.resolve()  # lexically removing `..` is wrong behind a symbolic link
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FetchdError(Code.INVALID_DIRECTORY, f"{text!r} is not valid UTF-8") from None
    return text


def current_umask() -> int:
    """This process's umask, read without changing it: os.umask() would set it for all threads meanwhile."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    mask = os.umask(0o077)  # no such line before Linux 4.7, or no /proc
    os.umask(mask)
    return mask


def batches(jobs: Iterable[NewJob]) -> Iterator[list[NewJob]]:
    """Cut into lists that fit one message each: at most 1,000 jobs and 1 MiB."""
    batch: list[NewJob] = []
    size = 0
    for job in jobs:
        length = len(codec.encode(job))
        if batch and (len(batch) >= codec.MAX_ITEMS or size + length > ROOM):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += length
    if batch:
        yield batch
