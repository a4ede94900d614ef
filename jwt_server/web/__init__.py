"""What the routes share: parsing what comes in, shaping what goes out."""
