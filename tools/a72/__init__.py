"""A performance model of the Cortex-A72, from exact instruction counts under qemu-user. Modelled,
never measured."""
