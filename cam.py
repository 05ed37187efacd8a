"""python cam.py run=RUN_DIR images=DIR_OR_FILES: where in your own pictures a trained network looks."""

from pathlib import Path
from typing import Any

from conf.command import command


@command("cam")
def main(config: dict[str, Any], overrides: list[str]) -> tuple[Path, None]:
    from training.overlays import overlay_pictures
    from training.report import print_overlays

    overlays = overlay_pictures(config)
    print_overlays(overlays)
    return overlays.folder, None


if __name__ == "__main__":
    main()
