"""What tools share: how a verb runs, a table is written, a clip is read; where the folders are."""
