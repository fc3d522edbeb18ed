"""python -m e2e.images [NAME…]: make images, all of them where none is named."""

import sys
import time

from . import RECIPES, make


def _main(names: list[str]) -> None:
    if unknown := sorted(set(names) - set(RECIPES)):
        sys.exit(f"There is no image '{unknown[0]}'; known images: {', '.join(RECIPES)}")
    for name in names or RECIPES:
        started = time.monotonic()
        images = make([name])
        print(f"{images[name]} after {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
