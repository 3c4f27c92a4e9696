"""`python -m gigavideo_data` is `gv-data`."""

from gigavideo_data.cli import main

if __name__ == "__main__":
    main()
