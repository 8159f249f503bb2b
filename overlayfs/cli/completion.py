"""``pyoverlay completion``: the code that makes a shell complete our words."""

import click
from click.shell_completion import get_completion_class


@click.command(
    name="completion",
    epilog="Examples:\n\n\b\n"
    '  eval "$(pyoverlay completion bash)"          # in ~/.bashrc\n'
    '  eval "$(pyoverlay completion zsh)"           # in ~/.zshrc, after compinit\n'
    "  pyoverlay completion fish > ~/.config/fish/completions/pyoverlay.fish\n",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion code for SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None, "click completes these three shells"
    root = ctx.find_root().command
    click.echo(kind(root, {}, "pyoverlay", "_PYOVERLAY_COMPLETE").source())
