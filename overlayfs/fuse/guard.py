"""The one place where exceptions become errnos."""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, overload

from pyfuse3 import FUSEError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Later = Coroutine[Any, Any, T]


@overload
def replies(handler: Callable[P, Later[T]]) -> Callable[P, Later[T]]: ...
@overload
def replies(handler: Callable[P, T | Later[T]]) -> Callable[P, Later[T]]: ...
def replies(handler: Callable[P, Any]) -> Callable[P, Later[Any]]:
    """Answer the kernel with an errno, whatever *handler* raises.

    pyfuse3 understands FUSEError only; anything else, OSError included, ends its main loop
    and leaves every user of the mount with ENOTCONN.

    A handler that need not wait is no coroutine, or gives one only when it must: pyfuse3
    gets one from here, and another within would be a tenth of a short request.
    """

    @functools.wraps(handler)
    async def reply(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            answer = handler(*args, **kwargs)
            if isinstance(answer, CoroutineType):
                answer = await answer
        except FUSEError:
            raise
        except OSError as exc:
            log.debug("%s: %s", handler.__name__, exc)
            raise FUSEError(exc.errno or errno.EIO) from exc
        except Exception as exc:
            log.exception("%s: answering EIO", handler.__name__)
            raise FUSEError(errno.EIO) from exc
        return answer

    return reply
