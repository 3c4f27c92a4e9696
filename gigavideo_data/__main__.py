"""`python -m gigavideo_data` is `gv-data`."""

from gigavideo_data.cli import main

main()
