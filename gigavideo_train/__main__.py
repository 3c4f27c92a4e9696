"""For torchrun: `torchrun --nnodes 2 --nproc-per-node 8 -m gigavideo_train --dataset DIR`."""

from gigavideo_train.cli import main

if __name__ == "__main__":
    main()
