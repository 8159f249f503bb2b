"""What a user is told when something cannot be done."""


class OverlayError(Exception):
    """One sentence that names the object and the reason, and what to do about it.

    *hint* is a second sentence: the way out.  *exit_code* follows mount(8): 1 for wrong
    usage, bad input or missing permission, 32 for a mount that failed.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class InvalidImage(OverlayError):
    """An image or a layer is damaged, hostile or not an image at all."""


class ImageNotFound(OverlayError):
    """No image goes by that name, id or digest."""


class AmbiguousImage(OverlayError):
    """Several images fit, and none was chosen."""


class ImageInUse(OverlayError):
    """An image is not removed, since something needs it."""


class MountFailed(OverlayError):
    """The file system could not be mounted or unmounted."""

    exit_code = 32
