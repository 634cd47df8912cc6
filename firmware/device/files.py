"""The file system as one object: `os` and `open` under the names a mounted VfsLfs2 has itself.

Whatever keeps something on flash takes such an object as its first argument, so a test can hand it a littlefs on a
RAM block device whose power can be cut.
"""

import errno
import os


class Files:
    """The file system this program runs on; a `vfs.VfsLfs2` instance has the same methods."""

    open = staticmethod(open)
    ilistdir = staticmethod(os.ilistdir)
    mkdir = staticmethod(os.mkdir)
    remove = staticmethod(os.remove)
    rename = staticmethod(os.rename)
    stat = staticmethod(os.stat)
    statvfs = staticmethod(os.statvfs)


def make_directory(fs: object, path: str) -> None:
    """Creates `path` unless it is there; raises OSError when its parent is missing or flash refuses."""
    try:
        fs.mkdir(path)
    except OSError as e:
        if e.errno != errno.EEXIST:
            raise


def remove_if_there(fs: object, path: str) -> None:
    """Removes the file `path`, which may be missing; raises OSError when flash refuses."""
    try:
        fs.remove(path)
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise
