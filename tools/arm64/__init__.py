"""Run the project on arm64 without an arm64 machine.

`userland` makes a small Debian arm64 tree and runs Python in it under qemu-user; `machine` boots a
whole arm64 Debian with systemd and a camera. What is measured there is behaviour, memory and
instruction counts,
never speed: emulated wall time means nothing.
"""
