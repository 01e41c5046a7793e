"""Compares what sync-frontend's reader found in archives, a line of JSON for each, with what Python's zipfile finds."""

import collections
import json
import sys
import zipfile
import zlib

figures = collections.Counter()
reasons = collections.defaultdict(list)


def raw_name(entry):
    """The name's bytes; zipfile has decoded them."""
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")


def listing(archive):
    entries = []
    for entry in archive.infolist():
        name = raw_name(entry).decode("utf-8", "replace")
        entries.append([name, entry.file_size, entry.compress_size, entry.CRC, entry.header_offset])
    return entries


def damaged(archive):
    """The names of the files that cannot be read."""
    names = []
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        try:
            with archive.open(entry) as content:
                while content.read(1 << 20):
                    pass
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            names.append((raw_name(entry).decode("utf-8", "replace"), f"{type(error).__name__}: {error}"))
    return dict(names)


def difference(ours, theirs):
    """Why two listings are not one."""
    fields = ("names", "sizes", "packed sizes", "checksums", "offsets")
    if len(ours) != len(theirs):
        return f"{len(ours)} entries and {len(theirs)}"
    return ", ".join(field for at, field in enumerate(fields) if any(a[at] != b[at] for a, b in zip(ours, theirs)))


def told(found, reason):
    reasons[reason].append(found["path"])


def generic(message):
    """A refusal without the name and the numbers of the one archive."""
    rule = message.rsplit("` in the zip ")[-1]
    return "".join("#" if character.isdigit() else character for character in rule)


for line in sys.stdin:
    found = json.loads(line)
    figures["archives"] += 1
    try:
        archive = zipfile.ZipFile(found["path"])
        theirs = listing(archive)
    except Exception as error:  # whatever it is: it cannot read the archive
        archive, refusal = None, f"{type(error).__name__}: {error}"
    if "refused" in found:
        if archive is None:
            figures["neither reads the directory"] += 1
            continue
        figures["zipfile alone reads the directory"] += 1
        told(found, f"zipfile alone reads the directory; ours: {generic(found['refused'])}")
        continue
    if archive is None:
        figures["ours alone reads the directory"] += 1
        told(found, f"ours alone reads the directory; zipfile: {generic(refusal)}")
        continue
    ours = found["entries"]
    figures["entries"] += len(ours)
    if sorted(map(tuple, ours)) == sorted(map(tuple, theirs)):
        figures["the same directory"] += 1
    else:
        figures["two directories"] += 1
        told(found, f"two directories: {difference(ours, theirs)}")
    if "not_accepted" in found:
        figures["read and refused by a rule"] += 1
        told(found, f"refused by a rule: {generic(found['not_accepted'])}")
        continue
    figures["accepted"] += 1
    bad = damaged(archive)
    for name, rule in found["damaged"]:
        figures["damaged files that ours finds"] += 1
        if name not in bad:
            told(found, f"a file that ours alone refuses: {rule}")
    for name, error in bad.items():
        figures["damaged files that zipfile finds"] += 1
        if name not in dict(found["damaged"]):
            told(found, f"a file that zipfile alone refuses: {generic(error)}")

for what, count in figures.items():
    print(f"{count:>8}  {what}")
for reason, paths in sorted(reasons.items(), key=lambda item: -len(item[1])):
    print(f"\n{len(paths):>8}  {reason}")
    for path in paths[:4]:
        print(f"          {path}")
