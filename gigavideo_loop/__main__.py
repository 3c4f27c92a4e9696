"""`python -m gigavideo_loop` is `gv-loop`."""

from gigavideo_loop.cli import main

if __name__ == "__main__":
    main()
