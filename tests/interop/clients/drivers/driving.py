"""What the drivers share: the command line ``LOGIN VERB ARGUMENT...``, and how failure is told."""

import inspect
import json
import sys
from asyncio import run
from types import SimpleNamespace


def drive(verbs) -> None:
    """Run one verb; print what it returns. A failure: exit 1, with the names of its classes."""
    login = SimpleNamespace(**json.loads(sys.argv[1]))
    try:
        result = getattr(verbs, sys.argv[2])(login, *sys.argv[3:])
        if inspect.iscoroutine(result):
            result = run(result)
    except Exception as error:
        kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
        print(f"{kinds}: {error}", file=sys.stderr)
        sys.exit(1)
    if result is not None:
        print(json.dumps(result))
