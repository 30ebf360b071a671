"""The cluster to try and test on, and the toolchain that it needs; nothing that is installed at users'."""
