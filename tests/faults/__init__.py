"""Campaigns against a real daemon: the power is cut, system calls fail, processes die in the midst of them.

Each is a program, run from the root of the project, with a short version among the tests.
"""

import sys
from pathlib import Path

# as the tests find `support`
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
