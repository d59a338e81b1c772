"""The entry point: the list of commands, and one line and exit code 1 for every error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

import bucketdex
from bucketdex.cli import backfill, check, dlq, local, manage, query, repair
from bucketdex.cli.session import INDEX_HELP, Session, session
from bucketdex.errors import BucketdexError, ScanRequiredError

EXTRA = "Got unexpected extra argument"  # as Typer begins to say it, before it names them

app = typer.Typer(
    name="bucketdex",
    help="Asks an S3 bucket: queries, summaries, rejects, and the deployment on this machine.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (query, manage, repair, backfill, check):
    group.add_to(app)
app.add_typer(dlq.app, name="dlq")
app.add_typer(backfill.app, name="backfill")
app.add_typer(local.app, name="local")


def _version(wanted: bool) -> None:
    if wanted:
        print(bucketdex.__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    index: Annotated[str | None, typer.Option("--index", metavar="URL", help=INDEX_HELP)] = None,
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print it.")] = False,
) -> None:
    """Asks an S3 bucket: queries, summaries, rejects, and the deployment on this machine."""
    session(context).index = index


def main(arguments: Sequence[str] | None = None, *, started: Session | None = None) -> int:
    """Run one command and return the exit code. An error is one line on standard error; BUCKETDEX_TRACEBACK=1 lets it
    through, to see where it arose.
    """
    command = typer.main.get_command(app)
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = command.main(arguments, prog_name="bucketdex", standalone_mode=False, obj=started or Session())
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted", 130)
    except TyperException as error:
        return _misused(error)
    except ScanRequiredError as error:
        return _failed_by(error, str(error).replace(".allow_scan()", "--allow-scan"))
    except BucketdexError as error:
        return _failed_by(error, str(error))
    except OSError as error:
        return _failed_by(error, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        return _failed_by(error, f"{type(error).__name__}: {error}")
    return code if isinstance(code, int) else 0


def _misused(error: TyperException) -> int:
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message:  # a group without a command: its help has been printed
        return 1
    if message.startswith(EXTRA):  # what a condition without quotes falls into may be a value of a sensitive field
        message = f"{EXTRA}s; quotes keep a condition together"
    return _fail(f"{message.rstrip('.')}; see {context.command_path} --help" if context else message)


def _failed_by(error: Exception, message: str) -> int:
    if os.environ.get("BUCKETDEX_TRACEBACK"):
        raise error
    return _fail(message)


def _fail(message: str, code: int = 1) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
