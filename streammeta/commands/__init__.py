"""What the commands do that is more than one call: the demonstration, the player, the live table, offline training."""
