"""``python -m coursework`` is ``course``, where no script was installed or ``make`` is absent."""

import os
import sys

# The folder that one stands in comes first, and may hold submissions: a torch.py among them.
if not sys.flags.safe_path and sys.path and os.path.abspath(sys.path[0]) == os.getcwd():
    del sys.path[0]

from coursework.cli import main

if __name__ == "__main__":
    main()
