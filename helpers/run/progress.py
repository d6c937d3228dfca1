"""Progress bars: widgets in a notebook, plain text where a run is headless (COURSE_HEADLESS)."""

import os

if os.environ.get("COURSE_HEADLESS"):
    from tqdm import tqdm
else:
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
