"""What an image is: frozen values, JSON in and out."""
