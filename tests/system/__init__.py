"""A whole daemon against those who mean harm: what a worker that has been taken over can still do.

Run from the root of the project.
"""

import sys
from pathlib import Path

# as the tests find `support`
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
