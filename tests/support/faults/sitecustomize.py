"""Put on PYTHONPATH by tests that run whole builds: swaps the generator for one that renders, counts, and fails on cue.

Python imports this module at start-up, in the build and in every Ray worker, so the code under test needs no test
switch.
"""

from dataclasses import replace

from gigavideo_data.recipe.engines import ENGINES

ENGINES["generator"]["diffusers"] = replace(ENGINES["generator"]["diffusers"], cls=("oracle", "OracleGenerator"))
