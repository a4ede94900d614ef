"""`make failover`: kills the primary under load, and checks that nothing acknowledged is lost."""
