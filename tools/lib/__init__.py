"""What every tool shares: how a verb runs, how a table is written, where the folders are."""
