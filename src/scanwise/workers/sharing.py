"""Processes of one machine that work beside each other, and therefore share its memory."""

_processes = 1


def share_between(count: int) -> None:
    """Take no more than a share of this machine from now on, as so many processes work beside each other, this one among them."""
    global _processes
    _processes = count


def sharing_processes() -> int:
    """Processes that share this machine with this one, itself among them; 1 unless `share_between` was called."""
    return _processes
