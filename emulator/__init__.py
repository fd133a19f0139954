"""The Ascend toolchain without a card: `npu-smi`, `atc` and `aclruntime` as the real ones behave.

It is reached as the real tools are, by PATH and PYTHONPATH, and nothing of npuq imports it. `python -m emulator
install` writes a *home*: a folder with the programs, the module, and `fleet.json`, which describes the cards and their
faults and may be edited while things run. Whatever comes from here says `emulated` in its version numbers.
"""
