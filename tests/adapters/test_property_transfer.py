"""Whatever a server does from visit to visit, the file is one version of the object in the end, or an error.

Versions follow each other and are told apart by their ETags; connections break anywhere, ranges are ignored,
attempts are stopped in the middle, in one piece or in segments.
"""

import os
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.content import Pattern, first_difference
from support.origin import Origin, Resource, Step

from fetchd.protocol.mailbox import Finished

from .attempts import room as rooms
from .trials import PATHS

SIZE = 3 << 20
EXAMPLES = int(os.environ.get("FETCHD_STORIES", "200"))
TRIES = 30

offsets = st.one_of(st.integers(0, SIZE), st.sampled_from([0, 1, 1 << 20, 2 << 20, SIZE - 1]))
cuts = st.builds(
    lambda after, reset, blind: ("cut", {"after": after, "reset": reset, "blind": blind}),
    offsets, st.booleans(), st.booleans(),
)  # fmt: skip
parts = st.one_of(
    st.sampled_from(["plain", "blind_206", "ignore_range", "no_if_range", "drop", "multipart_206"]).map(
        lambda name: (name, {})
    ),
    st.builds(lambda at: ("cut_at", {"offset": at}), offsets),
    st.builds(lambda by: ("shifted_206", {"by": by}), st.integers(-5000, 5000)),
    st.builds(lambda most: ("short_206", {"most": most}), st.integers(100_000, SIZE)),
    st.builds(lambda by: ("long_206", {"by": by}), st.integers(1, SIZE)),
    st.builds(lambda by: ("overlong_206", {"by": by}), st.integers(1, 1000)),
    st.builds(lambda by: ("other_total", {"by": by}), st.integers(-1000, 1000)),
    st.builds(lambda code: ("status", {"code": code}), st.sampled_from([429, 500, 503])),
)
blind: tuple[str, dict[str, Any]] = ("blind_206", {})
answers = st.one_of(cuts, st.just(blind), parts)
"""Half of it is what mixes contents, if anything does: a part is left, and then there is another version."""


@dataclass(frozen=True)
class Visit:
    """How one visit is answered; `fresh`: from now on there is another version, `longer` by so much."""

    answer: tuple[str, dict[str, Any]]
    fresh: bool
    longer: int


visits = st.builds(Visit, answers, st.booleans(), st.sampled_from([0, 0, 0, 0, 1, -1, 70_000]))


def versions(story: list[Visit]) -> list[Resource]:
    """What is there at each visit."""
    found: list[Resource] = []
    number, size = 1, SIZE
    for visit in story:
        if visit.fresh:
            number, size = number + 1, size + visit.longer
        found.append(Resource(size=size, seed=number, etag=f'"v{number}"'))
    return found or [Resource(size=SIZE, seed=1)]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    story=st.lists(visits, max_size=8),
    stops=st.lists(offsets, max_size=3),
    segments=st.integers(1, 8),
    path=st.sampled_from(sorted(PATHS)),
)
def test_the_file_is_one_version(story: list[Visit], stops: list[int], segments: int, path: str) -> None:
    known = versions(story)
    with Origin() as origin, rooms() as room:
        room.paths = PATHS[path]
        steps = [Step(there, name, **options) for there, visit in zip(known, story, strict=False)
                 for name, options in [visit.answer]]  # fmt: skip
        url = origin.script("/f", *steps, Step(known[-1]))

        seen = [(0, 0)]  # requests and bytes, when the last stop was due

        def until(count: int) -> None:
            """Until so many bytes more have been sent, or nothing goes on."""
            requests, sent = seen[-1]
            origin.wait_for(
                lambda: (
                    origin.bytes_sent() - sent >= count
                    or (len(origin.requests) > requests and origin.active == 0)
                )
            )
            seen.append((len(origin.requests), origin.bytes_sent()))

        last = room.persist(
            url,
            tries=TRIES,
            stops=[lambda count=count: until(count) for count in stops],  # type: ignore[misc]
            segments=segments,
            read_timeout=5.0,
        )
        if isinstance(last, Finished):
            contents = {Pattern(one.size, one.seed) for one in known}
            assert any(first_difference(room.data, content) is None for content in contents)
        else:
            # the server has broken HTTP's rules at some visit: that is for good
            assert last.code == "bad_response", last  # type: ignore[union-attr]
        assert not origin.errors
