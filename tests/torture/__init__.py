"""`make torture`: kills the service under load and checks that nothing acknowledged is lost."""
