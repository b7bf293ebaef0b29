"""Runs `mlflow deployments` with the command lines of a JSON list on standard input, in one process.

Prints a JSON list of {code, stdout, error}: the exit code, what was printed, and the class of what was
raised, "" where nothing was.
"""
import json
import sys

from click.testing import CliRunner
from mlflow.deployments.cli import commands


def run(words):
    result = CliRunner().invoke(commands, words)
    raised = result.exception
    is_exit = raised is None or isinstance(raised, SystemExit)
    return {
        "code": result.exit_code,
        "stdout": result.output,
        "error": "" if is_exit else type(raised).__name__,
    }


json.dump([run(words) for words in json.load(sys.stdin)], sys.stdout)
