"""What a test run starts ends with it, even if the run itself is killed.

A shell, in a session of its own, reads the process ids to end from a pipe that only this process holds.
When the pipe closes, whether by `close` or because this process is gone, it kills them and removes the folder.
"""

import subprocess
from pathlib import Path

ON_END_OF_INPUT = """
while read -r line; do pids=$line; done
[ -z "$pids" ] || kill -9 $pids
rm -rf -- "$0" || { sleep 1; rm -rf -- "$0"; }
"""


class Guard:
    """Ends the watched processes and removes the folder when it is closed or this process dies."""

    def __init__(self, folder: Path) -> None:
        self.pids: set[int] = set()
        self.shell = subprocess.Popen(
            ["sh", "-c", ON_END_OF_INPUT, str(folder)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # a Ctrl-C at the terminal must not end it before its work is done
        )

    def watch(self, pid: int) -> None:
        """End this process too."""
        self.pids.add(pid)
        self._tell()

    def forget(self, pid: int) -> None:
        """This process has ended; its id may soon be another's."""
        self.pids.discard(pid)
        self._tell()

    def close(self) -> None:
        """End and remove everything now."""
        assert self.shell.stdin is not None
        self.shell.stdin.close()
        self.shell.wait()

    def _tell(self) -> None:
        assert self.shell.stdin is not None
        print(*self.pids, file=self.shell.stdin, flush=True)
