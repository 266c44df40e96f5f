"""What long work needs of the machine: devices, disk, signals, terminal."""
