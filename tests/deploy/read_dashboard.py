"""Reads a dashboard with Grafana's own classes, and writes what they made of it.

Run by the interpreter that has them, with the file as its argument. What they do not know is lost.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()
read = Dashboard.from_json(json.loads(Path(sys.argv[1]).read_text()))
sys.stdout.write(JSONEncoder(sort_keys=True).encode(read))
