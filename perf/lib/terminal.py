"""What all commands say and how: one-line errors, progress, tables."""

import shutil
import sys

# Which Debian package holds a tool.
PACKAGES = {"perf": "linux-perf", "strace": "strace"}


def die(message):
    """Ends the program with one line: what is wrong, what to do."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def say(message):
    """Progress, on standard error, so that standard output is the result alone."""
    print(f"==> {message}", file=sys.stderr, flush=True)


def need(tool):
    """The path of a tool; ends the program with how to install it where it is missing."""
    found = shutil.which(tool)
    if not found:
        die(f"{tool} is missing; install it: sudo apt-get install {PACKAGES[tool]}")
    return found


def table(head, rows):
    """Rows as text: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def command_line():
    """The command as it was given, for whoever wants to repeat it."""
    name = "/".join(sys.argv[0].split("/")[-2:])
    return " ".join([name, *sys.argv[1:]])


def percentile(ascending, share):
    """The value below which this share of the values lies; None of nothing."""
    if not ascending:
        return None
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]
