"""Ten programs in stock Keras on Deploykit: real data in, a .dk file and a web page out.  See README.md."""

import sys
from pathlib import Path

# `python -m examples.gan` puts the checkout first, where deploykit/ would hide the installed package, of which it is a part.
if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parents[1]:
    sys.path.append(sys.path.pop(0))
