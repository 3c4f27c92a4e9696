"""Put on PYTHONPATH by tests that run whole builds: swaps the generator for one that renders, counts, and fails on cue.

GV_BATCH       videos of one call

Python imports this module at start-up, in the build and in every Ray worker, so the code under test needs no test
switch.
"""

import os
from dataclasses import replace

from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.recipe.engines import ENGINES, Engine

ENGINES["generator"]["diffusers"] = replace(ENGINES["generator"]["diffusers"], cls=("oracle", "OracleGenerator"))
ENGINES["writer"]["sick"] = Engine(("sick_writer", "SickWriter"), actor_pool=True)
PROFILES["miniature"] = replace(PROFILES["miniature"], batch_size=int(os.environ.get("GV_BATCH", "1")))
