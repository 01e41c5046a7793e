"""What AWS does and MiniStack does not, added inside MiniStack's own process.

Each module mends one service and names the behaviour of AWS it restores. They replace functions of the MiniStack
version pinned in `xtask/tools.txt`; `patch.replace` fails the start, by name, when that version no longer has them.
"""
