"""The one place where exceptions become errnos."""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from pyfuse3 import FUSEError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def replies(handler: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Answer the kernel with an errno, whatever *handler* raises.

    pyfuse3 understands FUSEError only; anything else, OSError included, ends its main loop
    and leaves every user of the mount with ENOTCONN.
    """

    @functools.wraps(handler)
    async def reply(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except OSError as exc:
            log.debug("%s: %s", handler.__name__, exc)
            raise FUSEError(exc.errno or errno.EIO) from exc
        except Exception as exc:
            log.exception("%s: answering EIO", handler.__name__)
            raise FUSEError(errno.EIO) from exc

    return reply
