"""Where a daemon lets its downloads go: private addresses, hosts and ports, after redirects too."""

from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.origin import Origin, Resource
from support.raw import MISSING

from fetchd.client import DownloadError
