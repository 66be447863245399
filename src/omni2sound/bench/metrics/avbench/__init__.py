"""The protocol avbench-8s-v1: FD, KL, IS, CLAP, IB and DeSync."""
