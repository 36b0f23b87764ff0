"""`fetchd help`: topics and commands."""

import click

from . import exits
from .output import describe

TOPICS = ("exit-codes",)


@click.command("help")
@click.argument("topic", metavar="[COMMAND...|TOPIC]", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Help for a command, or on a topic: exit-codes.

    The whole manual: man fetchd, man fetchd.toml.
    """
    about = ctx.find_root()
    if not topic:
        click.echo(about.get_help())
        click.echo(f"\nTopics: {', '.join(TOPICS)}")
        return
    if topic == ("exit-codes",):
        describe([(str(code), meaning) for code, meaning in exits.MEANINGS.items()])
        return
    for word in topic:
        command = about.command.get_command(about, word) if isinstance(about.command, click.Group) else None
        if command is None:
            raise click.UsageError(f"no command or topic {' '.join(topic)!r}", ctx)
        about = click.Context(command, info_name=word, parent=about)
    click.echo(about.get_help())
