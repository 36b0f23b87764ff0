"""`fetchd completion SHELL`, and what is offered when a job's ID is completed."""

import contextlib

import click

SHELLS = ("bash", "zsh", "fish")
TIMEOUT = 1.0
"""Seconds that a person who pressed Tab waits for the daemon at most."""

MOST = 50


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script.

    \b
    In ~/.bashrc: eval "$(fetchd completion bash)"
    In ~/.zshrc:  eval "$(fetchd completion zsh)"
    For fish:     fetchd completion fish >~/.config/fish/completions/fetchd.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "fetchd", "_FETCHD_COMPLETE").source())


def job_ids(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """IDs of jobs that begin so, newest activity first. Starts no daemon, and never complains."""
    from fetchd.client.sync import Client
    from fetchd.protocol.errors import FetchdError

    with contextlib.suppress(FetchdError), Client(timeout=TIMEOUT) as client:
        return [job.id for job in client.list(prefix=incomplete, limit=MOST)]
    return []
