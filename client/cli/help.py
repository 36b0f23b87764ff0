"""`fetchd help`: topics and commands."""

import click

from . import exits
from .output import describe

TOPICS = ("exit-codes",)


@click.command("help")
@click.argument("topic", required=False)
@click.pass_context
def help_(ctx: click.Context, topic: str | None) -> None:
    """Help for a command, or on a topic: exit-codes."""
    root = ctx.find_root()
    if topic is None:
        click.echo(root.get_help())
        click.echo(f"\nTopics: {', '.join(TOPICS)}")
        return
    if topic == "exit-codes":
        describe([(str(code), meaning) for code, meaning in exits.MEANINGS.items()])
        return
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(ctx, topic)
    if command is None:
        raise click.UsageError(f"no command or topic {topic!r}", ctx)
    with click.Context(command, info_name=topic, parent=root) as inner:
        click.echo(command.get_help(inner))
